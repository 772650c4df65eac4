package memo

import (
	"fmt"
	"testing"
)

// TestMemo: an answer that is asked for again and again is worked out once, and others
// don't pile up.
func TestMemo(t *testing.T) {
	m := New[int, string](10)
	worked := map[int]int{}
	get := func(k int) {
		t.Helper()
		v := m.Get(k, func() string { worked[k]++; return fmt.Sprint("answer ", k) })
		if v != fmt.Sprint("answer ", k) {
			t.Errorf("%d: %s", k, v)
		}
	}
	for k := range 1000 {
		get(k + 1)
		get(0)
		if n := len(m.young) + len(m.old); n > 20 {
			t.Fatalf("%d answers are remembered, more than twice 10", n)
		}
	}
	get(1)
	if worked[0] != 1 || worked[1] != 2 || worked[1000] != 1 {
		t.Errorf("worked out: the one that was asked for all the time %d times, an old one %d, the last %d", worked[0], worked[1], worked[1000])
	}
}

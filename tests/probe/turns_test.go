package probe

import (
	"strings"
	"testing"
	"time"
)

// TestTurns: a move is two turns, a late answer is none, and two servers that take
// writes at one time have more than any move explains.
func TestTurns(t *testing.T) {
	epoch := time.Unix(1e9, 0)
	took := func(server string, start, end int) Sample {
		return Sample{Server: server, Outcome: Written, Start: epoch.Add(time.Duration(start) * time.Millisecond), End: epoch.Add(time.Duration(end) * time.Millisecond)}
	}
	failed := took("b", 12, 13)
	failed.Outcome = Replica
	for _, c := range []struct {
		what    string
		samples []Sample
		want    string
	}{
		{"nothing", nil, ""},
		{"a move", []Sample{took("a", 0, 1), took("a", 5, 6), failed, took("b", 20, 21), took("b", 30, 31)}, "a b"},
		{"an answer that is late", []Sample{took("a", 0, 1), took("b", 20, 21), took("a", 10, 25), took("b", 30, 31)}, "a b"},
		{"two at one time", []Sample{took("a", 0, 1), took("b", 20, 21), took("a", 22, 23), took("b", 30, 31)}, "a b a b"},
		{"two at one time, by two samplers", []Sample{took("b", 20, 21), took("b", 30, 31), took("a", 0, 1), took("a", 22, 23)}, "a b a b"},
	} {
		var got []string
		for _, s := range Turns(c.samples) {
			got = append(got, s.Server)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: turns of %q, expected %q", c.what, s, c.want)
		}
	}
}

package patroni

import (
	"testing"
	"time"
)

// The value is Patroni 3.0.2's own, with lines of an older one and of nobody.
func TestParseHistory(t *testing.T) {
	got, err := ParseHistory([]byte(`[[1,83886240,"no recovery target specified","2026-11-27T17:30:01.123456+00:00","pg-test-2"],
		[2,100663456,"no recovery target specified"],["x"],[3,"y","z"],[4,5,"before 2.0","not a time"]]`))
	if err != nil || len(got) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	if h := got[0]; h.Number != 1 || h.LSN != 83886240 || h.Leader != "pg-test-2" || !h.At.Equal(time.Date(2026, 11, 27, 17, 30, 1, 123456000, time.UTC)) {
		t.Errorf("%+v", h)
	}
	if h := got[1]; h.Number != 2 || !h.At.IsZero() || h.Leader != "" {
		t.Errorf("%+v", h)
	}
	if _, err := ParseHistory([]byte(`{}`)); err == nil {
		t.Error("an object was taken for a history")
	}
}

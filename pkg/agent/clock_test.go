package agent

import (
	"testing"
	"time"
)

func TestClockSteps(t *testing.T) {
	for name, c := range map[string]struct {
		wall, monotonic time.Duration
		apart           bool
	}{
		"nothing":             {2 * time.Second, 2 * time.Second, false},
		"adjusted slowly":     {2*time.Second + time.Millisecond, 2 * time.Second, false},
		"suspended":           {time.Hour, 2 * time.Second, true},
		"set back by an hour": {2*time.Second - time.Hour, 2 * time.Second, true},
	} {
		if apart(c.wall, c.monotonic) != c.apart {
			t.Errorf("%s: %v, want %v", name, !c.apart, c.apart)
		}
	}
	if now := time.Now(); stepped(now.Add(-time.Second), now) {
		t.Error("a second is taken for a step")
	}
}

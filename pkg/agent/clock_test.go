package agent

import (
	"testing"
	"time"
)

func TestClockSteps(t *testing.T) {
	start := time.Now()
	wall := start.Round(0)
	c := clock{base: start, at: wall, wall: func() time.Time { return wall }}
	for _, s := range []struct {
		what       string
		mono, wall time.Duration
		stepped    bool
	}{
		{"a second passes", time.Second, time.Second, false},
		{"slewed", time.Second, time.Second + 100*time.Millisecond, false},
		{"set forward", time.Second, time.Minute, true},
		{"once", time.Second, time.Second, false},
		{"set back", time.Second, -time.Minute, true},
		{"the process was stopped", time.Minute, time.Minute, false},
		{"the machine was suspended", time.Millisecond, time.Hour, true},
	} {
		start, wall = start.Add(s.mono), wall.Add(s.wall)
		if got := c.stepped(start); got != s.stepped {
			t.Errorf("%s: stepped %v", s.what, got)
		}
	}
}

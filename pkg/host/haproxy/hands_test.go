package haproxy

import (
	"strings"
	"testing"
	"time"
)

func (l *lab) set(t *testing.T, cmd string) {
	t.Helper()
	out, err := ask(t.Context(), l.router.admin(testUnit), cmd)
	if err != nil || strings.TrimSpace(out) != "" && !strings.Contains(out, "changed") {
		t.Fatalf("%s: %q, %v", cmd, out, err)
	}
}

// said is what Repairs tells, as "primary/m1 maint".
func (l *lab) said() string {
	var out []string
	for _, h := range l.router.Repairs(testUnit) {
		out = append(out, h.Server+" "+h.Was)
	}
	return strings.Join(out, ", ")
}

// TestHandsAreUndone: what somebody sets by hand is put back by the next Assert,
// which says so; with hands off it is left.
func TestHandsAreUndone(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.servers["m3"].well.Store(true) // a replica that serves, and a lying /primary
	u := l.unit("m1")
	l.up(u)
	until(t, 10*time.Second, "every server has been checked", func() bool {
		st := l.states()
		return st["primary"]["m1"].Checked && st["primary"]["m2"].checkResult == checkFailed && st["replica"]["m3"].Checked && st["replica"]["m3"].Up
	})
	assert := func() {
		t.Helper()
		_, err := l.router.Assert(t.Context(), u, false)
		must(t, err)
	}
	assert()
	l.router.Repairs(testUnit)
	for cmd, was := range map[string]string{
		"set server primary/m1 state maint":           "primary/m1 maint",
		"set server primary/m1 state drain":           "primary/m1 drain",
		"set server primary/m1 health down":           "primary/m1 health down",
		"set server primary/m1 weight 0":              "primary/m1 weight 0",
		"set server primary/m1 addr 127.0.0.9 port 9": "primary/m1 addr 127.0.0.9:9",
		"set server primary/m2 health up":             "primary/m2 health up",
		"disable health primary/m1":                   "primary/m1 checks off",
		"set server replica/m3 state maint":           "replica/m3 maint",
		"set server replica/m3 state drain":           "replica/m3 drain",
		"set server replica/m3 health down":           "replica/m3 health down",
		"disable server replica/m3":                   "replica/m3 maint",
	} {
		before := l.states()
		l.set(t, cmd)
		if strings.Contains(cmd, "state") {
			u.HandsOff = true
			assert()
			if got := l.said(); got != "" {
				t.Errorf("after %q with hands off: put back %q", cmd, got)
			}
			u.HandsOff = false
		}
		assert()
		if got := l.said(); got != was {
			t.Errorf("after %q: said %q, want %q", cmd, got, was)
		}
		for backend, servers := range l.states() {
			for name, st := range servers {
				old := before[backend][name]
				on := func(s State) bool { return s.checkState&checkEnabled != 0 }
				if st.Up != old.Up || st.admin != old.admin || st.weight != old.weight || st.addr != old.addr || st.port != old.port || on(st) != on(old) {
					t.Errorf("after %q and an Assert: %s/%s is %+v, was %+v", cmd, backend, name, st, old)
				}
			}
		}
	}
}

// TestChecksAndMovesAreNobodysHand: servers that go down and up by their checks, or
// by our own moves, are not reported; one put up against its check is put down.
func TestChecksAndMovesAreNobodysHand(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.servers["m3"].well.Store(true)
	u := l.unit("m1")
	l.up(u)
	loop := func(what string, done func() bool) {
		t.Helper()
		until(t, 15*time.Second, what, func() bool {
			<-time.After(100 * time.Millisecond)
			_, err := l.router.Assert(t.Context(), u, false)
			must(t, err)
			return done()
		})
	}
	m3 := func() State { return l.states()["replica"]["m3"] }
	loop("m3 up", func() bool { return m3().Up && m3().Checked })
	l.servers["m3"].well.Store(false)
	loop("m3 down by its checks", func() bool { return !m3().Up })
	if got := l.said(); got != "" {
		t.Errorf("said %q of what a check did", got)
	}
	// The check that fails takes it down again by itself, sometimes before the Assert
	// that would have: then there was nothing to say.
	got := ""
	for try := 0; got == "" && try < 5; try++ {
		l.set(t, "set server replica/m3 health up")
		loop("m3 down again", func() bool { return !m3().Up })
		got = l.said()
	}
	if got != "replica/m3 health up" {
		t.Errorf("said %q of a server put up by hand", got)
	}
	l.servers["m3"].well.Store(true)
	loop("m3 up by its checks", func() bool { return m3().Up })
	l.servers["m2"].well.Store(true)
	for _, to := range []string{"m2", "m1", "m2"} {
		u = l.unit(to)
		stop := time.Now().Add(3 * time.Second)
		loop(to+" up", func() bool { return l.states()["primary"][to].Up && time.Now().After(stop) })
	}
	if got := l.said(); got != "" {
		t.Errorf("said %q of our own moves and of checks", got)
	}
}

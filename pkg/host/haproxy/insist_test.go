package haproxy

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestInsistOutlastsFailingChecks: a server that is insisted on stays up although its
// check fails, for as long as that is said, and goes down with its checks afterwards.
func TestInsistOutlastsFailingChecks(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	u := l.unit("m1")
	l.up(u)
	u.Targets["primary"]["m1"] = plan.Target{Held: plan.Insist, Start: plan.Up}
	_, err := l.router.Assert(t.Context(), u, true)
	must(t, err)
	l.servers["m1"].well.Store(false) // as when Patroni is stopped
	next := time.Now()
	during(6*time.Second, func() {
		if now := time.Now(); !now.Before(next) {
			next = now.Add(500 * time.Millisecond)
			_, err := l.router.Assert(t.Context(), u, false)
			must(t, err)
		}
		if !l.states()["primary"]["m1"].Up {
			t.Fatal("m1 is down although it is insisted on")
		}
	})
	until(t, 8*time.Second, "m1 down by its checks once nobody insists", func() bool { return !l.states()["primary"]["m1"].Up })
}

package agent

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// TestLeaderless: without a leader key routes keep the member confirmed last, so its
// own agent withdraws it once it takes no writes.
func TestLeaderless(t *testing.T) {
	now := t0.Add(2 * time.Second)
	fresh := PostgresState{Reachable: true, System: "S", Timeline: 3, At: now}
	standby, stranger, silent, old := fresh, fresh, PostgresState{At: now}, fresh
	standby.InRecovery, stranger.System, old.At, old.InRecovery = true, "D", t0, true
	gone := func(change func(*state)) state {
		s := led("m1").with(observed.Primary{Member: "m1", Epoch: 20, Sequence: 4, Writable: true, System: "S"})
		s.view.Observe("", 31, 0, t0)
		if change != nil {
			change(&s)
		}
		return s
	}
	for _, c := range []struct {
		name  string
		s     state
		local PostgresState
		write bool
	}{
		{"takes writes", gone(nil), fresh, false},
		{"in recovery", gone(nil), standby, true},
		{"another PostgreSQL", gone(nil), stranger, true},
		{"silent", gone(nil), silent, false},
		{"an old answer", gone(nil), old, false},
		{"Patroni's pause", gone(func(s *state) { s.view.Paused = true }), standby, true},
		{"an answer from before", gone(func(s *state) { s.leaderAt = now.Add(time.Millisecond) }), standby, false},
		{"another was confirmed", gone(func(s *state) { s.stored.Member = "m2" }), standby, false},
		{"withdrawn already", gone(func(s *state) { s.stored.Writable = false }), standby, false},
		{"etcd went back", gone(func(s *state) { s.back = true }), standby, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			act := decideConfirm("pg1", cluster3, c.s, proofs{Local: c.local}, now)
			if (act.Write != nil) != c.write {
				t.Fatalf("%+v", act)
			}
			if c.write && (act.Write.Writable || act.Write.Epoch != 20 || act.Write.Sequence != 5 || !act.Leaderless) {
				t.Errorf("%+v", act.Write)
			}
		})
	}
}

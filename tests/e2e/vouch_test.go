package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/probe"
)

// TestPatroniStoppedCostsNoWrite: the leader's Patroni is stopped for 13 s, and killed.
// HAProxy's checks fail for longer than they need to take the server down, etcd names it
// the leader all the while, and its PostgreSQL takes writes: no write through any node
// fails. 13 s: of a lease of 30 s that was just renewed the last 10 are the checks', and these
// take 6 s at least.
func TestPatroniStoppedCostsNoWrite(t *testing.T) {
	ctx := begin(t)
	leader, _ := leaderAndNext(ctx, t)
	writesEverywhere(ctx, t, leader, 20*time.Second)
	h, unit := hosts.Node(leader), "patroni@"+cluster+".service"
	samplers := sampleAll(ctx, t, 100*time.Millisecond)
	renewed(ctx, t)
	ok(t, h.KillMain(ctx, unit, "SIGSTOP"))
	t.Cleanup(func() { _ = h.KillMain(context.Background(), unit, "SIGCONT") })
	hold(ctx, 13*time.Second)
	ok(t, h.KillMain(ctx, unit, "SIGCONT"))
	hold(ctx, 15*time.Second) // it renews its lease
	ok(t, h.KillMain(ctx, unit, "SIGKILL"))
	hold(ctx, 5*time.Second) // nobody but people starts it again
	must[string](t)(h.Exec(ctx, "systemctl", "start", unit))
	hold(ctx, 10*time.Second)
	for i, samples := range stopAll(samplers) {
		n := probe.Count(samples)
		t.Logf("through %s: %v", hosts.Nodes[i].Name, n)
		if bad := len(samples) - n[probe.Written]; bad > 0 {
			t.Errorf("through %s: %d of %d writes failed while only Patroni was away", hosts.Nodes[i].Name, bad, len(samples))
		}
	}
	if now, _ := leaderAndNext(ctx, t); now != leader {
		t.Errorf("the leader moved from %s to %s", leader, now)
	}
	statusReady(ctx, t)
}

package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/probe"
)

// TestR1RoutesFollowWithoutControllers: with every pgctrl server stopped, routes
// follow the leader all the same, and at the speed of events, not of checks.
func TestR1RoutesFollowWithoutControllers(t *testing.T) {
	ctx := begin(t)
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "stop", "pgctrl-server"))
	t.Cleanup(func() { _, _ = hosts.Infra.Exec(context.Background(), "systemctl", "start", "pgctrl-server") })

	from, to := leaderAndNext(ctx, t)
	direct := must[probe.Target](t)(hosts.Target(ctx, cluster, hosts.Node(to), 5432))
	watch := probe.Watch(ctx, direct, 2*time.Millisecond)
	defer watch.Stop()
	samplers := sampleAll(ctx, t, 20*time.Millisecond)
	addresses := observeVIP(t)
	start := time.Now()
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	writesEverywhere(ctx, t, to, 15*time.Second)
	writable := watch.FirstAfter(start)
	addresses.moved(t, to, writable)
	for i, samples := range stopAll(samplers) {
		first, found := probe.FirstWritten(samples, direct.Host, start)
		if !found {
			t.Errorf("through %s: no sampled write reached %s", hosts.Nodes[i].Name, to)
			continue
		}
		t.Logf("through %s: first write %s after %s took writes", hosts.Nodes[i].Name, first.End.Sub(writable), to)
		// HAProxy's own checks bring a server up after at least two of them, 1 s
		// apart; being there before proves that the event moved the route.
		if first.End.Sub(writable) > time.Second {
			t.Errorf("through %s: first write %s after %s took writes; the checks moved it, not the event", hosts.Nodes[i].Name, first.End.Sub(writable), to)
		}
	}
}

// TestR1OthersConfirmForASilentAgent: with the new leader's agent dead as well,
// another agent confirms from that member's REST API after 1 s.
func TestR1OthersConfirmForASilentAgent(t *testing.T) {
	ctx := begin(t)
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "stop", "pgctrl-server"))
	from, to := leaderAndNext(ctx, t)
	must[string](t)(hosts.Node(to).Exec(ctx, "systemctl", "stop", "pgagent"))
	t.Cleanup(func() {
		_, _ = hosts.Infra.Exec(context.Background(), "systemctl", "start", "pgctrl-server")
		_, _ = hosts.Node(to).Exec(context.Background(), "systemctl", "start", "pgagent")
	})
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	writesEverywhere(ctx, t, to, 15*time.Second)
	record := must[string](t)(hosts.Get(ctx, hosts.Layout.PrimaryKey(cluster)))
	t.Logf("confirmed as %s", record)
	if by := primary(t, record).By; by == hosts.Node(to).Name || by == "" {
		t.Errorf("confirmed by %q, want another node than the silent %s", by, hosts.Node(to).Name)
	}
}

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/probe"
)

// TestEtcdAwayForAMinute: database, routes and virtual address stay. Patroni's failsafe
// mode keeps the primary, HAProxy's checks keep the routes, and no agent takes anything away.
func TestEtcdAwayForAMinute(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	leader, _ := leaderAndNext(ctx, t)
	vipOn(ctx, t, leader, 20*time.Second)
	o := observeVIP(t)
	address := probe.Start(ctx, throughVIP(ctx, t), 100*time.Millisecond, 25, nil)
	samplers := sampleAll(ctx, t, 100*time.Millisecond)
	stopEtcd(ctx, t)
	hold(ctx, time.Minute)
	for _, h := range hosts.Nodes {
		out := must[string](t)(h.Exec(ctx, "pgagent", "status"))
		if !strings.Contains(out, cluster) {
			t.Errorf("pgagent status on %s without etcd does not show the cluster:\n%s", h.Name, out)
		}
	}
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "start", "pgctrl-etcd"))
	hold(ctx, 10*time.Second) // what is amiss when etcd is back is seen too
	o.judged(t)
	if samples := address.Stop(); failures(samples) > 0 {
		t.Errorf("%d of %d writes through the address failed while etcd was away: %v; the first: %s", failures(samples), len(samples), probe.Count(samples), firstFailure(samples))
	}
	for i, samples := range stopAll(samplers) {
		n := probe.Count(samples)
		t.Logf("through %s: %v", hosts.Nodes[i].Name, n)
		if n[probe.Replica] > 0 {
			t.Errorf("through %s: %d connections reached a replica", hosts.Nodes[i].Name, n[probe.Replica])
		}
		if bad := len(samples) - n[probe.Written]; bad > 0 {
			t.Errorf("through %s: %d of %d attempts failed while etcd was away", hosts.Nodes[i].Name, bad, len(samples))
		}
	}
	ok(t, hosts.Whole(ctx, cluster, 2*time.Minute))
	now, _ := leaderAndNext(ctx, t)
	if now != leader {
		t.Errorf("the leader moved from %s to %s", leader, now)
	}
	writesEverywhere(ctx, t, now, 20*time.Second)
	statusReady(ctx, t)
}

// firstFailure says when the first attempt that came to nothing was, and why.
func firstFailure(samples []probe.Sample) string {
	for _, s := range samples {
		if s.Outcome != probe.Written {
			return fmt.Sprintf("%s, after %s: %v", s.Start.Format("15:04:05.000"), s.End.Sub(s.Start).Round(time.Millisecond), s.Err)
		}
	}
	return "none"
}

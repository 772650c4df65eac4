package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/probe"
)

// TestStoreRestoredUnderARunningCluster: etcd is put back to yesterday's snapshot
// while clients write. Nothing changes on any host until a person accepts it: the
// database goes on, and so do the routes. Then everything is as the restored
// documents say, and a move of the leader is followed as ever.
func TestStoreRestoredUnderARunningCluster(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	const file = "/var/lib/pgctrl/yesterday.snapshot"
	must[string](t)(hosts.Pgctrl(ctx, "etcd", "backup", file))
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "services/primary", "maxconn=777"))
	statusReady(ctx, t)
	leader, _ := leaderAndNext(ctx, t)
	before := fingerprint(ctx, t)

	samplers := sampleAll(ctx, t, 100*time.Millisecond)
	stopEtcd(ctx, t)
	if _, err := hosts.Pgctrl(ctx, "etcd", "restore", file); err == nil {
		t.Error("a store with data was overwritten without a word")
	}
	t.Log(must[string](t)(hosts.Pgctrl(ctx, "etcd", "restore", file, "--replace")))
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "start", "pgctrl-etcd"))
	statusSays(ctx, t, "StoreChanged", "pgctrl etcd accept")
	for _, h := range hosts.Nodes {
		ok(t, fleet.Until(ctx, 20*time.Second, "the agent on "+h.Name+" to hold off", func(ctx context.Context) error {
			out, err := h.Exec(ctx, "pgagent", "status")
			if err == nil && !strings.Contains(out, "StoreChanged") {
				err = fmt.Errorf("it says:\n%s", out)
			}
			return err
		}))
	}
	select {
	case <-time.After(20 * time.Second):
	case <-ctx.Done():
	}
	if after := fingerprint(ctx, t); after != before {
		t.Errorf("the hosts changed before anybody accepted the store.\nbefore:\n%s\nafter:\n%s", before, after)
	}
	for i, samples := range stopAll(samplers) {
		n := probe.Count(samples)
		t.Logf("through %s until it was accepted: %v", hosts.Nodes[i].Name, n)
		if bad := len(samples) - n[probe.Written]; bad > 0 {
			t.Errorf("through %s: %d of %d attempts failed", hosts.Nodes[i].Name, bad, len(samples))
		}
	}
	samplers = sampleAll(ctx, t, 100*time.Millisecond)
	out, err := hosts.Infra.Command(ctx, "sh", "-c", "echo accept | pgctrl etcd accept").CombinedOutput()
	t.Logf("pgctrl etcd accept:\n%s", out)
	ok(t, err)
	statusReady(ctx, t)
	for i, samples := range stopAll(samplers) {
		n := probe.Count(samples)
		// The restored documents come with a reload of HAProxy on one node after another.
		t.Logf("through %s while it was taken: %v", hosts.Nodes[i].Name, n)
		if n[probe.Replica] > 0 {
			t.Errorf("through %s: %d connections reached a replica", hosts.Nodes[i].Name, n[probe.Replica])
		}
	}
	for _, h := range hosts.Nodes {
		ok(t, fleet.Until(ctx, 30*time.Second, "the restored documents to be in force", func(ctx context.Context) error {
			cfg, err := h.ReadFile(ctx, "/etc/haproxy/"+cluster+".cfg")
			if err == nil && strings.Contains(string(cfg), "maxconn 777") {
				err = fmt.Errorf("%s still has what was set after the snapshot:\n%s", h.Name, cfg)
			}
			return err
		}))
	}
	now, to := leaderAndNext(ctx, t)
	if now != leader {
		t.Errorf("the leader moved from %s to %s", leader, now)
	}
	ok(t, hosts.Switchover(ctx, cluster, now, to))
	writesEverywhere(ctx, t, to, 15*time.Second)
	ok(t, hosts.Whole(ctx, cluster, 2*time.Minute))
}

// TestBootWithoutEtcd: a host boots while etcd is away. Its HAProxy is up, by the
// configuration on disk, and sends clients where its own checks say; its agent
// applies kept files and nothing else, and says what it has.
func TestBootWithoutEtcd(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	leader, _ := leaderAndNext(ctx, t)
	h := hosts.Nodes[0]
	if hosts.Node(leader) == h {
		h = hosts.Nodes[1]
	}
	held := must[string](t)(h.Exec(ctx, "pgagent", "route", "--to", leader, "--for", "1h"))
	t.Log(held)
	through := must[probe.Target](t)(hosts.Target(ctx, cluster, h, 5436)) // asks etcd for the password
	stopEtcd(ctx, t)
	ok(t, h.Reboot(ctx))
	ok(t, fleet.Until(ctx, 30*time.Second, "HAProxy to be up", func(ctx context.Context) error {
		_, err := h.Exec(ctx, "systemctl", "is-active", "haproxy@"+cluster, "pgagent")
		return err
	}))
	out := must[string](t)(h.Exec(ctx, "pgagent", "status"))
	t.Logf("pgagent status:\n%s", out)
	for _, words := range []string{cluster, "kept", "HAProxy's checks decide"} {
		if !strings.Contains(out, words) {
			t.Errorf("it does not say %q", words)
		}
	}
	if strings.Contains(out, "by hand") {
		t.Error("what was held by hand outlived a boot")
	}
	// Whether Patroni starts is systemd's business; that nobody else started it is ours.
	enabled := must[string](t)(h.Exec(ctx, "systemctl", "is-enabled", "patroni@"+cluster))
	t.Logf("patroni@%s is %s", cluster, strings.TrimSpace(enabled))
	// A member that is down takes failsafe mode's answer away, so Patroni demotes the
	// primary. Without an agent's word the bound is the checks' (R3): three of them, a
	// second apart, and what one takes.
	sampler := probe.Start(ctx, through, 100*time.Millisecond, 25, nil)
	select {
	case <-time.After(10 * time.Second):
	case <-ctx.Done():
	}
	samples := sampler.Stop()
	window, leaked := leakWindow(samples)
	t.Logf("through %s without etcd: %v; to a replica for %s", h.Name, probe.Count(samples), window)
	if window > 7*time.Second {
		t.Errorf("%d connections reached a replica within %s; HAProxy's checks do not decide", leaked, window)
	}
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "start", "pgctrl-etcd"))
	ok(t, hosts.Whole(ctx, cluster, 3*time.Minute))
	now, _ := leaderAndNext(ctx, t)
	writesEverywhere(ctx, t, now, 30*time.Second)
	statusReady(ctx, t)
}

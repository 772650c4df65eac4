package e2e

import (
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
		t.Errorf("%d of %d writes through the address failed while etcd was away", failures(samples), len(samples))
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

// TestR11NoSecretInTheClear: no password of the cluster is in any key but its
// own, in any journal, in any process's arguments, or in what the commands print.
func TestR11NoSecretInTheClear(t *testing.T) {
	ctx := begin(t)
	r, err := hosts.Etcd.Get(ctx, hosts.Layout.RootPrefix(), withPrefix()...)
	ok(t, err)
	secrets := map[string]string{}
	for _, e := range r.Kvs {
		if strings.HasPrefix(string(e.Key), hosts.Layout.ClusterSecrets(cluster)) {
			secrets[string(e.Key)] = string(e.Value)
		}
	}
	if len(secrets) < 4 {
		t.Fatalf("%d secrets found; this proves nothing", len(secrets))
	}
	places := map[string]string{"pgctrl status": statusText(ctx)}
	for _, e := range r.Kvs {
		if _, is := secrets[string(e.Key)]; !is {
			places["key "+string(e.Key)] = string(e.Value)
		}
	}
	for _, h := range hosts.Lab.Hosts() {
		places["journal of "+h.Name] = must[string](t)(h.Exec(ctx, "journalctl", "--no-pager", "-o", "cat"))
		places["ps of "+h.Name] = must[string](t)(h.Exec(ctx, "ps", "axww", "-o", "args"))
	}
	for place, text := range places {
		for key, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("the secret %s is in the %s", key, place)
			}
		}
	}
	readable := must[string](t)(hosts.Nodes[0].Exec(ctx, "sh", "-c", "find /etc/patroni /etc/haproxy /var/lib/pgagent -perm /o=r -type f"))
	for _, f := range strings.Fields(readable) {
		text := must[string](t)(hosts.Nodes[0].Exec(ctx, "cat", f))
		for key, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("the secret %s is in %s, which everybody can read", key, f)
			}
		}
	}
}

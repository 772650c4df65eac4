package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/probe"
)

// second is a further cluster on the same nodes. Its name begins with the first one's,
// so that a prefix without its "/" would confuse the two.
const second = cluster + "2"

// through is a read-write port of a cluster on a node.
func through(ctx context.Context, t *testing.T, name string, node, port int) probe.Target {
	t.Helper()
	return must[probe.Target](t)(hosts.Target(ctx, name, hosts.Nodes[node], port))
}

// onHosts runs a command on every node and returns what they say.
func onHosts(ctx context.Context, t *testing.T, command string) string {
	t.Helper()
	var b strings.Builder
	for _, h := range hosts.Nodes {
		fmt.Fprintf(&b, "%s: %s\n", h.Name, must[string](t)(h.Exec(ctx, "sh", "-c", command)))
	}
	return b.String()
}

// haproxyOf is what could change of a cluster's HAProxy: its file, its process, its worker.
func haproxyOf(name string) string {
	return fmt.Sprintf(`sha256sum /etc/haproxy/%[1]s.cfg; m=$(systemctl show -p MainPID --value haproxy@%[1]s); echo $m; pgrep -P $m haproxy`, name)
}

// TestTwoClustersOnTheSameNodes: the second one gets the next block of ports; both take
// writes; a bad document of one can't stop the other's reload, documents that collide
// change nothing; a failover of one moves nothing of the other.
func TestTwoClustersOnTheSameNodes(t *testing.T) {
	ctx := begin(t)
	out, err := hosts.Infra.Command(ctx, "pgctrl", "create", second, "--on", "pg1,pg2,pg3", "--wait", "3m").CombinedOutput()
	t.Cleanup(func() { discard(context.Background(), t, second) })
	if err != nil || !strings.Contains(string(out), "ports +100") {
		t.Fatalf("pgctrl create %s: %v\n%s", second, err, out)
	}
	t.Logf("%s", out)
	leader := must[string](t)(hosts.Leader(ctx, second))
	ok(t, must[probe.Target](t)(hosts.Target(ctx, second, hosts.Node(leader), 5532)).Prepare(ctx))
	for i, h := range hosts.Nodes {
		for name, port := range map[string]int{cluster: 5436, second: 5536} {
			target := through(ctx, t, name, i, port)
			target.Patience = 10 * time.Second
			if one := target.Once(ctx); one.Outcome != probe.Written {
				t.Errorf("%s through %s: %s: %v", name, h.Name, one.Outcome, one.Err)
			}
		}
	}
	t.Run("a bad document of one does not stop the other's reload", func(t *testing.T) { badNeighbour(ctx, t) })
	t.Run("documents that collide", func(t *testing.T) { collision(ctx, t) })
	t.Run("a failover of one", func(t *testing.T) { failoverBeside(ctx, t) })
}

func badNeighbour(ctx context.Context, t *testing.T) {
	key := hosts.Layout.ClusterDoc(second, "services/default")
	old := must[string](t)(hosts.Get(ctx, key))
	ok(t, hosts.Put(ctx, key, "port: http\n"))
	before := onHosts(ctx, t, haproxyOf(second))
	out, err := hosts.Infra.Command(ctx, "pgctrl", "set", cluster, "services/default", "maxconn=8123").CombinedOutput()
	if err != nil {
		t.Errorf("pgctrl set %s: %v\n%s", cluster, err, out)
	}
	if n := strings.Count(onHosts(ctx, t, "grep -c 'maxconn 8123' /etc/haproxy/"+cluster+".cfg"), ": 1"); n != len(hosts.Nodes) {
		t.Errorf("%d of %d nodes have the change", n, len(hosts.Nodes))
	}
	if after := onHosts(ctx, t, haproxyOf(second)); after != before {
		t.Errorf("the other cluster's HAProxy changed:\n%s\n%s", before, after)
	}
	restore(ctx, t, key, old)
	must[string](t)(hosts.Pgctrl(ctx, "unset", cluster, "services/default", "maxconn"))
}

func collision(ctx context.Context, t *testing.T) {
	key := hosts.Layout.ClusterDoc(second, "services/default")
	old := must[string](t)(hosts.Get(ctx, key))
	if out, err := hosts.Infra.Command(ctx, "pgctrl", "set", second, "services/default", "port=5436").CombinedOutput(); err == nil ||
		!strings.Contains(string(out), "which service default of cluster "+cluster) {
		t.Errorf("pgctrl set: %v\n%s", err, out)
	}
	before := onHosts(ctx, t, haproxyOf(second)) + onHosts(ctx, t, haproxyOf(cluster))
	ok(t, hosts.Put(ctx, key, "port: 5436\n"))
	ok(t, fleet.Until(ctx, 20*time.Second, "PortConflict", func(ctx context.Context) error {
		out, _ := hosts.Infra.Command(ctx, "pgctrl", "status", second).CombinedOutput()
		if !strings.Contains(string(out), "PortConflict") {
			return fmt.Errorf("it says:\n%s", out)
		}
		return nil
	}))
	// The earlier one goes on: its own changes still reach the hosts.
	if out, err := hosts.Infra.Command(ctx, "pgctrl", "status", cluster).CombinedOutput(); err != nil {
		t.Errorf("the earlier cluster is not ready: %v\n%s", err, out)
	}
	if after := onHosts(ctx, t, haproxyOf(second)) + onHosts(ctx, t, haproxyOf(cluster)); after != before {
		t.Errorf("the hosts changed:\n%s\n%s", before, after)
	}
	restore(ctx, t, key, old)
	ok(t, fleet.Until(ctx, 20*time.Second, "the collision to be gone", func(ctx context.Context) error {
		out, err := hosts.Infra.Command(ctx, "pgctrl", "status", second).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}))
}

func failoverBeside(ctx context.Context, t *testing.T) {
	key := hosts.Layout.PrimaryKey(second)
	record := must[string](t)(hosts.Get(ctx, key))
	leader := must[string](t)(hosts.Leader(ctx, second))
	var samplers []*probe.Sampler
	for i := range hosts.Nodes {
		samplers = append(samplers, probe.Start(ctx, through(ctx, t, second, i, 5536), 50*time.Millisecond, 10, nil))
	}
	from, to := leaderAndNext(ctx, t)
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	writesEverywhere(ctx, t, to, 15*time.Second)
	servers, all := map[string]int{}, 0
	for _, samples := range stopAll(samplers) {
		for _, s := range samples {
			all++
			servers[fmt.Sprintf("%s %s", s.Outcome, s.Server)]++
		}
	}
	t.Logf("%s, while %s moved from %s to %s: %v", second, cluster, from, to, servers)
	if want := "written " + hosts.Node(leader).IP; servers[want] != all || all < 30 {
		t.Errorf("%d of %d attempts were %s", servers[want], all, want)
	}
	if now := must[string](t)(hosts.Get(ctx, key)); now != record {
		t.Errorf("the other cluster's confirmation changed from %s to %s", record, now)
	}
}

// discard takes a cluster off the hosts and out of etcd, data included.
func discard(ctx context.Context, t *testing.T, name string) {
	for _, h := range hosts.Nodes {
		_, err := h.Exec(ctx, "sh", "-c", fmt.Sprintf(`systemctl stop pgagent
systemctl stop pgctrl-backup@%[1]s
systemctl reset-failed pgctrl-backup@%[1]s
systemctl disable --now haproxy@%[1]s pgbouncer@%[1]s patroni@%[1]s postgres-exporter@%[1]s pgbouncer-exporter@%[1]s
rm -rf /var/lib/pgagent/plans/%[1]s /var/lib/pgagent/units/*@%[1]s* /etc/haproxy/%[1]s.cfg /etc/pgbouncer/%[1]s.* /etc/patroni/%[1]s.yml /var/lib/postgresql/*/%[1]s /etc/pgbackrest/conf.d/%[1]s.conf /var/lib/pgbackrest/%[1]s-* /etc/pgctrl/exporters/%[1]s.* /etc/pgctrl/targets.d/%[1]s.yml /etc/pgctrl/hosts.d/%[1]s /run/pgctrl/streams/%[1]s
true`, name))
		if err != nil {
			t.Errorf("discard %s on %s: %v", name, h.Name, err)
		}
	}
	for _, prefix := range []string{
		hosts.Layout.ClusterDocs(name), hosts.Layout.Scope(name), hosts.Layout.FormedKey(name), hosts.Layout.PrimaryKey(name),
		hosts.Layout.StatusKey(name), hosts.Layout.ClusterSecrets(name), hosts.Layout.ChangesKey(name), hosts.Layout.ClusterOperations(name),
	} {
		drop(ctx, t, prefix)
	}
	for _, h := range append(hosts.Nodes, hosts.Infra) {
		drop(ctx, t, hosts.Layout.NodePlans(h.Name)+name+"/")
		drop(ctx, t, hosts.Layout.NodeObserved(h.Name)+name+"/")
	}
	for _, h := range hosts.Nodes {
		_, _ = h.Exec(ctx, "systemctl", "start", "pgagent")
	}
}

// drop deletes a key, or a range when it ends with "/".
func drop(ctx context.Context, t *testing.T, key string) {
	t.Helper()
	var o []clientv3.OpOption
	if strings.HasSuffix(key, "/") {
		o = withPrefix()
	}
	if _, err := hosts.Etcd.Delete(ctx, key, o...); err != nil {
		t.Errorf("delete %s: %v", key, err)
	}
}

// TestProxyNode: a node with role proxy and no member runs HAProxy of the cluster and
// follows its leader like any other.
func TestProxyNode(t *testing.T) {
	ctx := begin(t)
	t.Cleanup(func() {
		ctx := context.Background()
		_, _ = hosts.Infra.Exec(ctx, "sh", "-c", "systemctl disable --now pgagent haproxy@"+cluster+"; rm -rf /var/lib/pgagent/plans")
		for _, key := range []string{hosts.Layout.Node("infra1"), hosts.Layout.NodePlans("infra1"), hosts.Layout.NodeObserved("infra1")} {
			drop(ctx, t, key)
		}
	})
	must[string](t)(hosts.Infra.Exec(ctx, "pgagent", "join", "--endpoints", hosts.Endpoint()))
	out, err := hosts.Infra.Command(ctx, "pgctrl", "node", "add", "infra1", hosts.Infra.IP, "--role", "proxy").CombinedOutput()
	if err != nil {
		t.Fatalf("pgctrl node add: %v\n%s", err, out)
	}
	target := must[probe.Target](t)(hosts.Target(ctx, cluster, hosts.Infra, 5436))
	lands := func(member string, limit time.Duration) {
		t.Helper()
		ok(t, fleet.Until(ctx, limit, "writes through the proxy to land on "+member, func(ctx context.Context) error {
			if one := target.Once(ctx); one.Outcome != probe.Written || one.Server != hosts.Node(member).IP {
				return fmt.Errorf("%s on %q: %v", one.Outcome, one.Server, one.Err)
			}
			return nil
		}))
	}
	from, to := leaderAndNext(ctx, t)
	lands(from, 30*time.Second)
	samples := probe.Start(ctx, target, 20*time.Millisecond, 25, nil)
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	lands(to, 15*time.Second)
	window, n := leakWindow(samples.Stop())
	t.Logf("through the proxy: %d attempts reached a server in recovery, within %s", n, window)
	if window > leakLimit {
		t.Errorf("connections reached a server in recovery for %s", window)
	}
	statusReady(ctx, t)
	if out := must[string](t)(hosts.Pgctrl(ctx, "status", cluster)); !strings.Contains(out, "4 of 4 nodes") {
		t.Errorf("status does not count the proxy:\n%s", out)
	}
	// A cluster that the proxy is not for is left out; its HAProxy stays until said.
	must[string](t)(hosts.Pgctrl(ctx, "set", "nodes", "infra1", "clusters=[another]", "--wait", "0"))
	statusSays(ctx, t, "Unmanaged", "infra1")
	lands(to, 5*time.Second)
}

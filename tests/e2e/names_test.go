package e2e

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/fleet"
)

// namesWithin is how long after its confirmation the cluster's name leads to a primary.
const namesWithin = 100 * time.Millisecond

// asks returns a function that asks infra1's dnsmasq for a name, over the network; no
// answer is an empty one.
func asks(ctx context.Context) func(name string) string {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", net.JoinHostPort(hosts.Infra.IP, "53"))
	}}
	return func(name string) string {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		addresses, _ := r.LookupHost(ctx, name+".db.test.")
		slices.Sort(addresses)
		return strings.Join(addresses, " ")
	}
}

// TestR1NamesFollowWithoutControllers: a node with role infra joins, and the real dnsmasq
// there knows the cluster's names; with every server stopped they follow the leader.
func TestR1NamesFollowWithoutControllers(t *testing.T) {
	ctx := begin(t)
	t.Cleanup(func() {
		ctx := context.Background()
		_, _ = hosts.Infra.Exec(ctx, "sh", "-c", "systemctl start pgctrl-server; systemctl disable --now pgagent dnsmasq; rm -rf /var/lib/pgagent/plans /etc/pgctrl/hosts.d /etc/dnsmasq.d/pgctrl.conf")
		for _, key := range []string{
			hosts.Layout.Node("infra1"), hosts.Layout.NodePlans("infra1"), hosts.Layout.NodeObserved("infra1"), hosts.Layout.ClusterDoc(cluster, "dns"),
		} {
			drop(ctx, t, key)
		}
	})
	const conf = `mkdir -p /etc/pgctrl/hosts.d && printf 'no-hosts\nno-resolv\nhostsdir=/etc/pgctrl/hosts.d\nlocal-ttl=1\nlocal=/db.test/\n' >/etc/dnsmasq.d/pgctrl.conf && systemctl restart dnsmasq`
	must[string](t)(hosts.Infra.Exec(ctx, "sh", "-c", conf))
	must[string](t)(hosts.Infra.Exec(ctx, "pgagent", "join", "--endpoints", hosts.Endpoint()))
	must[string](t)(hosts.Pgctrl(ctx, "node", "add", "infra1", hosts.Infra.IP, "--role", "infra"))
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "dns", "suffix=db.test", "target=primary", "--wait", "0"))
	ask := asks(ctx)
	from, to := leaderAndNext(ctx, t)
	leadsTo := func(name, addresses string, limit time.Duration) {
		t.Helper()
		ok(t, fleet.Until(ctx, limit, name+" to lead to "+addresses, func(context.Context) error {
			if got := ask(name); got != addresses {
				return fmt.Errorf("it leads to %q", got)
			}
			return nil
		}))
	}
	replicasOf := func(primary string) string {
		var out []string
		for _, h := range hosts.Nodes {
			if h != hosts.Node(primary) {
				out = append(out, h.IP)
			}
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	leadsTo(cluster, hosts.Node(from).IP, 15*time.Second)
	leadsTo(to, hosts.Node(to).IP, time.Second)
	leadsTo(cluster+"-replica", replicasOf(from), 15*time.Second)

	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "stop", "pgctrl-server"))
	confirmed, moved := make(chan time.Time, 1), make(chan time.Time, 1)
	watching, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	go func() {
		for r := range hosts.Etcd.Watch(watching, hosts.Layout.PrimaryKey(cluster)) {
			for _, e := range r.Events {
				if strings.Contains(string(e.Kv.Value), `"`+to+`"`) && strings.Contains(string(e.Kv.Value), `"writable":true`) {
					confirmed <- time.Now()
					return
				}
			}
		}
	}()
	go func() {
		for watching.Err() == nil {
			if ask(cluster) == hosts.Node(to).IP {
				moved <- time.Now()
				return
			}
		}
	}()
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	var at [2]time.Time
	for i, c := range []chan time.Time{confirmed, moved} {
		select {
		case at[i] = <-c:
		case <-watching.Done():
			t.Fatalf("the name did not follow: confirmed %v, it leads to %q", at[0], ask(cluster))
		}
	}
	took := at[1].Sub(at[0])
	t.Logf("%s led to %s %s after it was confirmed", cluster, to, took)
	if took > namesWithin {
		t.Errorf("the name moved %s after the confirmation, want at most %s", took, namesWithin)
	}
	leadsTo(cluster+"-replica", replicasOf(to), 30*time.Second)

	must[string](t)(hosts.Infra.Exec(ctx, "sh", "-c", "echo 10.9.9.9 "+cluster+".db.test >/etc/pgctrl/hosts.d/"+cluster))
	leadsTo(cluster, hosts.Node(to).IP, time.Second)
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "start", "pgctrl-server"))
	statusReady(ctx, t)
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "dns", "enabled=false"))
	leadsTo(cluster, "", 15*time.Second)
	leadsTo(to, "", time.Second)
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "dns", "enabled=true"))
	leadsTo(cluster, hosts.Node(to).IP, 15*time.Second)
	must[string](t)(hosts.Infra.Exec(ctx, "pgagent", "leave"))
	leadsTo(cluster, "", time.Second)
}

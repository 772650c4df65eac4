package e2e

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// suffix is the domain of the cluster's names.
const suffix = ".db.test"

var errUntold = errors.New("status does not say what dnsmasq says")

// namesWithin is how long after its confirmation the cluster's name leads to a primary at
// most, on a machine that is busy with other tests. It takes a few milliseconds on one that
// is not, and is meant to take 100 at most: the log has the figure.
const namesWithin = 5 * time.Second

// namesAtMost is how long a name may take on a busy machine to be what it should be; what stands in
// the way of the promise, a second for what a hand did, is in the log.
const namesAtMost = 15 * time.Second

// namesUnder sets the cluster's names for one test.
func namesUnder(ctx context.Context, t *testing.T, fields ...string) {
	t.Helper()
	t.Cleanup(func() { drop(context.WithoutCancel(ctx), t, hosts.Layout.ClusterDoc(cluster, "dns")) })
	must[string](t)(hosts.Pgctrl(ctx, append([]string{"set", cluster, "dns", "suffix=" + suffix[1:]}, fields...)...))
}

// TestR1NamesFollowWithoutControllers: two nodes have role infra, the real dnsmasq there
// knows the cluster's names, and with every server stopped they follow the leader.
func TestR1NamesFollowWithoutControllers(t *testing.T) {
	ctx := begin(t)
	nodes := withInfra(ctx, t)
	namesUnder(ctx, t, "target=primary")
	from, to := leaderAndNext(ctx, t)
	leadsTo(ctx, t, nodes, cluster+suffix, 15*time.Second, hosts.Node(from).IP)
	leadsTo(ctx, t, nodes, to+suffix, namesAtMost, hosts.Node(to).IP)
	leadsTo(ctx, t, nodes, cluster+"-replica"+suffix, 15*time.Second, replicasOf(from)...)

	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "stop", "pgctrl-server"))
	for range 2 {
		namesFollow(ctx, t, nodes, from, to)
		ok(t, hosts.Whole(ctx, cluster, time.Minute))
		leadsTo(ctx, t, nodes, cluster+"-replica"+suffix, 30*time.Second, replicasOf(to)...)
		from, to = leaderAndNext(ctx, t)
	}

	// By hand it is put back, with no server either.
	must[string](t)(hosts.Infra.Exec(ctx, "sh", "-c", "echo 10.9.9.9 "+cluster+suffix+" >/etc/pgctrl/hosts.d/"+cluster))
	leadsTo(ctx, t, nodes, cluster+suffix, namesAtMost, hosts.Node(from).IP)
	// Its folder made anew is another one to dnsmasq, which is told.
	must[string](t)(hosts.Infra.Exec(ctx, "sh", "-c", "until rm -r /etc/pgctrl/hosts.d; do :; done")) // the file may be put back before the folder goes
	leadsTo(ctx, t, nodes, cluster+suffix, namesAtMost, hosts.Node(from).IP)
	must[string](t)(hosts.Infra.Exec(ctx, "sh", "-c", "echo 10.9.9.9 "+cluster+suffix+" >/etc/pgctrl/hosts.d/"+cluster))
	leadsTo(ctx, t, nodes, cluster+suffix, namesAtMost, hosts.Node(from).IP)
	// Stopped and disabled it is back.
	byHand(ctx, t, hosts.Infra, "systemctl", "disable", "--now", "dnsmasq")
	leadsTo(ctx, t, nodes, cluster+suffix, namesAtMost, hosts.Node(from).IP)
	ok(t, fleet.Until(ctx, 5*time.Second, "dnsmasq to be enabled", func(ctx context.Context) error {
		_, err := hosts.Infra.Exec(ctx, "systemctl", "is-enabled", "dnsmasq")
		return err
	}))

	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "start", "pgctrl-server"))
	statusReady(ctx, t)
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "dns", "enabled=false"))
	leadsTo(ctx, t, nodes, cluster+suffix, 15*time.Second)
	leadsTo(ctx, t, nodes, to+suffix, namesAtMost)
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "dns", "enabled=true"))
	leadsTo(ctx, t, nodes, cluster+suffix, 15*time.Second, hosts.Node(from).IP)
	must[string](t)(hosts.Infra.Exec(ctx, "pgagent", "leave"))
	leadsTo(ctx, t, nodes[:1], cluster+suffix, namesAtMost)
	must[string](t)(hosts.Infra.Exec(ctx, "pgagent", "join", "--endpoints", hosts.Endpoint()))
}

// namesFollow moves the leader and measures until every infra node's dnsmasq says so.
func namesFollow(ctx context.Context, t *testing.T, nodes []*lab.Host, from, to string) {
	t.Helper()
	confirmed := confirmation(ctx, t, to)
	moved := make(chan time.Time, len(nodes))
	watching, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	for _, h := range nodes {
		go func() {
			for watching.Err() == nil && ask(watching, h, cluster+suffix) != hosts.Node(to).IP {
				hold(watching, 5*time.Millisecond) // others work on this machine too
			}
			moved <- time.Now()
		}()
	}
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	at := wait(ctx, t, confirmed, 20*time.Second)
	for range nodes {
		took := wait(ctx, t, moved, 20*time.Second).Sub(at)
		t.Logf("%s led to %s %s after it was confirmed", cluster, to, took)
		if took > namesWithin {
			t.Errorf("the name moved %s after the confirmation, want at most %s", took, namesWithin)
		}
	}
}

// nameServersReady finds the name servers that are as planned in what pgctrl says of nodes; other
// programs of theirs may be too.
var nameServersReady = regexp.MustCompile(`"program": "dnsmasq",\s*"ready": true`)

// TestNamesBesideTheirOwners: what a host's dnsmasq does otherwise it goes on doing, and
// settings that its owner's forbid are not left in place.
func TestNamesBesideTheirOwners(t *testing.T) {
	ctx := begin(t)
	upstream := hosts.Nodes[1]
	put := func(h *lab.Host, text string) {
		t.Helper()
		ok(t, h.WriteFile(ctx, "/etc/dnsmasq.d/owner.conf", 0o644, []byte(text)))
		must[string](t)(h.Exec(ctx, "systemctl", "restart", "dnsmasq"))
	}
	t.Cleanup(func() {
		for _, h := range []*lab.Host{hosts.Infra, upstream} {
			_, _ = h.Exec(context.WithoutCancel(ctx), "sh", "-c", "rm -f /etc/dnsmasq.d/owner.conf; systemctl restart dnsmasq")
		}
	})
	put(upstream, "address=/upstream.example/10.9.9.2\n")
	put(hosts.Infra, "no-resolv\nserver="+upstream.IP+"\naddress=/owner.example/10.9.9.1\n")
	owners := func() {
		t.Helper()
		leadsTo(ctx, t, []*lab.Host{hosts.Infra}, "a.owner.example", namesAtMost, "10.9.9.1")
		leadsTo(ctx, t, []*lab.Host{hosts.Infra}, "a.upstream.example", namesAtMost, "10.9.9.2")
	}
	owners()
	nodes := withInfra(ctx, t)
	namesUnder(ctx, t)
	leadsTo(ctx, t, nodes, cluster+suffix, 20*time.Second, vip)
	ok(t, fleet.Until(ctx, 30*time.Second, "both name servers to be as planned", func(ctx context.Context) error {
		said, err := hosts.Pgctrl(ctx, "node", "list", "-o", "json")
		if err != nil {
			return err
		}
		if n := len(nameServersReady.FindAllString(said, -1)); n != 2 {
			return fmt.Errorf("%d are: %s", n, said)
		}
		return nil
	}))
	owners()
	leadsTo(ctx, t, nodes, "nobody"+suffix, namesAtMost)

	// The owner says of local-ttl what ours says too, and dnsmasq starts with neither.
	ok(t, hosts.Infra.WriteFile(ctx, "/etc/dnsmasq.d/owner.conf", 0o644, []byte("no-resolv\nserver="+upstream.IP+"\naddress=/owner.example/10.9.9.1\nlocal-ttl=7\n")))
	must[string](t)(hosts.Infra.Exec(ctx, "sh", "-c", "systemctl restart dnsmasq || true"))
	var said string
	ok(t, fleet.Until(ctx, 30*time.Second, "the fault to be told", func(ctx context.Context) error {
		said, _ = hosts.Pgctrl(ctx, "status")
		if !strings.Contains(said, "illegal repeated keyword") {
			return errUntold
		}
		return nil
	}))
	t.Log(said)
	put(hosts.Infra, "no-resolv\nserver="+upstream.IP+"\naddress=/owner.example/10.9.9.1\n")
	leadsTo(ctx, t, nodes, cluster+suffix, 60*time.Second, vip)
	owners()
}

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/pgctrl/pgctrl/tests/probe"
)

// TestR2VIPIsIPv6: an IPv6 address on hosts that are known by IPv4 ones. It is added
// as a /128 that nobody has to wait for, clients get through the services on it, it
// follows a move, and the switch's neighbours are told: one that knew the old holder
// and says nothing itself knows the new one.
func TestR2VIPIsIPv6(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	old := vip
	vip = hosts.Lab.Address6(9)
	t.Cleanup(func() {
		vip = old
		ctx := context.Background()
		_, err := hosts.Pgctrl(ctx, "set", cluster, "vip", "address="+old+"/24")
		if err == nil {
			_, err = hosts.Pgctrl(ctx, "unset", cluster, "vip", "interface")
		}
		ok(t, err)
		statusReady(ctx, t)
	})
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "vip", "address="+vip+"/64", "interface=eth0"))
	statusReady(ctx, t)
	from, to := leaderAndNext(ctx, t)
	vipOn(ctx, t, from, 20*time.Second)
	asAdded(ctx, t, hosts.Node(from))

	// infra1 writes nothing there; it asks once, so that it knows the holder.
	must[string](t)(hosts.Infra.Exec(ctx, "ping", "-6", "-c1", "-W2", vip))
	knows(ctx, t, hosts.Infra, hosts.Node(from), time.Second)
	direct := must[probe.Target](t)(hosts.Target(ctx, cluster, hosts.Node(to), 5432))
	watch := probe.Watch(ctx, direct, 2*time.Millisecond)
	o := observeVIP(t)
	start := time.Now()
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	vipOn(ctx, t, to, 15*time.Second)
	knows(ctx, t, hosts.Infra, hosts.Node(to), 3*time.Second)
	writable := watch.FirstAfter(start)
	watch.Stop()
	asAdded(ctx, t, hosts.Node(to))
	o.moved(t, to, writable)
	if sent := must[string](t)(hosts.Infra.Exec(ctx, "ip", "-6", "neigh", "show", vip)); strings.Contains(sent, "PROBE") || strings.Contains(sent, "DELAY") {
		t.Errorf("infra1 asked by itself, which proves nothing of what it was told: %s", sent)
	}
}

// asAdded checks that the address on a host is as a virtual address should be.
func asAdded(ctx context.Context, t *testing.T, h *lab.Host) {
	t.Helper()
	has := must[string](t)(h.Exec(ctx, "ip", "-6", "-o", "addr", "show", "to", vip))
	t.Logf("on %s: %s", h.Name, strings.TrimSpace(has))
	if !strings.Contains(has, vip+"/128") || !strings.Contains(has, "nodad") || strings.Contains(has, "tentative") || strings.Contains(has, "dadfailed") {
		t.Errorf("it waits to be known as nobody's duplicate, or is no /128: %s", has)
	}
	if strings.Contains(has, "valid_lft forever") {
		t.Errorf("nothing ends it when its agent dies: %s", has)
	}
}

// knows waits until who's memory of its neighbours has the address at the host.
func knows(ctx context.Context, t *testing.T, who, at *lab.Host, limit time.Duration) {
	t.Helper()
	mac := strings.TrimSpace(must[string](t)(at.Exec(ctx, "cat", "/sys/class/net/eth0/address")))
	ok(t, fleet.Until(ctx, limit, who.Name+" to know "+vip+" at "+at.Name, func(ctx context.Context) error {
		out, err := who.Exec(ctx, "ip", "-6", "neigh", "show", vip)
		if err == nil && !strings.Contains(out, mac) {
			err = fmt.Errorf("it knows %q, %s has %s", strings.TrimSpace(out), at.Name, mac)
		}
		return err
	}))
}

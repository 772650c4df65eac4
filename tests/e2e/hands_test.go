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
	"github.com/pgctrl/pgctrl/tests/probe/holders"
)

// nobodyHas waits until no host has the address.
func (o observer) nobodyHas(ctx context.Context, t *testing.T, limit time.Duration) {
	t.Helper()
	ok(t, fleet.Until(ctx, limit, "the address to be on no host", func(context.Context) error {
		if n := o.Holders(); len(n) > 0 {
			return fmt.Errorf("%v have it", n)
		}
		return nil
	}))
}

// refuses runs a command that must not be done, and returns its words.
func refuses(ctx context.Context, t *testing.T, h *lab.Host, args ...string) string {
	t.Helper()
	out, err := h.Command(ctx, args...).CombinedOutput()
	if err == nil {
		t.Fatalf("%s on %s was done:\n%s", strings.Join(args, " "), h.Name, out)
	}
	return string(out)
}

func shows(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s: no %q in\n%s", what, p, text)
		}
	}
}

// TestVIPByHandWithoutEtcd: etcd is away and Patroni stopped, so nothing proves who
// leads and the address goes; somebody who knows takes it back to the PostgreSQL that
// takes writes, and to no other, until his time is over. Dropping needs no proof.
func TestVIPByHandWithoutEtcd(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	leader, next := leaderAndNext(ctx, t)
	vipOn(ctx, t, leader, 20*time.Second)
	h := hosts.Node(leader)
	direct := throughVIP(ctx, t)
	direct.Port = 5432 // HAProxy's checks see a Patroni that is stopped
	o := observeVIP(t)
	patroni := "patroni@" + cluster + ".service"
	stopEtcd(ctx, t)
	hold(ctx, 5*time.Second)
	if n := o.Holders(); len(n) != 1 || n[0] != h.Name {
		t.Fatalf("5 s after etcd went away the address is on %v", n)
	}
	ok(t, h.KillMain(ctx, patroni, "SIGSTOP"))
	t.Cleanup(func() { _ = h.KillMain(context.Background(), patroni, "SIGCONT") })
	o.nobodyHas(ctx, t, 30*time.Second) // the lease's reading was worth up to 25

	shows(t, "take without a word", refuses(ctx, t, h, "pgagent", "vip", "take"), "etcd can't be asked", "pgagent vip take "+cluster, "--yes")
	shows(t, "take on a replica", refuses(ctx, t, hosts.Node(next), "pgagent", "vip", "take", "--yes"), "PostgreSQL is in recovery")
	o.nobodyHas(ctx, t, time.Second)

	taken := time.Now()
	shows(t, "take", must[string](t)(h.Exec(ctx, "pgagent", "vip", "take", cluster, "--yes", "--for", "10s")),
		"virtual address of "+cluster+" taken to this node without etcd until")
	ok(t, fleet.Until(ctx, 5*time.Second, "a write through the address that was taken", func(ctx context.Context) error {
		if one := direct.Once(ctx); one.Outcome != probe.Written {
			return fmt.Errorf("%s on %q: %v", one.Outcome, one.Server, one.Err)
		}
		return nil
	}))
	t.Logf("a write through the address %s after it was taken", time.Since(taken))
	shows(t, "pgagent status", must[string](t)(h.Exec(ctx, "pgagent", "status")), "by hand: virtual address of "+cluster, "taken by hand")
	o.nobodyHas(ctx, t, 20*time.Second)
	t.Logf("gone %s after it was taken for 10 s", time.Since(taken))

	must[string](t)(h.Exec(ctx, "pgagent", "vip", "take", cluster, "--yes", "--for", "5m"))
	ok(t, fleet.Until(ctx, 5*time.Second, "the address to be back", func(context.Context) error {
		if len(o.Holders()) == 0 {
			return fmt.Errorf("nobody has it")
		}
		return nil
	}))
	must[string](t)(h.Exec(ctx, "pgagent", "vip", "drop", cluster, "--for", "1h"))
	o.nobodyHas(ctx, t, 3*time.Second)

	ok(t, h.KillMain(ctx, patroni, "SIGCONT"))
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "start", "pgctrl-etcd"))
	ok(t, hosts.Whole(ctx, cluster, 3*time.Minute))
	now, _ := leaderAndNext(ctx, t)
	if now == leader {
		o.nobodyHas(ctx, t, time.Second)
		statusSays(ctx, t, "kept off this node by hand on node "+h.Name)
	}
	shows(t, "off", must[string](t)(h.Exec(ctx, "pgagent", "vip", "drop", cluster, "--off")), "no longer held by hand")
	vipOn(ctx, t, now, 20*time.Second)
	statusReady(ctx, t)
	line := o.Stop()
	if r := line.Judge(); len(r.Doubles)+len(r.Blind) > 0 {
		t.Errorf("two holders: %s", holders.Report{Doubles: r.Doubles, Blind: r.Blind})
	}
}

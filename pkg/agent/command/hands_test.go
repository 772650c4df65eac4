package command

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestRouteByHand: with no etcd in sight, by command; shown by status; ended.
func TestRouteByHand(t *testing.T) {
	b := newBench(t)
	b.keep(haproxyPlan())
	member := haproxyPlan().Cluster.Members[0].Name
	if code := b.run("route", "--to", member); code != 1 {
		t.Errorf("exit code %d without an agent", code)
	}
	b.serve(b.agent().Control())
	if code := b.run("route"); code != 1 {
		t.Errorf("exit code %d for nothing asked", code)
	}
	if code := b.run("route", "--to", "nobody", "--for", "1m"); code != 1 {
		t.Errorf("exit code %d for a member that is none", code)
	}
	b.wantOut("no cluster of this node has a member nobody")
	if code := b.run("route", "--to", member, "--for", "5m"); code != 0 {
		t.Errorf("exit code %d: %s", code, b.stderr)
	}
	b.wantOut("read-write routes of pg-test held at "+member+" until", "(5m0s)", "pgagent route pg-test --off")
	b.run("status")
	b.wantOut("by hand: read-write routes of pg-test held at " + member + " until")
	if code := b.run("route", "--off"); code != 0 {
		t.Errorf("exit code %d: %s", code, b.stderr)
	}
	b.run("status")
	if strings.Contains(b.stdout, "by hand") {
		t.Errorf("it has not ended:\n%s", b.stdout)
	}
}

// TestVIPByHand: dropped with no etcd in sight, shown by status, ended; taken by nobody
// who does not say that he knows, nor where PostgreSQL does not take writes.
func TestVIPByHand(t *testing.T) {
	b := newBench(t)
	if code := b.run("vip", "drop"); code != 1 {
		t.Errorf("exit code %d without an agent", code)
	}
	p := haproxyPlan()
	b.keep(p)
	p.Resources = plan.Resources{plan.Address{Address: "10.0.0.9/32", Network: "10.0.0.9/24"}}
	b.keepAs("vip", p)
	a := b.agent()
	b.serve(a.Control())
	if code := b.run("vip", "drop", "--for", "5m"); code != 0 {
		t.Errorf("exit code %d: %s", code, b.stderr)
	}
	b.wantOut("virtual address of pg-test kept off this node until", "(5m0s)", "pgagent vip drop pg-test --off")
	b.run("status")
	b.wantOut("by hand: virtual address of pg-test kept off this node until", "pgagent vip drop pg-test --off")
	if code := b.run("vip", "drop", "--off"); code != 0 {
		t.Errorf("exit code %d: %s", code, b.stderr)
	}
	b.run("status")
	if strings.Contains(b.stdout, "by hand") {
		t.Errorf("it has not ended:\n%s", b.stdout)
	}
	if code := b.run("vip", "take"); code != 1 {
		t.Errorf("exit code %d for a PostgreSQL that nobody saw", code)
	}
	b.wantOut("can't hold this by hand: PostgreSQL has stopped")

	b.host.SetPostgres(agent.PostgresState{Reachable: true, System: "7"})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = a.Run(ctx) }()
	defer func() { stop(); <-done }()
	for deadline := time.Now().Add(10 * time.Second); b.run("vip", "take", "--yes") != 0; {
		if time.Now().After(deadline) {
			t.Fatalf("not taken: %s", b.stderr)
		}
	}
	b.wantOut("virtual address of pg-test taken to this node without etcd until", "warning: another node may take it")
	if code := b.run("vip", "take"); code != 1 {
		t.Errorf("exit code %d without a word and without etcd", code)
	}
	b.wantOut("etcd can't be asked whether another node leads", "pgagent vip take pg-test --for 10m0s --yes")
}

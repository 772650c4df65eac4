package agent_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/agent/agenttest"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func TestPresenceIsLeftToItsLease(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a := w.start(1, "")
		after(time.Second)
		_, _, ok := w.etcd.Get(layout.AliveKey("pg1"))
		expect(t, "present", ok, true)
		a.stop()
		w.start(1, a.dir)
		after(time.Second)
		_, _, ok = w.etcd.Get(layout.AliveKey("pg1"))
		expect(t, "still present after a restart", ok, true)
	})
}

func TestAnotherMachineIsRefusedItsName(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a := w.start(1, "")
		after(time.Second)
		value, _, _ := w.etcd.Get(layout.AliveKey("pg1"))
		h := agenttest.New("another-machine")
		twin := w.startOn(1, "", h)
		after(time.Minute)
		st := twin.Status()
		expect(t, "twin speaks", st.Speaks, false)
		if !strings.Contains(st.Problem, "node name pg1 is held by the machine machinepg1") {
			t.Fatalf("problem: %q", st.Problem)
		}
		expect(t, "twin's acts", len(h.Events()), 0)
		now, _, _ := w.etcd.Get(layout.AliveKey("pg1"))
		expect(t, "presence", now, value)
		a.stop()
		after(agent.PresenceTTL + agent.NameRetry + 5*time.Second)
		expect(t, "twin speaks once the name is free", twin.Status().Speaks, true)
	})
}

// startOffline runs an agent that can't reach etcd.
func startOffline(t *testing.T, w *world, dir string, h *agenttest.Host) *agent.Agent {
	t.Helper()
	a, err := agent.New(agent.Options{
		Node: "pg1", StateDir: dir, Host: h.Wire(),
		Connect: w.nobody,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = a.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return a
}

func TestStartWithoutEtcdAppliesKeptFilesOnly(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := settle(t, w)
		a1.stop()
		h := agenttest.New("machinepg1")
		h.SetPostgres(writable(1))
		after(2 * agent.SettleAfterMove) // the others report the move that made them settle
		rev := w.etcd.Revision()
		off := startOffline(t, w, a1.dir, h)
		after(time.Minute)
		expect(t, "acts", strings.Join(h.Events(), ", "), "prepare haproxy@c.service, apply haproxy@c.service")
		expect(t, "asserts", len(h.Asserts()), 0)
		expect(t, "kept", off.Status().Clusters[0].Concerns[0].Kept, true)
		expect(t, "etcd", w.etcd.Revision(), rev)
		// A start of HAProxy asks for its state: nobody can say who leads.
		if err := off.ComposeState(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		expect(t, "targets of the conservative file", len(h.Composed()[0].Targets), 0)
	})
}

func TestComposeStateIsFreshWhileTheViewIs(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := settle(t, w)
		if err := a1.ComposeState(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		ts := a1.host.Composed()[0].Targets["primary"]
		expect(t, "m1", ts["m1"].Start, plan.Up)
		expect(t, "m2", ts["m2"].Start, plan.Down)
		if err := a1.ComposeState(t.Context(), "nope"); err == nil {
			t.Fatal("an unknown cluster was composed")
		}
	})
}

// The agents of both sides of a short etcd outage keep what they have.
func TestEtcdOutageKeepsEverything(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2, a3 := settle(t, w)
		before, rev := w.primary()
		for _, n := range []string{"pg1", "pg2", "pg3"} {
			w.etcd.Cut(n)
		}
		after(2 * time.Minute)
		for _, n := range []string{"pg1", "pg2", "pg3"} {
			w.etcd.Heal(n)
		}
		after(30 * time.Second)
		now, again := w.primary()
		expect(t, "primary", now, before)
		expect(t, "not written again", again, rev)
		for _, a := range []*running{a1, a2, a3} {
			expect(t, "routes", held(a, "primary"), "m1=up m2=down m3=down")
			expect(t, "applied once", strings.Join(a.host.Events(), ", "), "prepare haproxy@c.service, apply haproxy@c.service")
		}
	})
}

func TestFlappingLeaderIsReported(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		rev := w.etcd.Put(layout.Secret("c", "postgres"), secretValue)
		w.etcd.Put(layout.PlanKey("pg1", "c", "postgres"), string(plan.Encode(postgresPlan(1, rev))))
		settle(t, w)
		for i := range 4 {
			w.leader(2 - i%2)
			after(time.Second)
		}
		said := func() (found bool) {
			for _, c := range w.report(1, "postgres").Conditions {
				found = found || c.Reason == "LeaderFlapping"
			}
			return found
		}
		expect(t, "LeaderFlapping", said(), true)
		after(11 * time.Second)
		expect(t, "LeaderFlapping when it is over", said(), false)
	})
}

// Patroni's dynamic configuration needs etcd and a confirmed primary, whatever is
// kept; of the postgres plan a boot without etcd applies the unit alone, and the unit's
// driver never starts a Patroni that is stopped.
func TestStartWithoutEtcdWritesNoPatroniConfiguration(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		p := postgresPlan(1, 0)
		p.Secrets = nil
		u := p.Resources[0].(plan.Unit)
		u.Files = []plan.File{{Path: "/etc/patroni/c.yml", Mode: "0640", Content: "scope: c"}}
		p.Resources = plan.Resources{u, plan.Patroni{Patroni: "c", Config: map[string]any{"ttl": 30}}}
		w.etcd.Put(layout.PlanKey("pg1", "c", "postgres"), string(plan.Encode(p)))
		a1, _, _ := settle(t, w)
		after(2 * time.Second)
		a1.stop()
		h := agenttest.New("machinepg1")
		h.SetPostgres(writable(1))
		off := startOffline(t, w, a1.dir, h)
		after(time.Minute)
		expect(t, "acts", strings.Join(h.Events(), ", "),
			"prepare patroni@c.service, apply patroni@c.service, prepare haproxy@c.service, apply haproxy@c.service")
		expect(t, "concerns", len(off.Status().Clusters[0].Concerns), 2)
	})
}

// R8: soon after its start an agent has said all it has to say, versions of programs
// included, which it learns while it applies plans. What it learns later is said then,
// and not at the next compare.
func TestR8_NothingIsLeftToSay(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		a2.stop()
		a2.host.SlowInventory(3 * time.Second)
		w.startOn(2, a2.dir, a2.host)
		after(5 * time.Second)
		expect(t, "version said", w.report(2, "haproxy").Facts["version.haproxy"] != "", true)
		rev := w.etcd.Revision()
		after(2 * agent.DriftEvery)
		expect(t, "revisions", w.etcd.Revision()-rev, 0)
	})
}

package agent_test

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func TestFollowConfirmAndMove(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2, a3 := settle(t, w)
		a1.host.SetPostgres(agent.PostgresState{}) // stopped
		w.etcd.Delete(layout.Leader("c"))
		after(80 * time.Millisecond)
		for _, a := range []*running{a1, a2, a3} {
			expect(t, "after leader DEL", held(a, "primary"), "m1=leave m2=down m3=down")
		}
		w.leader(2)
		after(200 * time.Millisecond)
		expect(t, "named, not confirmed", held(a3, "primary"), "m1=leave m2=down m3=down")
		expect(t, "fast polling", a2.host.Fast(), true)
		a2.host.SetPostgres(writable(2))
		after(3 * time.Millisecond)
		for _, a := range []*running{a1, a2, a3} {
			expect(t, "after confirmation", held(a, "primary"), "m1=down m2=up m3=down")
		}
		p, _ := w.primary()
		expect(t, "timeline", p.Timeline, int64(2))
		after(time.Second)
		expect(t, "fast polling ends", a2.host.Fast(), false)
		expect(t, "route fact", w.report(3, "haproxy").Facts["route.primary"], "m2")
	})
}

func TestR1_ConfirmationByAnotherAgentWhenTheLeadersIsDead(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2, a3 := settle(t, w)
		a2.stop()
		for _, a := range []*running{a1, a3} {
			st := patroni.Status{State: "running", Role: patroni.Primary, Timeline: 2, System: system}
			st.Patroni.Name = "m2"
			a.host.SetPeer("m2", st)
		}
		w.etcd.Delete(layout.Leader("c"))
		epoch := w.leader(2)
		after(990 * time.Millisecond)
		p, _ := w.primary()
		expect(t, "nobody steps in before 1 s", p.Member, "m1")
		after(60 * time.Millisecond)
		p, rev := w.primary()
		expect(t, "member", p.Member, "m2")
		expect(t, "epoch", p.Epoch, epoch)
		expect(t, "by", p.By, "pg1") // first by name
		expect(t, "routes of pg3", held(a3, "primary"), "m1=down m2=up m3=down")
		after(5 * time.Second)
		_, again := w.primary()
		expect(t, "written once", again, rev)
	})
}

func TestFallbackRefusesAnotherSystemAndAReplica(t *testing.T) {
	for name, st := range map[string]patroni.Status{
		"other system": {State: "running", Role: patroni.Primary, System: "999"},
		"in recovery":  {State: "running", Role: patroni.Replica, System: system},
		"starting":     {State: "starting", Role: patroni.Primary, System: system},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				_, a2, a3 := settle(t, w)
				a2.stop()
				a3.host.SetPeer("m2", st)
				w.leader(2)
				after(5 * time.Second)
				p, _ := w.primary()
				expect(t, "primary", p.Member, "m1")
				expect(t, "old server is down without waiting", held(a3, "primary"), "m1=down m2=down m3=down")
			})
		})
	}
}

func TestWithdrawUnderTheSameEpoch(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, a3 := settle(t, w)
		before, _ := w.primary()
		a1.host.SetPostgres(recovering()) // demotion to a standby cluster writes no leader key
		after(260 * time.Millisecond)
		p, _ := w.primary()
		expect(t, "writable", p.Writable, false)
		expect(t, "epoch", p.Epoch, before.Epoch)
		expect(t, "sequence", p.Sequence, before.Sequence+1)
		expect(t, "routes", held(a3, "primary"), "m1=down m2=down m3=down")
		a1.host.SetPostgres(writable(1))
		after(260 * time.Millisecond)
		p, _ = w.primary()
		expect(t, "confirmed again", p.Writable, true)
		expect(t, "sequence", p.Sequence, before.Sequence+2)
		expect(t, "routes", held(a3, "primary"), "m1=up m2=down m3=down")
	})
}

func TestSilenceOfPostgresWithdrawsNothing(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, a3 := settle(t, w)
		_, rev := w.primary()
		a1.host.SetPostgres(agent.PostgresState{})
		after(5 * time.Second)
		_, now := w.primary()
		expect(t, "primary revision", now, rev)
		expect(t, "routes", held(a3, "primary"), "m1=up m2=down m3=down")
	})
}

func TestRestampedLeadershipMovesNothing(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, _, a3 := settle(t, w)
		n := len(a3.host.Asserts())
		w.etcd.Delete(layout.Leader("c"))
		w.leader(1)
		after(3 * time.Second)
		w.leader(1) // an overwrite, as Patroni 3.0.2 does
		after(3 * time.Second)
		for _, as := range a3.host.Asserts()[n:] {
			if m1 := as.Targets["primary"]["m1"].Held; m1 == plan.Down {
				t.Fatalf("m1 was taken down at %v", as)
			}
			if m2 := as.Targets["primary"]["m2"].Held; m2 != plan.Down {
				t.Fatalf("m2 was let up at %v", as)
			}
		}
		p, _ := w.primary()
		_, epoch, _ := w.etcd.Get(layout.Leader("c"))
		expect(t, "the record follows the epoch", p.Epoch, epoch)
	})
}

func TestStaleViewAssertsNothing(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, _, a3 := settle(t, w)
		w.etcd.Cut("pg3")
		after(plan.FreshFor + time.Second)
		n := len(a3.host.Asserts())
		after(time.Minute)
		expect(t, "asserts while stale", len(a3.host.Asserts()), n)
		expect(t, "status", a3.Status().Clusters[0].Fresh, false)
		w.etcd.Heal("pg3")
		after(10 * time.Second)
		as := a3.host.Asserts()
		if len(as) == n {
			t.Fatal("nothing asserted after the link healed")
		}
		expect(t, "first assertion after silence is an edge", as[n].Edge, true)
		expect(t, "routes", held(a3, "primary"), "m1=up m2=down m3=down")
	})
}

func TestR8_QuietWhenIdle(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		settle(t, w)
		after(5 * time.Second)
		rev := w.etcd.Revision()
		after(10 * time.Minute)
		expect(t, "revision", w.etcd.Revision(), rev)
	})
}

func TestRoutesReissueEvery500ms(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, _, a3 := settle(t, w)
		n := len(a3.host.Asserts())
		after(10 * time.Second)
		as := a3.host.Asserts()[n:]
		if len(as) < 19 || len(as) > 21 {
			t.Fatalf("%d asserts in 10 s", len(as))
		}
		for _, a := range as {
			expect(t, "edge", a.Edge, false)
		}
	})
}

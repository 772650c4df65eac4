package agent_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const unitName = "haproxy@c.service"

// metric sums one of the agent's counters, or a histogram's observations.
func (r *running) metric(t *testing.T, name string) float64 {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

func drifted(t *testing.T, r observed.Report) *observed.Condition {
	t.Helper()
	if c := applied(t, r); c.Reason == observed.DriftReturns {
		return &c
	}
	return nil
}

func TestR9_DriftIsRepairedAtItsEvent(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		after(2 * time.Second)
		n := len(a2.host.Events())
		a2.host.DriftNow(unitName)
		after(49 * time.Millisecond)
		expect(t, "acts before the events of one act are over", len(a2.host.Events()), n)
		after(time.Millisecond)
		expect(t, "acts", strings.Join(a2.host.Events()[n:], ", "), "apply "+unitName)
		after(300 * time.Millisecond)
		mentions(t, "fact", w.report(2, "haproxy").Facts["repaired"], "1 times; last unit "+unitName+": files differ")
		expect(t, "counted", a2.metric(t, "pgagent_drift_total"), 1)
		expect(t, "timed", a2.metric(t, "pgagent_drift_repair_seconds"), 1)
	})
}

// With etcd away, repairs go on; and what no event tells is found by the clock.
func TestR9_DriftIsRepairedWithoutEtcdAndWithoutEvents(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		after(2 * time.Second)
		w.etcd.Cut(node(2))
		after(5 * time.Second)
		n := len(a2.host.Events())
		a2.host.DriftNow(unitName)
		after(60 * time.Millisecond)
		expect(t, "acts without etcd", len(a2.host.Events()), n+1)
		w.etcd.Heal(node(2))
		after(30 * time.Second)
		a2.host.Drift(unitName)
		after(agent.DriftEvery)
		expect(t, "acts without an event", len(a2.host.Events()), n+2)
	})
}

// During a move of the leader routes come first, and drift waits until it is over.
func TestDriftWaitsForAMove(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2, _ := settle(t, w)
		after(2 * time.Second)
		n := len(a2.host.Events())
		a1.host.SetPostgres(recovering())
		w.leader(3)
		after(10 * time.Millisecond)
		a2.host.DriftNow(unitName)
		after(agent.SettleAfterMove - 20*time.Millisecond)
		expect(t, "acts during the move", len(a2.host.Events()), n)
		after(20 * time.Millisecond)
		expect(t, "acts after it", len(a2.host.Events()), n+1)
	})
}

// Somebody writes against us: after three repairs within ten seconds they become
// rare, the report says what comes back, and it ends by itself.
func TestDriftThatReturns(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		after(2 * time.Second)
		a2.host.Revert(unitName, 100*time.Millisecond)
		n, rev := len(a2.host.Events()), w.etcd.Revision()
		a2.host.DriftNow(unitName)
		after(time.Second)
		expect(t, "repairs in the first second", len(a2.host.Events())-n, 3)
		c := drifted(t, w.report(2, "haproxy"))
		if c == nil {
			t.Fatalf("the report does not say that drift returns: %+v", w.report(2, "haproxy"))
		}
		mentions(t, "the condition", c.Message, "unit "+unitName, "files differ", "2s")
		mentions(t, "next", c.Next, "pgctrl freeze c haproxy")
		after(9 * time.Minute)
		expect(t, "repairs in nine minutes", len(a2.host.Events())-n < 25, true)
		expect(t, "reports in nine minutes", w.etcd.Revision()-rev < 20, true)
		expect(t, "still said", drifted(t, w.report(2, "haproxy")) != nil, true)
		a2.host.Revert(unitName, 0)
		after(2 * time.Minute)
		expect(t, "said when it is over", applied(t, w.report(2, "haproxy")).Status, observed.True)
		quiet := w.etcd.Revision()
		n = len(a2.host.Events())
		a2.host.DriftNow(unitName)
		after(100 * time.Millisecond)
		expect(t, "the next one is repaired at once", len(a2.host.Events()), n+1)
		after(time.Minute)
		expect(t, "R8", w.etcd.Revision()-quiet <= 1, true)
	})
}

// Different things that somebody does to one unit in a row are no fight, and each is
// put right at once. The acts and pauses are those of TestR9DriftRepairsItself on
// hosts; when all repairs of a unit counted as one, a single one more made of them a
// fight, in which a masked unit waited for 10.8 s and a stopped one for 24.8 s.
func TestR9_DifferentThingsAreNoFight(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		after(2 * time.Second)
		at := func() string { return strings.Join(a2.host.Events(), ", ") }
		a2.host.DriftNow(unitName, "content differs")
		after(time.Second)
		for _, how := range []string{"content differs", "content differs again", "is missing", "mode differs", "is disabled", "is masked", "is stopped"} {
			n := len(a2.host.Events())
			a2.host.DriftNow(unitName, how)
			after(50 * time.Millisecond)
			if len(a2.host.Events()) != n+1 {
				t.Errorf("%s: not put right at once: %s", how, at())
			}
			after(5200 * time.Millisecond)
		}
		expect(t, "said", drifted(t, w.report(2, "haproxy")) == nil, true)
	})
}

// While one thing is fought over, another that happens to the same unit is put right
// at once all the same.
func TestR9_AFightHoldsNothingElseBack(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		after(2 * time.Second)
		a2.host.Revert(unitName, 100*time.Millisecond)
		a2.host.DriftNow(unitName)
		after(time.Minute)
		expect(t, "fought over", drifted(t, w.report(2, "haproxy")) != nil, true)
		a2.host.Revert(unitName, 0)
		n := len(a2.host.Events())
		a2.host.DriftNow(unitName, "files differ", "is stopped")
		after(50 * time.Millisecond)
		expect(t, "acts", len(a2.host.Events()), n+1)
		after(time.Second)
	})
}

// How long a repair takes makes no fight of what comes no more often than before.
func TestSlowRepairsAreNoFight(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		after(2 * time.Second)
		a2.host.ProveFor(3 * time.Second)
		a2.host.DriftNow(unitName)
		after(5300 * time.Millisecond)
		a2.host.ProveFor(0)
		for range 2 {
			a2.host.DriftNow(unitName)
			after(5300 * time.Millisecond)
		}
		expect(t, "said", drifted(t, w.report(2, "haproxy")) == nil, true)
	})
}

// A newer plan does not wait for a fight about the old one to end.
func TestAPlanEndsAFight(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		after(2 * time.Second)
		a2.host.Revert(unitName, 100*time.Millisecond)
		a2.host.DriftNow(unitName)
		after(time.Minute)
		a2.host.Revert(unitName, 0)
		rev := w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), string(plan.Encode(anotherConfig(2, "globals"))))
		after(time.Second)
		n := len(a2.host.Events())
		expect(t, "applied", a2.host.Events()[n-1], "apply "+unitName)
		expect(t, "in force", w.report(2, "haproxy").Loaded, plan.Hash(anotherConfig(2, "globals").Resources, nil))
		after(time.Minute)
		expect(t, "done", w.report(2, "haproxy").Done(rev), true)
	})
}

// A program that touches a file in a loop costs little.
func TestEventsWithoutDriftCostLittle(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		after(2 * time.Second)
		n, diffs, rev := len(a2.host.Events()), a2.host.Diffs(), w.etcd.Revision()
		for range 6000 {
			a2.host.Touch(unitName)
			time.Sleep(10 * time.Millisecond)
		}
		looked := a2.host.Diffs() - diffs
		expect(t, "compared in a minute", looked > 60 && looked < 150, true)
		expect(t, "acts", len(a2.host.Events()), n)
		expect(t, "writes", w.etcd.Revision(), rev)
		a2.host.DriftNow(unitName)
		after(600 * time.Millisecond)
		expect(t, "and drift is still repaired", len(a2.host.Events()), n+1)
	})
}

// Our own repair makes an event too; it is looked at once and that is all.
func TestOwnWritesDoNotWakeForEver(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		after(2 * time.Second)
		a2.host.EchoApplies(unitName)
		diffs := a2.host.Diffs()
		after(20 * time.Second)
		byClock := a2.host.Diffs() - diffs
		diffs = a2.host.Diffs()
		a2.host.DriftNow(unitName)
		after(20 * time.Second)
		expect(t, "compared for the event", a2.host.Diffs()-diffs-byClock <= 3, true)
	})
}

// ROLES section 6: a unit that its driver says only people stop is reported at once,
// and nothing is done about it.
func TestWhatPeopleStopIsOnlyReported(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.etcd.Put(layout.PlanKey("pg2", "c", "postgres"), string(plan.Encode(postgresPlan(2, 1))))
		w.etcd.Put(layout.Secret("c", "postgres"), secretValue)
		_, a2, _ := settle(t, w)
		after(5 * time.Second)
		a2.host.Fail("unit patroni@c.service", &plan.Refusal{Reason: observed.Stopped, Message: "patroni@c is stopped", Next: "systemctl start patroni@c"})
		a2.host.DriftNow("patroni@c.service")
		after(500 * time.Millisecond)
		expect(t, "reason", applied(t, w.report(2, "postgres")).Reason, observed.Stopped)
		a2.host.Fail("unit patroni@c.service", nil)
	})
}

func TestSetByHandInHAProxyIsReported(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		after(2 * time.Second)
		a2.host.SetByHand("server primary/m1", "maint")
		after(agent.AssertEvery + 300*time.Millisecond)
		mentions(t, "fact", w.report(2, "haproxy").Facts["repaired"], "server primary/m1: maint")
		expect(t, "counted", a2.metric(t, "pgagent_drift_total"), 1)
		expect(t, "ready", applied(t, w.report(2, "haproxy")).Status, observed.True)
		rev := w.etcd.Revision()
		for range 120 {
			a2.host.SetByHand("server primary/m1", "drain")
			after(agent.AssertEvery)
		}
		expect(t, "said", drifted(t, w.report(2, "haproxy")) != nil, true)
		expect(t, "reports in a minute", w.etcd.Revision()-rev < 12, true)
		after(2 * time.Minute)
		expect(t, "over", applied(t, w.report(2, "haproxy")).Status, observed.True)
	})
}

// While somebody has frozen it, what people set by hand in HAProxy is theirs; the
// leader is followed all the same.
func TestHandsOffWhileFrozen(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		path := a2.freeze(t, "freeze.c", "")
		after(2 * time.Second)
		last := func() bool { as := a2.host.Asserts(); return as[len(as)-1].HandsOff }
		expect(t, "hands off", last(), true)
		thaw(t, path)
		after(2 * time.Second)
		expect(t, "hands on", last(), false)
	})
}

func TestFailedRepairIsRetried(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		after(2 * time.Second)
		a2.host.Fail("unit "+unitName, errors.New("disk full"))
		a2.host.DriftNow(unitName)
		after(10 * time.Second)
		expect(t, "reason", applied(t, w.report(2, "haproxy")).Reason, observed.ApplyFailed)
		a2.host.Fail("unit "+unitName, nil)
		after(agent.RetryCap)
		expect(t, "done", applied(t, w.report(2, "haproxy")).Status, observed.True)
		expect(t, "tried", slices.Contains(a2.host.Events(), "apply "+unitName), true)
	})
}

package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func frozenPlan(p plan.Plan, d time.Duration) string {
	p.Freeze = &plan.Freeze{Until: time.Now().Add(d), Owner: "bob@infra1", Reason: "disk\x1b[2J"}
	return string(plan.Encode(p))
}

// A freeze and a change that arrive together: the freeze wins; it ends at its time
// by the node's clock, with etcd away too.
func TestAPlansFreezeEndsByItself(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2, _ := settle(t, w)
		after(agent.SettleAfterMove) // reports wait for the move to be over
		n, loaded := len(a2.host.Events()), w.report(2, "haproxy").Loaded
		rev := w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), frozenPlan(anotherConfig(2, "globals"), 10*time.Minute))
		a2.host.DriftNow(unitName)
		after(time.Second)
		r := w.report(2, "haproxy")
		expect(t, "answered", r.Plan, rev)
		expect(t, "in force", r.Loaded, loaded)
		expect(t, "acts", len(a2.host.Events()), n)
		c := applied(t, r)
		expect(t, "reason", c.Reason, observed.Frozen)
		mentions(t, "the condition", c.Message, "is left so", "until 20", "as bob@infra1 asked (disk [2J)")
		expect(t, "next", c.Next, "pgctrl unfreeze c haproxy")
		mentions(t, "the note", frozenNote(r), "nothing of c's haproxy is applied or repaired on node pg2")
		why := ""
		for _, c := range a2.Status().Clusters[0].Why {
			why += string(c.Reason)
		}
		mentions(t, "pgagent status", why, "Frozen")

		quiet := w.etcd.Revision()
		after(5 * time.Minute)
		expect(t, "R8", w.etcd.Revision(), quiet)

		// It follows the leader, and leaves what people set by hand.
		a1.host.SetPostgres(recovering())
		w.leader(3)
		w.agents["pg3"].host.SetPostgres(writable(2))
		after(time.Second)
		expect(t, "routes", held(a2, "primary"), "m1=down m2=down m3=up")
		as := a2.host.Asserts()
		expect(t, "hands off", as[len(as)-1].HandsOff, true)

		w.etcd.Cut("pg2")
		after(4 * time.Minute)
		expect(t, "acts to the end", len(a2.host.Events()), n)
		after(time.Minute)
		expect(t, "acts after it", strings.Join(a2.host.Events()[n:], ", "), "apply "+unitName)
		w.etcd.Heal("pg2")
		after(time.Minute)
		expect(t, "done", w.report(2, "haproxy").Done(rev), true)
		expect(t, "note", frozenNote(w.report(2, "haproxy")), "")
	})
}

// Only its own concern is frozen.
func TestAPlansFreezeIsOfOneConcern(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.etcd.Put(layout.Secret("c", "postgres"), secretValue)
		w.etcd.Put(layout.PlanKey("pg2", "c", "postgres"), string(plan.Encode(postgresPlan(2, 1))))
		_, a2, _ := settle(t, w)
		w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), frozenPlan(haproxyPlan(2), time.Hour))
		after(2 * time.Second)
		n := len(a2.host.Events())
		a2.host.DriftNow(unitName)
		a2.host.DriftNow("patroni@c.service")
		after(time.Second)
		expect(t, "acts", strings.Join(a2.host.Events()[n:], ", "), "apply patroni@c.service")
		// A freeze that is taken back ends at once, and drift is repaired.
		w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), string(plan.Encode(haproxyPlan(2))))
		after(time.Second)
		expect(t, "acts", strings.Join(a2.host.Events()[n+1:], ", "), "apply "+unitName)
	})
}

// An agent that starts again without etcd knows that it is frozen, and goes on with
// what was in force.
func TestAPlansFreezeSurvivesARestartWithoutEtcd(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		after(2 * time.Second)
		w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), frozenPlan(anotherConfig(2, "globals"), 10*time.Minute))
		after(time.Second)
		a2.stop()
		w.etcd.Cut("pg2")
		n := len(a2.host.Events())
		a2 = w.startOn(2, a2.dir, a2.host)
		a2.host.DriftNow(unitName)
		after(5 * time.Minute)
		expect(t, "acts while frozen", len(a2.host.Events()), n)
		old, _, err := agent.LoadKept(a2.dir, "c", "haproxy")
		if err != nil || old.Resources[0].(plan.Unit).Files[0].Content != "global" || !old.Freeze.Active(time.Now()) {
			t.Fatalf("kept: %+v %v", old, err)
		}
		after(6 * time.Minute)
		expect(t, "acts after it", strings.Join(a2.host.Events()[n:], ", "), "prepare "+unitName+", apply "+unitName)
	})
}

package agent_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func poolerPlan(i int) plan.Plan {
	p := haproxyPlan(i)
	p.Resources = plan.Resources{plan.Unit{Unit: "pgbouncer@c.service", Program: plan.Pooler,
		Files: []plan.File{{Path: "/etc/pgbouncer/c.ini", Mode: "0640", Content: "[pgbouncer]"}}}}
	return p
}

// pooling brings up three agents with poolers, which the service primary and replica
// go through and the service default goes past.
func pooling(t *testing.T, w *world) []*running {
	for i := 1; i <= 3; i++ {
		p := haproxyPlan(i)
		routes := p.Resources[0].(plan.Unit).Routes
		routes["default"] = routes["primary"]
		for _, name := range []string{"primary", "replica"} {
			r := routes[name]
			r.Pooled = true
			routes[name] = r
		}
		w.etcd.Put(layout.PlanKey(node(i), "c", "haproxy"), string(plan.Encode(p)))
		w.etcd.Put(layout.PlanKey(node(i), "c", "pgbouncer"), string(plan.Encode(poolerPlan(i))))
	}
	a1, a2, a3 := settle(t, w)
	return []*running{a1, a2, a3}
}

func (w *world) ready(i int) string {
	v, _, ok := w.etcd.Get(layout.ReadyKey("c", member(i)))
	if !ok {
		return "unknown"
	}
	var r observed.Ready
	if err := json.Unmarshal([]byte(v), &r); err != nil {
		w.t.Fatal(err)
	}
	return r.Pooler
}

// TestPoolerDown: only an explicit "down" takes a member out, on every node, of the
// pooled services and of no other; a key that is gone means unknown.
func TestPoolerDown(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		as := pooling(t, w)
		everywhere := func(what, primary, replica string) {
			t.Helper()
			for _, a := range as {
				expect(t, what+": primary", held(a, "primary"), primary)
				expect(t, what+": replica", held(a, "replica"), replica)
				expect(t, what+": default", held(a, "default"), "m1=up m2=down m3=down")
			}
		}
		expect(t, "nothing known of the pooler", w.ready(1), "unknown")
		for _, a := range as {
			a.host.Pooler().Set("")
		}
		after(100 * time.Millisecond)
		expect(t, "ready", w.ready(1)+w.ready(2)+w.ready(3), "upupup")
		everywhere("all up", "m1=up m2=down m3=down", "m1=down m2=leave m3=leave")

		as[0].host.Pooler().Set("its process ended")
		as[1].host.Pooler().Set("its process is stopped by a signal")
		after(20 * time.Millisecond) // etcd and HAProxy take no time here: the agent's own waits count
		everywhere("two down", "m1=down m2=down m3=down", "m1=down m2=down m3=leave")
		after(time.Second)
		if c, ok := w.report(1, "pgbouncer").Condition(observed.Healthy); !ok || c.Reason != observed.PoolerNotServing || !strings.Contains(c.Message, "process ended") {
			t.Errorf("reported as %v", c)
		}

		as[0].host.Pooler().Set("")
		after(20 * time.Millisecond)
		everywhere("one back", "m1=up m2=down m3=down", "m1=down m2=down m3=leave")

		// Its agent is gone: what it said holds for as long as its lease, and then nobody
		// knows.
		w.etcd.Cut(node(2))
		after(5 * time.Second)
		expect(t, "ready", w.ready(2), "down")
		as = []*running{as[0], as[2]}
		everywhere("agent gone a moment ago", "m1=up m2=down m3=down", "m1=down m2=down m3=leave")
		after(10 * time.Second)
		expect(t, "ready", w.ready(2), "unknown")
		everywhere("agent gone", "m1=up m2=down m3=down", "m1=down m2=leave m3=leave")
	})
}

// TestPoolerAlone: a pooler whose PostgreSQL takes no connections gets no new clients,
// on any node, and keeps those it has until another member is confirmed.
func TestPoolerAlone(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		as := pooling(t, w)
		for _, a := range as {
			a.host.Pooler().Set("")
		}
		after(100 * time.Millisecond)
		as[0].host.SetPostgres(agent.PostgresState{}) // it says nothing, which is no word
		after(time.Second)
		expect(t, "silent", w.ready(1), "up")
		as[0].host.SetPostgres(agent.PostgresState{Refused: true})
		after(300 * time.Millisecond)
		expect(t, "gone", w.ready(1), "alone")
		for _, a := range as {
			expect(t, "primary", held(a, "primary"), "m1=down/stay m2=down m3=down")
			expect(t, "replica", held(a, "replica"), "m1=down m2=leave m3=leave")
			expect(t, "default", held(a, "default"), "m1=up m2=down m3=down")
		}
		if c, ok := w.report(1, "pgbouncer").Condition(observed.Healthy); ok && c.Bad() {
			t.Errorf("the pooler is reported as %v", c)
		}
		w.leader(2)
		as[1].host.SetPostgres(writable(2))
		after(300 * time.Millisecond)
		for _, a := range as[1:] {
			expect(t, "primary after the move", held(a, "primary"), "m1=down m2=up m3=down")
		}
		as[0].host.SetPostgres(recovering())
		after(time.Second)
		expect(t, "back", w.ready(1), "up")
	})
}

// TestPoolerDownWhileEtcdIsAway: who can't know leaves it to HAProxy's checks.
func TestPoolerDownWhileEtcdIsAway(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		as := pooling(t, w)
		for _, a := range as {
			a.host.Pooler().Set("")
		}
		after(100 * time.Millisecond)
		w.etcd.Cut(node(1))
		as[0].host.Pooler().Set("its process ended")
		after(20 * time.Millisecond)
		expect(t, "its own node", held(as[0], "primary"), "m1=down m2=down m3=down")
		expect(t, "another node", held(as[2], "primary"), "m1=up m2=down m3=down")
	})
}

// TestPoolerResumed: what was paused by hand is reported, and left alone when frozen.
func TestPoolerResumed(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		as := pooling(t, w)
		as[0].host.Pooler().Set("")
		as[0].host.Pooler().Resumed("database app")
		after(time.Second)
		if got := w.report(1, "pgbouncer").Facts["repaired"]; got != "1 times; last database app: paused" {
			t.Errorf("repaired %q", got)
		}
		if as[0].host.Pooler().IsHandsOff() {
			t.Error("hands off and not frozen")
		}
		p := poolerPlan(1)
		p.Freeze = &plan.Freeze{Until: time.Now().Add(time.Hour)}
		w.etcd.Put(layout.PlanKey(node(1), "c", "pgbouncer"), string(plan.Encode(p)))
		after(time.Second)
		if !as[0].host.Pooler().IsHandsOff() {
			t.Error("frozen and not left alone")
		}
	})
}

// TestPoolerRemoved: its agent vouches for it no more.
func TestPoolerRemoved(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		as := pooling(t, w)
		as[1].host.Pooler().Set("")
		after(100 * time.Millisecond)
		expect(t, "ready", w.ready(2), "up")
		w.etcd.Put(layout.PlanKey(node(2), "c", "pgbouncer"), string(plan.Encode(plan.Removes(poolerPlan(2), plan.Removal{}))))
		after(time.Second)
		expect(t, "ready", w.ready(2), "unknown")
	})
}

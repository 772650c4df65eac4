package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/agent/agenttest"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func applied(t *testing.T, r observed.Report) observed.Condition {
	t.Helper()
	c, ok := r.Condition(observed.Applied)
	if !ok {
		t.Fatalf("report has no Applied condition: %+v", r)
	}
	return c
}

func TestR6_VanishedPlanMeansKeep(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		w.etcd.Delete(layout.PlanKey("pg2", "c", "haproxy"))
		n := len(a2.host.Events())
		after(10 * time.Second)
		expect(t, "acts on the host", len(a2.host.Events()), n)
		if c, ok := w.report(2, "haproxy").Condition(observed.Planned); !ok || c.Reason != observed.Unmanaged {
			t.Fatalf("the report does not say Unmanaged: %+v", w.report(2, "haproxy"))
		}
		a2.host.SetPostgres(writable(2))
		w.leader(2)
		after(100 * time.Millisecond)
		expect(t, "it still follows the leader", held(a2, "primary"), "m1=down m2=up m3=down")
	})
}

func TestR4_UnusablePlanKeepsTheLastGoodOne(t *testing.T) {
	other := haproxyPlan(2)
	other.Store = "S2"
	reborn := haproxyPlan(2)
	reborn.UID = "U2"
	newer := haproxyPlan(2)
	newer.Schema = plan.Schema + 1
	for name, c := range map[string]struct {
		value  string
		reason observed.Reason
	}{
		"not JSON":        {"{", observed.UnsupportedSchema},
		"unknown kind":    {`{"schema":1,"cluster":{"name":"c"},"resources":[{"pool":"x"}]}`, observed.UnsupportedSchema},
		"newer schema":    {string(plan.Encode(newer)), observed.UnsupportedSchema},
		"other store":     {string(plan.Encode(other)), observed.StoreChanged},
		"earlier cluster": {string(plan.Encode(reborn)), observed.StoreChanged},
		"too large":       {strings.Repeat(" ", plan.MaxSize+1), observed.PlanTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				_, a2, _ := settle(t, w)
				after(agent.SettleAfterMove) // reports wait for the move to be over
				n := len(a2.host.Events())
				loaded := w.report(2, "haproxy").Loaded
				rev := w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), c.value)
				after(6 * time.Second)
				r := w.report(2, "haproxy")
				expect(t, "reason", applied(t, r).Reason, c.reason)
				expect(t, "the report answers the new plan", r.Plan, rev)
				expect(t, "what is in force", r.Loaded, loaded)
				expect(t, "acts on the host", len(a2.host.Events()), n)
				expect(t, "routes", held(a2, "primary"), "m1=up m2=down m3=down")
				w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), string(plan.Encode(haproxyPlan(2))))
				after(time.Second)
				expect(t, "a good plan heals", applied(t, w.report(2, "haproxy")).Status, observed.True)
			})
		})
	}
}

func TestR11_SecretsAreReadOnDemandAndNeverLogged(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := settle(t, w)
		next := w.etcd.Revision() + 2
		w.etcd.Put(layout.PlanKey("pg1", "c", "postgres"), string(plan.Encode(postgresPlan(1, next))))
		after(1500 * time.Millisecond)
		expect(t, "reason", applied(t, w.report(1, "postgres")).Reason, observed.WaitingForSecret)
		expect(t, "nothing applied", slices.Contains(a1.host.Events(), "apply patroni@c.service"), false)
		expect(t, "secret revision", w.etcd.Put(layout.Secret("c", "postgres"), secretValue) >= next, true)
		after(2 * time.Second)
		expect(t, "applied", applied(t, w.report(1, "postgres")).Status, observed.True)
		expect(t, "in this order", strings.Join(a1.host.Events()[2:4], ", "), "prepare patroni@c.service, apply patroni@c.service")
		a1.host.Fail("unit patroni@c.service", errors.New("refused"))
		a1.host.Drift("patroni@c.service")
		after(time.Minute)
		assertNowhere(t, w, a1)
	})
}

// assertNowhere looks for the secret in the log, in etcd's reports, in the status
// and on the agent's disk.
func assertNowhere(t *testing.T, w *world, a *running) {
	t.Helper()
	if strings.Contains(w.logs.String(), secretValue) {
		t.Error("the secret is in the log")
	}
	v, _, _ := w.etcd.Get(layout.ObservedKey("pg1", "c", "postgres"))
	if v == "" || strings.Contains(v, secretValue) {
		t.Error("the secret is in the report, or there is none")
	}
	err := filepath.Walk(a.dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if b, err := os.ReadFile(path); err != nil || strings.Contains(string(b), secretValue) {
			t.Errorf("%s: the secret is on disk, or %v", path, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPatroniConfigIsWrittenByTheConfirmedLeadersAgentOnly(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		rev := w.etcd.Put(layout.Secret("c", "postgres"), secretValue)
		for i := 1; i <= 3; i++ {
			w.etcd.Put(layout.PlanKey(node(i), "c", "postgres"), string(plan.Encode(postgresPlan(i, rev))))
		}
		a1, a2, _ := settle(t, w)
		after(time.Second)
		has := func(a *running) bool {
			return slices.ContainsFunc(a.host.Events(), func(e string) bool { return strings.HasPrefix(e, "config c") })
		}
		expect(t, "pg1", has(a1), true)
		expect(t, "pg2", has(a2), false)
		expect(t, "pg2 has nothing to do", applied(t, w.report(2, "postgres")).Status, observed.True)
		a2.host.SetPostgres(writable(2))
		w.leader(2)
		after(time.Second)
		expect(t, "pg2 as the leader", has(a2), true)
	})
}

func TestDriftIsRepairedAndReported(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		n := len(a2.host.Events())
		a2.host.Drift("haproxy@c.service")
		after(agent.DriftEvery + time.Second)
		expect(t, "acts", strings.Join(a2.host.Events()[n:], ", "), "apply haproxy@c.service")
		if f := w.report(2, "haproxy").Facts["repaired"]; !strings.HasPrefix(f, "1 times") {
			t.Fatalf("the repair is not reported: %q", f)
		}
		if !slices.ContainsFunc(a2.host.Asserts()[1:], func(a agenttest.Assert) bool { return a.Edge }) {
			t.Fatal("routes were not asserted anew after HAProxy changed")
		}
	})
}

func TestRefusedUnitIsRetriedWithGrowingPauses(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		a2.host.Fail("unit haproxy@c.service", &plan.Refusal{Reason: observed.Rejected, Message: "unknown keyword"})
		p := haproxyPlan(2)
		u := p.Resources[0].(plan.Unit)
		u.Files = []plan.File{{Path: "/etc/haproxy/c.cfg", Mode: "0640", Content: "globl"}}
		p.Resources = plan.Resources{u}
		n := len(a2.host.Events())
		w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), string(plan.Encode(p)))
		after(5 * time.Minute)
		tries := len(a2.host.Events()) - n
		if tries < 8 || tries > 25 {
			t.Fatalf("%d attempts in 5 minutes", tries)
		}
		expect(t, "reason", applied(t, w.report(2, "haproxy")).Reason, observed.Rejected)
		expect(t, "routes go on", held(a2, "primary"), "m1=up m2=down m3=down")
		a2.host.Fail("unit haproxy@c.service", nil)
		w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), string(plan.Encode(haproxyPlan(2))))
		after(time.Second)
		expect(t, "a newer plan is tried at once", applied(t, w.report(2, "haproxy")).Status, observed.True)
	})
}

func TestPortInUseBeforeTheFirstApply(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		h := agenttest.New("machinepg1")
		h.Fail("prepare haproxy@c.service", &plan.Refusal{Reason: observed.PortInUse, Message: "5433 is held by postgres", Next: "pg_dropcluster 15 main"})
		w.startOn(1, "", h)
		after(time.Second)
		c := applied(t, w.report(1, "haproxy"))
		expect(t, "reason", c.Reason, observed.PortInUse)
		expect(t, "next", c.Next, "pg_dropcluster 15 main")
		expect(t, "nothing applied", slices.Contains(h.Events(), "apply haproxy@c.service"), false)
	})
}

// TestPlanWrittenAgainIsAnswered: a plan put a second time, byte for byte, has another
// revision, and a rollout waits for the answer to that one. The host is left alone.
func TestPlanWrittenAgainIsAnswered(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		after(agent.SettleAfterMove)
		n, conds := len(a2.host.Events()), len(w.report(2, "haproxy").Conditions)
		rev := w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), string(plan.Encode(haproxyPlan(2))))
		after(time.Second)
		r := w.report(2, "haproxy")
		expect(t, "the report answers the newer revision", r.Plan, rev)
		expect(t, "done", r.Done(rev), true)
		expect(t, "acts on the host", len(a2.host.Events()), n)
		expect(t, "conditions", len(r.Conditions), conds)
		// The same after a list: nothing of the watch was heard.
		w.etcd.Cut("pg2")
		rev = w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), string(plan.Encode(haproxyPlan(2))))
		after(time.Minute)
		w.etcd.Heal("pg2")
		after(20 * time.Second)
		expect(t, "after a list", w.report(2, "haproxy").Plan, rev)
	})
}

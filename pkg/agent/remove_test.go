package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// withPostgres gives every node its member's plan.
func withPostgres(w *world) {
	rev := w.etcd.Put(layout.Secret("c", "postgres"), secretValue)
	for i := 1; i <= 3; i++ {
		w.etcd.Put(layout.PlanKey(node(i), "c", "postgres"), string(plan.Encode(postgresPlan(i, rev))))
	}
}

// removal puts removals in place of both plans of a node, at one revision: a first one
// that came alone would be carried out before the other.
func removal(w *world, i int, whole bool) {
	postgres := plan.Removes(postgresPlan(i, 1), plan.Removal{Whole: whole, Data: "/data/c"})
	haproxy := plan.Removes(haproxyPlan(i), plan.Removal{Whole: whole})
	_, err := w.etcd.Connect("operator").KV.Txn(w.t.Context()).Then(
		clientv3.OpPut(layout.PlanKey(node(i), "c", "postgres"), string(plan.Encode(postgres))),
		clientv3.OpPut(layout.PlanKey(node(i), "c", "haproxy"), string(plan.Encode(haproxy))),
	).Commit()
	if err != nil {
		w.t.Fatal(err)
	}
}

func since(r *running, n int) string { return strings.Join(r.host.Events()[n:], ", ") }

func TestRemovalUndoesAndSaysSo(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		withPostgres(w)
		_, a2, _ := settle(t, w)
		after(6 * time.Second)
		n := len(a2.host.Events())
		removal(w, 2, false)
		after(3 * time.Second)
		expect(t, "acts, last concern first", since(a2, n), "remove haproxy@c.service, remove patroni@c.service, set aside /data/c")
		r := w.report(2, "postgres")
		expect(t, "report", applied(t, r).Reason, observed.Removed)
		expect(t, "done", r.Done(r.Plan), true)
		expect(t, "nothing is loaded", r.Loaded, "")
		expect(t, "it says where the data are", strings.Contains(applied(t, r).Message, "its data are kept in /data/c.removed-U1"), true)
		after(time.Minute)
		expect(t, "once", len(a2.host.Events()), n+3)

		// A restart knows that it is done.
		a2.stop()
		again := w.start(2, a2.dir)
		after(10 * time.Second)
		expect(t, "acts after a restart", since(again, 0), "")
		expect(t, "report after a restart", applied(t, w.report(2, "postgres")).Reason, observed.Removed)

		for _, concern := range []string{"haproxy", "postgres"} {
			w.etcd.Delete(layout.PlanKey("pg2", "c", concern))
		}
		after(10 * time.Second)
		for _, concern := range []string{"haproxy", "postgres"} {
			if _, _, there := w.etcd.Get(layout.ObservedKey("pg2", "c", concern)); there {
				t.Errorf("the report of %s is left", concern)
			}
		}
		if _, err := os.Stat(filepath.Join(again.dir, "plans", "c")); !os.IsNotExist(err) {
			t.Errorf("plans are left on disk: %v", err)
		}
		expect(t, "clusters", len(again.Status().Clusters), 0)
		after(time.Minute)
		expect(t, "it is well", again.Healthy(), nil)

		// The member comes back.
		rev := w.etcd.Put(layout.Secret("c", "postgres"), secretValue)
		w.etcd.Put(layout.PlanKey("pg2", "c", "postgres"), string(plan.Encode(postgresPlan(2, rev))))
		after(3 * time.Second)
		expect(t, "back", since(again, 0), "prepare patroni@c.service, apply patroni@c.service")
	})
}

// TestRemovalForgottenAfterDowntime: the key went while the agent was away; only a
// complete view of the node's plans tells it so.
func TestRemovalForgottenAfterDowntime(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		withPostgres(w)
		_, a2, _ := settle(t, w)
		after(6 * time.Second)
		removal(w, 2, false)
		after(3 * time.Second)
		a2.stop()
		for _, concern := range []string{"haproxy", "postgres"} {
			w.etcd.Delete(layout.PlanKey("pg2", "c", concern))
		}
		again := w.start(2, a2.dir)
		after(10 * time.Second)
		expect(t, "clusters", len(again.Status().Clusters), 0)
		if _, _, there := w.etcd.Get(layout.ObservedKey("pg2", "c", "postgres")); there {
			t.Error("its report is left")
		}
	})
}

// TestR14AgentKeepsItsLeader: whatever plan comes, an agent stops its member only
// while it knows that another one leads.
func TestR14AgentKeepsItsLeader(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		withPostgres(w)
		a1, a2, _ := settle(t, w)
		after(6 * time.Second)
		n := len(a1.host.Events())
		removal(w, 1, false)
		after(time.Minute)
		expect(t, "acts on the leader", since(a1, n), "")
		expect(t, "reason", applied(t, w.report(1, "postgres")).Reason, observed.Leading)
		expect(t, "it is still served", held(a2, "primary"), "m1=up m2=down m3=down")
		w.etcd.Delete(layout.Leader("c"))
		after(10 * time.Second)
		expect(t, "acts without a leader", since(a1, n), "")
		a2.host.SetPostgres(writable(2))
		w.leader(2)
		after(10 * time.Second)
		expect(t, "acts after another leads", since(a1, n), "remove haproxy@c.service, remove patroni@c.service, set aside /data/c")
	})
}

func TestRemovalOfTheWholeClusterAndANewOneOfItsName(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		withPostgres(w)
		a1, _, _ := settle(t, w)
		after(6 * time.Second)
		n := len(a1.host.Events())
		removal(w, 1, true)
		after(3 * time.Second)
		expect(t, "acts", since(a1, n), "remove haproxy@c.service, remove patroni@c.service, set aside /data/c")
		// Its agent has not yet seen the keys go when the next cluster's plans come.
		reborn := haproxyPlan(1)
		reborn.UID = "U2"
		w.etcd.Put(layout.PlanKey("pg1", "c", "haproxy"), string(plan.Encode(reborn)))
		after(3 * time.Second)
		expect(t, "the new cluster's plan", applied(t, w.report(1, "haproxy")).Status, observed.True)
		expect(t, "acts", since(a1, n+3), "prepare haproxy@c.service, apply haproxy@c.service")
		if p := a1.Status().Clusters[0].Primary; p != nil && p.System != system {
			t.Errorf("it believes the old cluster's record: %+v", p)
		}
	})
}

func TestRemovalWaitsForAFreezeAndTriesAgain(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		withPostgres(w)
		_, a2, _ := settle(t, w)
		after(6 * time.Second)
		n := len(a2.host.Events())
		file := filepath.Join(a2.dir, "freeze.c")
		if err := os.WriteFile(file, []byte("hands off\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		removal(w, 2, false)
		after(20 * time.Second)
		expect(t, "acts while frozen", since(a2, n), "")
		expect(t, "reason", applied(t, w.report(2, "postgres")).Reason, observed.Frozen)
		a2.host.Fail("remove haproxy@c.service", errors.New("no"))
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		after(20 * time.Second)
		if got := since(a2, n); strings.Contains(got, "patroni") || strings.Count(got, "remove haproxy") < 2 {
			t.Errorf("acts: %s", got)
		}
		expect(t, "reason", applied(t, w.report(2, "postgres")).Reason, observed.Removing)
		a2.host.Fail("remove haproxy@c.service", nil)
		after(time.Minute)
		expect(t, "reason", applied(t, w.report(2, "postgres")).Reason, observed.Removed)
	})
}

// TestR6RemovalWithoutItsPlanIsKept: a removal that is not done does not become one
// by its key's vanishing.
func TestR6RemovalWithoutItsPlanIsKept(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		withPostgres(w)
		a1, _, _ := settle(t, w)
		after(6 * time.Second)
		removal(w, 1, false) // it leads, so nothing happens
		after(3 * time.Second)
		w.etcd.Delete(layout.PlanKey("pg1", "c", "postgres"))
		w.etcd.Delete(layout.PlanKey("pg1", "c", "haproxy"))
		n := len(a1.host.Events())
		after(20 * time.Second)
		expect(t, "acts", since(a1, n), "")
		expect(t, "clusters", len(a1.Status().Clusters), 1)
	})
}

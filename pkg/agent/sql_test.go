package agent_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// databasesPlan has a role with a password and one without.
func databasesPlan(i int, secret int64, roles ...plan.Role) plan.Plan {
	p := haproxyPlan(i)
	p.Schema, p.Secrets = plan.SchemaSQL, map[string]int64{"users/app": secret}
	p.Resources = plan.Resources{plan.SQL{SQL: "c", Roles: append([]plan.Role{{Name: "app", Password: "users/app", Login: true}}, roles...)}}
	return p
}

// planSQL writes the plans of all nodes.
func (w *world) planSQL(secret int64, roles ...plan.Role) {
	for i := 1; i <= 3; i++ {
		w.etcd.Put(layout.PlanKey(node(i), "c", "databases"), string(plan.Encode(databasesPlan(i, secret, roles...))))
	}
}

func appliedOf(r observed.Report) string {
	var out []string
	for _, c := range r.Conditions {
		if c.Type == observed.Applied {
			out = append(out, c.String())
		}
	}
	return strings.Join(out, "; ")
}

// TestSQLOnTheConfirmedPrimaryAlone: at once on a plan, again by the next primary's
// agent, and by nobody else.
func TestSQLOnTheConfirmedPrimaryAlone(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		secret := w.etcd.Put(layout.Secret("c", "users/app"), secretValue)
		a1, a2, a3 := settle(t, w)
		after(5 * time.Second)
		w.planSQL(secret)
		after(20 * time.Millisecond)
		expect(t, "made", strings.Contains(a1.host.SQL().Objects["role app"], secretValue), true)
		after(time.Second)
		for i, a := range []*running{a2, a3} {
			expect(t, "runs on a replica", a.host.SQL().Runs, 0)
			if got := appliedOf(w.report(i+2, "databases")); got != "Applied=True" {
				t.Fatalf("a replica's agent says %s", got)
			}
		}
		_, rev, _ := w.etcd.Get(layout.PlanKey("pg1", "c", "databases"))
		expect(t, "the leader's report is done", w.report(1, "databases").Done(rev), true)
		// Idle: looked at, and nothing written.
		runs, etcd := a1.host.SQL().Runs, w.etcd.Revision()
		after(time.Minute)
		if n := a1.host.SQL().Runs - runs; n < 10 || n > 15 {
			t.Fatalf("%d looks in a minute", n)
		}
		expect(t, "revision of etcd", w.etcd.Revision(), etcd)
		// A failover: the next one goes through everything, the last one does no more.
		a1.host.SetPostgres(recovering())
		epoch := w.leader(2)
		after(100 * time.Millisecond)
		expect(t, "before it takes writes", a2.host.SQL().Runs, 0)
		a2.host.SetPostgres(writable(2))
		after(2 * time.Second)
		expect(t, "epoch", int64(a2.host.SQL().Epochs[0]), epoch)
		runs = a1.host.SQL().Runs
		after(time.Minute)
		expect(t, "runs on the former primary", a1.host.SQL().Runs, runs)
		secretIsNowhere(t, w)
	})
}

// secretIsNowhere: no log line, no key but the secret's has a password (R11).
func secretIsNowhere(t *testing.T, w *world) {
	t.Helper()
	if strings.Contains(w.logs.String(), secretValue) {
		t.Fatal("a password is in the log")
	}
	for i := 1; i <= 3; i++ {
		for _, key := range []string{layout.PlanKey(node(i), "c", "databases"), layout.ObservedKey(node(i), "c", "databases")} {
			if v, _, _ := w.etcd.Get(key); strings.Contains(v, secretValue) {
				t.Fatalf("a password is in %s", key)
			}
		}
	}
}

// TestR9SQLDrift: what somebody changed in the database is put back within ten
// seconds and reported; with a freeze it is only reported.
func TestR9SQLDrift(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		secret := w.etcd.Put(layout.Secret("c", "users/app"), secretValue)
		a1, _, _ := settle(t, w)
		w.planSQL(secret)
		after(2 * time.Second)
		a1.host.DriftSQL("role app")
		after(10 * time.Second)
		if s := a1.host.SQL().Objects["role app"]; s == "changed by hand" {
			t.Fatal("drift stays")
		}
		if got := w.report(1, "databases").Facts["repaired"]; !strings.Contains(got, "role app") {
			t.Fatalf("reported: %q", got)
		}
		for i := 1; i <= 3; i++ {
			p := databasesPlan(i, secret)
			p.Freeze = &plan.Freeze{Until: time.Now().Add(time.Minute), Reason: "why"}
			w.etcd.Put(layout.PlanKey(node(i), "c", "databases"), string(plan.Encode(p)))
		}
		after(time.Second)
		a1.host.DriftSQL("role app")
		after(15 * time.Second)
		expect(t, "frozen", a1.host.SQL().Objects["role app"], "changed by hand")
		if got := appliedOf(w.report(1, "databases")); !strings.Contains(got, "Frozen") || !strings.Contains(got, "role app") {
			t.Fatalf("a frozen drift says %s", got)
		}
		after(time.Minute)
		if s := a1.host.SQL().Objects["role app"]; s == "changed by hand" {
			t.Fatal("drift stays after the freeze")
		}
	})
}

// TestOneBadSQLObject: it is said by its key, in PostgreSQL's words; the others are made.
func TestOneBadSQLObject(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		secret := w.etcd.Put(layout.Secret("c", "users/app"), secretValue)
		a1, _, _ := settle(t, w)
		a1.host.Fail("role bad", errors.New(`PostgreSQL says: role "nobody" does not exist`))
		w.planSQL(secret, plan.Role{Name: "bad"}, plan.Role{Name: "good"})
		after(2 * time.Second)
		_, made := a1.host.SQL().Objects["role good"]
		expect(t, "the good one is made", made, true)
		r := w.report(1, "databases")
		_, rev, _ := w.etcd.Get(layout.PlanKey("pg1", "c", "databases"))
		expect(t, "done", r.Done(rev), false)
		if got := appliedOf(r); !strings.Contains(got, `role "nobody" does not exist`) {
			t.Fatalf("report %s", got)
		}
		a1.host.Fail("role bad", nil)
		after(6 * time.Second)
		expect(t, "done at last", w.report(1, "databases").Done(rev), true)
	})
}

// TestOtherRolesAreOfThisPlan: which roles nobody described is said of the plan that the report
// is about, and not while it is still being gone through.
func TestOtherRolesAreOfThisPlan(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		secret := w.etcd.Put(layout.Secret("c", "users/app"), secretValue)
		a1, _, _ := settle(t, w)
		said := func() (of int64, said bool) {
			r := w.report(1, "databases")
			_, said = r.Facts[observed.FactOtherRoles]
			return r.Plan, said
		}
		w.planSQL(secret)
		after(2 * time.Second)
		_, first, _ := w.etcd.Get(layout.PlanKey("pg1", "c", "databases"))
		if of, there := said(); of != first || !there {
			t.Fatalf("of revision %d, said: %v", of, there)
		}
		a1.host.SlowSQL(20 * time.Second)
		w.planSQL(secret, plan.Role{Name: "more"})
		after(10 * time.Second)
		_, second, _ := w.etcd.Get(layout.PlanKey("pg1", "c", "databases"))
		if of, there := said(); of != second || there {
			t.Errorf("of revision %d, not %d, said: %v", of, second, there)
		}
		after(30 * time.Second)
		if of, there := said(); of != second || !there {
			t.Errorf("gone through, of revision %d, not %d, said: %v", of, second, there)
		}
		p := databasesPlan(1, secret)
		p.Schema = 99 // it is refused, and the one before stays in force
		third := w.etcd.Put(layout.PlanKey("pg1", "c", "databases"), string(plan.Encode(p)))
		after(30 * time.Second)
		if of, there := said(); of != third || there {
			t.Errorf("refused, of revision %d, not %d, said: %v", of, third, there)
		}
	})
}

// TestSQLNeedsLocalProof: a confirmation that another agent wrote is not enough, nor a
// view that is stale.
func TestSQLNeedsLocalProof(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		secret := w.etcd.Put(layout.Secret("c", "users/app"), secretValue)
		a1, _, _ := settle(t, w)
		a1.host.SetPostgres(agent.PostgresState{Reachable: true, System: "another", Timeline: 1})
		after(300 * time.Millisecond) // until it was asked
		w.planSQL(secret)
		after(10 * time.Second)
		expect(t, "runs on another system", a1.host.SQL().Runs, 0)
		a1.host.SetPostgres(writable(1))
		after(10 * time.Second)
		if a1.host.SQL().Runs == 0 {
			t.Fatal("it never begins")
		}
		w.etcd.Cut("pg1")
		after(10 * time.Second)
		runs := a1.host.SQL().Runs
		after(time.Minute)
		expect(t, "runs with a stale view", a1.host.SQL().Runs, runs)
		w.etcd.Heal("pg1")
		after(30 * time.Second)
	})
}

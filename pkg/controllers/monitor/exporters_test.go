package monitor

import (
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/controllers/pgbouncer"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// TestAnExporterMovesAfterItsPooler: while a role takes over it stays with the former
// until its own PgBouncer knows the other.
func TestAnExporterMovesAfterItsPooler(t *testing.T) {
	m := formed(t)
	controllertest.Put(m, "/pg/pg-test/members/pg-test-1", `{"state":"running","role":"master"}`)
	settle := func() {
		controllertest.Settle(t, pgbouncer.New(), m, "pg-test")
		controllertest.Settle(t, New(), m, "pg-test")
	}
	secret := func() string {
		p, _ := storedPlan(t, m, "pg1", "pg-test", Concern)
		var out []string
		for name := range p.Secrets {
			out = append(out, name)
		}
		return strings.Join(out, " ")
	}
	answer := func(node, concern string, facts map[string]string) {
		e, ok := m.Get(keys.Default.PlanKey(node, "pg-test", concern))
		if !ok && concern != "databases" {
			t.Fatalf("%s has no plan for %s", node, concern)
		}
		uid := ""
		if p, ok := storedPlan(t, m, node, "pg-test", "postgres"); ok {
			uid = p.UID
		}
		controllertest.Put(m, keys.Default.ObservedKey(node, "pg-test", concern), string(observed.Encode(observed.Report{
			Schema: observed.Schema, Concern: concern, UID: uid, Plan: e.ModRevision, Loaded: "x", Facts: facts,
			Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True}},
		})))
	}
	settle()
	for _, n := range []string{"pg1", "pg2", "pg3"} {
		answer(n, "pgbouncer", nil)
	}
	if secret() != "monitor" {
		t.Fatalf("it begins with %q", secret())
	}
	controllertest.Put(m, keys.Default.Secret("pg-test", "monitor_b"), "hush hush")
	settle()
	if secret() != "monitor" {
		t.Errorf("PostgreSQL does not have the role yet: %q", secret())
	}
	e, _ := m.Get(keys.Default.Secret("pg-test", "monitor_b"))
	for _, n := range []string{"pg1", "pg2", "pg3"} {
		answer(n, "databases", map[string]string{observed.FactLogins: observed.Login("pgctrl_monitor_b", e.ModRevision, "x")})
	}
	settle()
	if secret() != "monitor" {
		t.Errorf("its pooler does not know the role yet: %q", secret())
	}
	for range 4 {
		for _, n := range []string{"pg1", "pg2", "pg3"} {
			answer(n, "pgbouncer", nil)
		}
		settle()
	}
	if secret() != "monitor_b" {
		t.Errorf("when all know it: %q", secret())
	}
}

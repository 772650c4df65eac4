package pgbouncer

import (
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/controllers/postgres"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const docs = "/pgctrl/desired/clusters/pg-test/"

// cluster is a formed cluster with a leader and every password.
func cluster(t testing.TB, name, cluster, leader string) *kv.Map {
	t.Helper()
	m := controllertest.Load(t, "../postgres/testdata/"+name+".txtar")
	controllertest.Settle(t, postgres.New(), m, cluster)
	controllertest.Put(m, "/pg/"+cluster+"/leader", leader)
	controllertest.Settle(t, postgres.New(), m, cluster)
	controllertest.Put(m, keys.Default.Secret(cluster, "pooler"), "hush")
	controllertest.Put(m, keys.Default.Secret(cluster, "monitor"), "hush")
	return m
}

func planOf(t testing.TB, m *kv.Map, node, cluster string) plan.Plan {
	t.Helper()
	e, ok := m.Get(keys.Default.PlanKey(node, cluster, Concern))
	if !ok {
		t.Fatalf("node %s has no plan", node)
	}
	p, err := plan.Decode(e.Value)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func fileOf(t testing.TB, m *kv.Map, node, cluster string) string {
	t.Helper()
	return planOf(t, m, node, cluster).Resources[0].(plan.Unit).Files[0].Content
}

// answer lets a node's agent have its newest plan in force.
func answer(m *kv.Map, node, concern string, facts map[string]string) {
	e, ok := m.Get(keys.Default.PlanKey(node, "pg-test", concern))
	if !ok {
		return
	}
	applied := observed.Condition{Type: observed.Applied, Status: observed.True}
	if p, err := plan.Decode(e.Value); err == nil && p.Removal != nil {
		applied.Reason = observed.Removed
	}
	controllertest.Put(m, keys.Default.ObservedKey(node, "pg-test", concern), string(observed.Encode(observed.Report{
		Schema: 1, Concern: concern, Plan: e.ModRevision, Loaded: "x", Facts: facts, Conditions: []observed.Condition{applied},
	})))
}

func TestGolden(t *testing.T) {
	m := cluster(t, "small", "pg-test", "pg-test-1")
	if r := controllertest.Settle(t, New(), m, "pg-test"); len(r.Conditions) > 0 {
		t.Errorf("conditions %v", r.Conditions)
	}
	controllertest.Deterministic(t, New(), m, "pg-test")
	controllertest.Golden(t, "testdata/small/pg1.ini", []byte(fileOf(t, m, "pg1", "pg-test")))
	users := planOf(t, m, "pg1", "pg-test").Resources[0].(plan.Unit).Files[1].Content
	controllertest.Golden(t, "testdata/small/pg1.users", []byte(users))

	for _, n := range []string{"pg1", "pg2", "pg3"} {
		answer(m, n, Concern, map[string]string{"version.pgbouncer": "1.24.1"})
	}
	controllertest.Put(m, docs+"pgbouncer", `pool_mode: session
port: 6532
log_connections: true
databases: {app.pool_size: 50, app.pool_mode: transaction, app.reserve_pool: 3, my-db.max_db_connections: 9}
users: {batch.pool_mode: session, batch.max_user_connections: 4}`)
	for range 3 {
		if r := controllertest.Settle(t, New(), m, "pg-test"); len(r.Conditions) > 0 {
			t.Log(r.Conditions) // it goes from node to node
		}
		for _, n := range []string{"pg1", "pg2", "pg3"} {
			answer(m, n, Concern, map[string]string{"version.pgbouncer": "1.24.1"})
		}
	}
	controllertest.Golden(t, "testdata/rich/pg1.ini", []byte(fileOf(t, m, "pg1", "pg-test")))
}

// TestUsersOfAnOldPgBouncer: 1.18 would let a user with settings of its own not in.
func TestUsersOfAnOldPgBouncer(t *testing.T) {
	m := cluster(t, "small", "pg-test", "pg-test-1")
	controllertest.Put(m, docs+"pgbouncer", "users: {batch.pool_mode: session}")
	controllertest.Settle(t, New(), m, "pg-test")
	for _, n := range []string{"pg1", "pg2", "pg3"} {
		answer(m, n, Concern, map[string]string{"version.pgbouncer": "1.18.0"})
	}
	r := controllertest.Settle(t, New(), m, "pg-test")
	if len(r.Conditions) != 1 || r.Conditions[0].Reason != observed.Unsupported || !strings.Contains(r.Conditions[0].Message, "batch") {
		t.Errorf("conditions %v", r.Conditions)
	}
	if strings.Contains(fileOf(t, m, "pg1", "pg-test"), "batch") {
		t.Error("the user is in the file all the same")
	}
}

func TestFailoverChangesNoPlan(t *testing.T) {
	m := cluster(t, "small", "pg-test", "pg-test-1")
	controllertest.Settle(t, New(), m, "pg-test")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-2")
	if controllertest.Apply(m, controllertest.Run(t, New(), m, "pg-test")) {
		t.Error("a failover changed a plan")
	}
}

func TestR4BadDocumentChangesNothing(t *testing.T) {
	for _, bad := range []struct{ key, value string }{
		{docs + "pgbouncer", "pool_mode: pooled"},
		{docs + "pgbouncer", "databases: {app.pool_size: many}"},
		{docs + "pgbouncer", "port: 5433"}, // service primary has it
		{docs + "members/pg-test-3", "node: ["},
		{"/pgctrl/desired/defaults/pgbouncer", "port: 6500"}, // each has its own
	} {
		m := cluster(t, "small", "pg-test", "pg-test-1")
		controllertest.Settle(t, New(), m, "pg-test")
		controllertest.Put(m, bad.key, bad.value)
		if r := controllertest.Run(t, New(), m, "pg-test"); len(r.Outputs) != 0 || len(r.Conditions) == 0 {
			t.Errorf("%s: %q gave %d outputs, conditions %v", bad.key, bad.value, len(r.Outputs), r.Conditions)
		}
	}
}

// TestSwitchedOff: nobody is led to poolers before they go.
func TestSwitchedOff(t *testing.T) {
	m := cluster(t, "small", "pg-test", "pg-test-1")
	controllertest.Settle(t, New(), m, "pg-test")
	pooled := plan.Plan{Schema: 1, Resources: plan.Resources{plan.Unit{Unit: "haproxy@pg-test.service", Routes: map[string]plan.Route{"primary": {Pooled: true}}}}}
	controllertest.Put(m, keys.Default.PlanKey("pg1", "pg-test", "haproxy"), string(plan.Encode(pooled)))
	answer(m, "pg1", "haproxy", nil)
	controllertest.Put(m, docs+"pgbouncer", "enabled: false")
	r := controllertest.Settle(t, New(), m, "pg-test")
	if p := planOf(t, m, "pg1", "pg-test"); p.Removal != nil || len(r.Conditions) == 0 || r.Conditions[0].Reason != observed.Removing {
		t.Fatalf("removal %v while clients are led to it, %v", p.Removal, r.Conditions)
	}
	pooled.Resources = plan.Resources{plan.Unit{Unit: "haproxy@pg-test.service", Routes: map[string]plan.Route{"primary": {}}}}
	controllertest.Put(m, keys.Default.PlanKey("pg1", "pg-test", "haproxy"), string(plan.Encode(pooled)))
	answer(m, "pg1", "haproxy", nil)
	for range 6 {
		controllertest.Settle(t, New(), m, "pg-test")
		for _, n := range []string{"pg1", "pg2", "pg3"} {
			answer(m, n, Concern, nil)
		}
	}
	if left := m.Range(keys.Default.NodePlans("pg1")); len(left) != 2 { // postgres, haproxy
		t.Errorf("%d plans are left on pg1", len(left))
	}
	controllertest.Delete(m, docs+"pgbouncer")
	controllertest.Settle(t, New(), m, "pg-test")
	if p := planOf(t, m, "pg1", "pg-test"); p.Removal != nil {
		t.Error("it does not come back")
	}
}

// TestNoPoolerWithoutItsPassword: one that can look nobody up lets nobody in, and one
// that can goes on.
func TestNoPoolerWithoutItsPassword(t *testing.T) {
	m := cluster(t, "small", "pg-test", "pg-test-1")
	secret := keys.Default.Secret("pg-test", "pooler")
	controllertest.Delete(m, secret)
	waits := func() {
		t.Helper()
		r := controllertest.Run(t, New(), m, "pg-test")
		if len(r.Outputs) != 0 || len(r.Conditions) != 1 || r.Conditions[0].Reason != observed.WaitingForSecret || r.Conditions[0].Key != secret {
			t.Errorf("%d outputs, conditions %v", len(r.Outputs), r.Conditions)
		}
	}
	waits()
	controllertest.Put(m, secret, "hush")
	controllertest.Settle(t, New(), m, "pg-test")
	planOf(t, m, "pg1", "pg-test")
	controllertest.Delete(m, secret)
	waits()
}

// TestOneLineForEachDatabase: PgBouncer takes the last line of a name and forgets the
// earlier, and another name may come between the settings of one.
func TestOneLineForEachDatabase(t *testing.T) {
	m := cluster(t, "small", "pg-test", "pg-test-1")
	controllertest.Put(m, docs+"pgbouncer", "databases: {shop.min_pool_size: 3, shop.p.pool_size: 9, shop.pool_size: 7}")
	controllertest.Settle(t, New(), m, "pg-test")
	file := fileOf(t, m, "pg1", "pg-test")
	if n := strings.Count(file, "\nshop = "); n != 1 || !strings.Contains(file, " min_pool_size=3 pool_size=7\n") {
		t.Errorf("%d lines for shop in\n%s", n, file)
	}
}

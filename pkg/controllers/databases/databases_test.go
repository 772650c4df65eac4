package databases

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/controllers/postgres"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const docs = "/pgctrl/desired/clusters/pg-test/"

// formed is a cluster of three members that has formed.
func formed(t testing.TB) *kv.Map {
	t.Helper()
	m := controllertest.Load(t, "../postgres/testdata/small.txtar")
	controllertest.Settle(t, postgres.New(), m, "pg-test")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-1")
	controllertest.Settle(t, postgres.New(), m, "pg-test")
	controllertest.Settle(t, New(), m, "pg-test")
	says(m, "legacy")
	return m
}

// says lets the primary's agent report the roles that nobody described.
func says(m *kv.Map, names string) {
	e, _ := m.Get(keys.Default.PlanKey("pg1", "pg-test", Concern))
	controllertest.Put(m, keys.Default.ObservedKey("pg1", "pg-test", Concern), string(observed.Encode(observed.Report{
		Schema: 1, Concern: Concern, Plan: e.ModRevision, Facts: map[string]string{observed.FactOtherRoles: names},
		Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True}},
	})))
}

// TestRolesThatExist: a role that PostgreSQL has keeps its password until somebody
// gives another one, and nothing is made at random before it is known which it has.
func TestRolesThatExist(t *testing.T) {
	m := formed(t)
	controllertest.Put(m, docs+"users/legacy", "connection_limit: 5")
	for range 2 {
		r := controllertest.Settle(t, New(), m, "pg-test")
		if c := expect(t, r, observed.Unmanaged, "legacy"); c.Next != "pgctrl user passwd pg-test legacy" {
			t.Errorf("next: %s", c.Next)
		}
		a, there := role(t, m, "legacy")
		if _, minted := m.Get("/pgctrl/secrets/pg-test/users/legacy"); minted || !there || a.Password != "" || a.NoPassword || a.ConnectionLimit != 5 {
			t.Errorf("role %+v, a secret %v", a, minted)
		}
		says(m, "") // it is described now
	}
	controllertest.Put(m, "/pgctrl/secrets/pg-test/users/legacy", "x")
	controllertest.Settle(t, New(), m, "pg-test")
	if a, _ := role(t, m, "legacy"); a.Password != "users/legacy" {
		t.Errorf("with a password: %+v", a)
	}
	// The password is lost: no other one takes its place.
	controllertest.Delete(m, "/pgctrl/secrets/pg-test/users/legacy")
	r := controllertest.Settle(t, New(), m, "pg-test")
	expect(t, r, observed.Unmanaged, "legacy")
	if a, _ := role(t, m, "legacy"); a.Password != "" {
		t.Errorf("without: %+v", a)
	}
	// Everything is lost, and the documents are back first.
	for _, e := range append(m.Range("/pgctrl/plan/"), m.Range("/pgctrl/observed/")...) {
		if strings.HasSuffix(e.Key, "/databases") {
			controllertest.Delete(m, e.Key)
		}
	}
	r = controllertest.Settle(t, New(), m, "pg-test")
	expect(t, r, observed.WaitingForLeader, "legacy")
	if _, there := role(t, m, "legacy"); there {
		t.Error("it is planned before the primary said what it has")
	}
	says(m, "legacy")
	expect(t, controllertest.Settle(t, New(), m, "pg-test"), observed.Unmanaged, "legacy")
}

// TestARoleThatLosesItsDocumentForAMoment: what the primary said of an earlier plan, in which
// the role was described, is no word on which roles nobody described since.
func TestARoleThatLosesItsDocumentForAMoment(t *testing.T) {
	m := formed(t)
	controllertest.Put(m, docs+"users/legacy", "connection_limit: 5")
	expect(t, controllertest.Settle(t, New(), m, "pg-test"), observed.Unmanaged, "legacy")
	says(m, "") // it is described now
	controllertest.Delete(m, docs+"users/legacy")
	controllertest.Settle(t, New(), m, "pg-test")
	controllertest.Put(m, docs+"users/legacy", "connection_limit: 5")
	expect(t, controllertest.Settle(t, New(), m, "pg-test"), observed.WaitingForLeader, "legacy")
	if _, minted := m.Get("/pgctrl/secrets/pg-test/users/legacy"); minted {
		t.Error("a random password takes the place of its own")
	}
	says(m, "legacy")
	expect(t, controllertest.Settle(t, New(), m, "pg-test"), observed.Unmanaged, "legacy")
}

// TestAUserGetsAPasswordWhileAnotherPlanIsOnItsWay: it waits as it was, and then has one.
func TestAUserGetsAPasswordWhileAnotherPlanIsOnItsWay(t *testing.T) {
	m := formed(t)
	controllertest.Put(m, docs+"users/app", "password: none")
	controllertest.Settle(t, New(), m, "pg-test")
	says(m, "")
	controllertest.Put(m, docs+"users/more", "login: false")
	controllertest.Settle(t, New(), m, "pg-test")
	controllertest.Put(m, docs+"users/app", "connection_limit: 3")
	expect(t, controllertest.Settle(t, New(), m, "pg-test"), observed.WaitingForLeader, "app")
	if a, there := role(t, m, "app"); !there || !a.NoPassword {
		t.Fatalf("while it waits: %+v, planned %v", a, there)
	}
	says(m, "")
	controllertest.Settle(t, New(), m, "pg-test")
	if a, _ := role(t, m, "app"); a.Password != "users/app" || a.NoPassword || a.ConnectionLimit != 3 {
		t.Errorf("at last: %+v", a)
	}
}

func planOf(t testing.TB, m *kv.Map, node string) (plan.Plan, plan.SQL) {
	t.Helper()
	e, ok := m.Get(keys.Default.PlanKey(node, "pg-test", Concern))
	if !ok {
		return plan.Plan{}, plan.SQL{}
	}
	p, err := plan.Decode(e.Value)
	if err != nil {
		t.Fatal(err)
	}
	sql, _ := plan.SQLOf(p)
	return p, sql
}

func role(t testing.TB, m *kv.Map, name string) (plan.Role, bool) {
	t.Helper()
	_, sql := planOf(t, m, "pg1")
	for _, r := range sql.Roles {
		if r.Name == name {
			return r, true
		}
	}
	return plan.Role{}, false
}

// expect finds a condition.
func expect(t *testing.T, r controllers.Result, reason observed.Reason, message string) observed.Condition {
	t.Helper()
	for _, c := range r.Conditions {
		if c.Reason == reason && strings.Contains(c.String()+c.Key, message) {
			return c
		}
	}
	t.Errorf("no condition %s with %q in %v", reason, message, r.Conditions)
	return observed.Condition{}
}

const (
	appDoc  = "{member_of: [pg_read_all_data, reader], parameters: {statement_timeout: 30s, jit: false}, connection_limit: 20, comment: shop}"
	shopDoc = `{owner: app, locale: en_US.UTF-8, extensions: {pg_trgm: true, postgis: "schema=gis version=3.3.2", old: false}, schemas: {sales: "", audit: boss},
grants: ["SELECT, INSERT ON ALL TABLES IN SCHEMA sales TO reader", "all on table sales.t to public"], revokes: [CONNECT ON DATABASE FROM PUBLIC], parameters: {work_mem: 8MB}}`
)

func full(t testing.TB) *kv.Map {
	t.Helper()
	m := formed(t)
	controllertest.Put(m, docs+"users/app", appDoc)
	controllertest.Put(m, docs+"users/reader", "login: false")
	controllertest.Put(m, docs+"databases/shop", shopDoc)
	controllertest.Settle(t, New(), m, "pg-test")
	return m
}

func TestGolden(t *testing.T) {
	m := full(t)
	controllertest.Deterministic(t, New(), m, "pg-test")
	e, _ := m.Get(keys.Default.PlanKey("pg2", "pg-test", Concern))
	var got bytes.Buffer
	if err := json.Indent(&got, e.Value, "", "  "); err != nil {
		t.Fatal(err)
	}
	uid := strings.Split(strings.Split(got.String(), `"uid": "`)[1], `"`)[0]
	controllertest.Golden(t, "testdata/pg2.json", []byte(strings.ReplaceAll(got.String(), uid, "UID")+"\n"))
}

// TestR11PlansNameSecretsOnly: a plan says which secret, at which revision.
func TestR11PlansNameSecretsOnly(t *testing.T) {
	m := full(t)
	p, _ := planOf(t, m, "pg1")
	if p.Secrets["users/app"] == 0 || p.Secrets["pooler"] == 0 || p.Secrets["monitor"] == 0 || p.Secrets["users/reader"] != 0 {
		t.Errorf("secrets %v", p.Secrets)
	}
	for _, e := range m.Range("/pgctrl/plan/") {
		if bytes.Contains(e.Value, []byte("secret of")) { // what controllertest mints
			t.Errorf("%s holds a secret", e.Key)
		}
	}
	// A password that was given is not replaced, and another one makes new plans.
	before := p.Secrets["users/app"]
	controllertest.Put(m, "/pgctrl/secrets/pg-test/users/app", "by a person")
	controllertest.Settle(t, New(), m, "pg-test")
	e, _ := m.Get("/pgctrl/secrets/pg-test/users/app")
	if p, _ = planOf(t, m, "pg3"); string(e.Value) != "by a person" || p.Secrets["users/app"] <= before {
		t.Errorf("secret %q at %d", e.Value, p.Secrets["users/app"])
	}
}

// TestAllNodesAtOnce: nothing waits for an answer of a node; the next primary has it too.
func TestAllNodesAtOnce(t *testing.T) {
	m := formed(t)
	controllertest.Put(m, docs+"users/app", "password: none")
	controllertest.Delete(m, "/pgctrl/alive/pg3")
	r := controllertest.Run(t, New(), m, "pg-test")
	controllertest.Apply(m, r)
	for _, node := range []string{"pg1", "pg2", "pg3"} {
		if _, sql := planOf(t, m, node); len(sql.Roles) != 6 {
			t.Errorf("%s has roles %v", node, sql.Roles)
		}
	}
}

// TestR6DocumentsGone: what lost its document is left alone and said once.
func TestR6DocumentsGone(t *testing.T) {
	m := full(t)
	r := controllertest.Run(t, New(), m, "pg-test")
	if len(r.Conditions) > 0 {
		t.Fatalf("conditions %v", r.Conditions)
	}
	controllertest.Delete(m, docs+"users/app")
	controllertest.Delete(m, docs+"databases/shop")
	r = controllertest.Run(t, New(), m, "pg-test")
	if c := expect(t, r, observed.Unmanaged, "user app"); !strings.Contains(c.Next, "pgctrl user remove pg-test app") {
		t.Errorf("next %s", c.Next)
	}
	expect(t, r, observed.Unmanaged, "database shop")
	controllertest.Apply(m, r)
	if _, there := role(t, m, "app"); there {
		t.Error("it is still in the plan")
	}
}

// TestR4BadDocument: it changes nothing of its own object and holds up no other.
func TestR4BadDocument(t *testing.T) {
	m := full(t)
	before, _ := role(t, m, "app")
	controllertest.Put(m, docs+"users/app", "connection_limit: many")
	controllertest.Put(m, docs+"databases/shop", "owner: [")
	controllertest.Put(m, docs+"users/next", "password: none")
	r := controllertest.Settle(t, New(), m, "pg-test")
	expect(t, r, observed.InvalidDocument, "users/app")
	expect(t, r, observed.InvalidDocument, "databases/shop")
	after, there := role(t, m, "app")
	if !there || after.ConnectionLimit != before.ConnectionLimit || after.Password != "users/app" {
		t.Errorf("the bad document's role is %+v", after)
	}
	if _, there := role(t, m, "next"); !there {
		t.Error("the good document waits")
	}
	if _, sql := planOf(t, m, "pg1"); len(sql.Databases) != 1 || sql.Databases[0].Owner != "app" {
		t.Errorf("databases %v", sql.Databases)
	}
	// A default that can't be read concerns all of its kind.
	m = full(t)
	controllertest.Put(m, "/pgctrl/desired/defaults/users", "login: perhaps")
	controllertest.Settle(t, New(), m, "pg-test")
	if after, there = role(t, m, "app"); !there || after.ConnectionLimit != 20 {
		t.Errorf("with bad defaults: %+v", after)
	}
}

// TestTakenBack: what a document gave and no longer says is taken back.
func TestTakenBack(t *testing.T) {
	m := full(t)
	controllertest.Put(m, docs+"users/app", "{member_of: [reader], parameters: {jit: false}}")
	controllertest.Put(m, docs+"databases/shop", `{owner: app, grants: ["SELECT ON ALL TABLES IN SCHEMA sales TO reader"]}`)
	for range 2 { // and stays so
		controllertest.Settle(t, New(), m, "pg-test")
		r, _ := role(t, m, "app")
		if strings.Join(r.Leaves, " ") != "pg_read_all_data" || strings.Join(r.Resets, " ") != "statement_timeout" {
			t.Errorf("leaves %v, resets %v", r.Leaves, r.Resets)
		}
		_, sql := planOf(t, m, "pg1")
		d := sql.Databases[0]
		if len(d.Grants) != 3 || d.Grants[0].Revoke || !d.Grants[1].Taken || !d.Grants[2].Taken || strings.Join(d.Resets, " ") != "work_mem" {
			t.Errorf("grants %+v, resets %v", d.Grants, d.Resets)
		}
		controllertest.Put(m, docs+"users/other", "password: none")
	}
}

func TestAbsent(t *testing.T) {
	m := full(t)
	controllertest.Put(m, docs+"users/app", "state: absent")
	controllertest.Put(m, docs+"databases/shop", "state: absent")
	r := controllertest.Settle(t, New(), m, "pg-test")
	expect(t, r, observed.InvalidDocument, "confirm")
	if a, _ := role(t, m, "app"); !a.Absent || a.Password != "" {
		t.Errorf("role %+v", a)
	}
	if _, sql := planOf(t, m, "pg1"); sql.Databases[0].Absent {
		t.Error("a database goes without its name typed")
	}
	controllertest.Put(m, docs+"databases/shop", "{state: absent, confirm: shop}")
	controllertest.Settle(t, New(), m, "pg-test")
	if _, sql := planOf(t, m, "pg1"); !sql.Databases[0].Absent {
		t.Error("it stays with its name typed")
	}
}

// TestOldAgents: nothing is planned before every agent understands it.
func TestOldAgents(t *testing.T) {
	m := controllertest.Load(t, "../postgres/testdata/small.txtar")
	controllertest.Put(m, "/pgctrl/alive/pg2", `{"schema":1,"node":"pg2","postgresql":[15]}`)
	controllertest.Settle(t, postgres.New(), m, "pg-test")
	r := controllertest.Settle(t, New(), m, "pg-test")
	expect(t, r, observed.UnsupportedSchema, "earlier version")
	if len(r.Outputs) > 0 {
		t.Errorf("outputs %v", r.Outputs)
	}
}

// TestRemoval: with the whole cluster the plans go, then the passwords.
func TestRemoval(t *testing.T) {
	m := full(t)
	controllertest.Put(m, docs+"postgres", "{state: absent, confirm: pg-test}")
	controllertest.Settle(t, New(), m, "pg-test")
	for _, node := range []string{"pg1", "pg2", "pg3"} {
		p, _ := planOf(t, m, node)
		if p.Removal == nil || !p.Removal.Whole {
			t.Fatalf("%s: %+v", node, p)
		}
		e, _ := m.Get(keys.Default.PlanKey(node, "pg-test", Concern))
		controllertest.Put(m, keys.Default.ObservedKey(node, "pg-test", Concern), string(observed.Encode(observed.Report{
			Schema: 1, Concern: Concern, Plan: e.ModRevision,
			Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True, Reason: observed.Removed}},
		})))
	}
	controllertest.Settle(t, New(), m, "pg-test")
	if left := m.Range("/pgctrl/secrets/pg-test/users/"); len(left) > 0 {
		t.Errorf("secrets left: %v", left)
	}
	for _, name := range []string{"monitor", "pooler"} {
		if _, there := m.Get("/pgctrl/secrets/pg-test/" + name); there {
			t.Errorf("secret %s is left", name)
		}
	}
	if r := controllertest.Run(t, New(), m, "pg-test"); controllertest.Apply(m, r) {
		t.Error("it goes on")
	}
}

// TestLookupWaitsForItsRole: a function that is granted to a role which is not there
// yet is refused by PostgreSQL, and a cluster that forms says that it stopped.
func TestLookupWaitsForItsRole(t *testing.T) {
	m := controllertest.Load(t, "../postgres/testdata/small.txtar")
	controllertest.Settle(t, postgres.New(), m, "pg-test")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-1")
	controllertest.Settle(t, postgres.New(), m, "pg-test")
	lookup := func() string {
		t.Helper()
		controllertest.Apply(m, controllertest.Run(t, New(), m, "pg-test"))
		e, ok := m.Get(keys.Default.PlanKey("pg1", "pg-test", Concern))
		if !ok {
			t.Fatal("no plan")
		}
		p, err := plan.Decode(e.Value)
		if err != nil {
			t.Fatal(err)
		}
		return p.Resources[0].(plan.SQL).Lookup
	}
	controllertest.Delete(m, keys.Default.Secret("pg-test", "pooler"))
	if got := lookup(); got != "" {
		t.Errorf("lookup of %s while its password is being made", got)
	}
	if got := lookup(); got != "pgctrl_pooler" {
		t.Errorf("lookup of %q with its password made", got)
	}
}

// TestWidened: what all tables have is not taken from the one that had it before.
func TestWidened(t *testing.T) {
	m := formed(t)
	put := func(grant string) []plan.Grant {
		controllertest.Put(m, docs+"databases/shop", `{grants: ["`+grant+`"]}`)
		controllertest.Settle(t, New(), m, "pg-test")
		_, sql := planOf(t, m, "pg1")
		return sql.Databases[0].Grants
	}
	put("SELECT, INSERT ON TABLE s.t TO reader")
	got := put("SELECT ON ALL TABLES IN SCHEMA s TO reader")
	if len(got) != 2 || !got[1].Taken || strings.Join(got[1].Privileges, ",") != "INSERT" {
		t.Errorf("grants %+v", got)
	}
	if got = put("CONNECT ON DATABASE TO reader"); len(got) != 3 {
		t.Errorf("grants %+v", got)
	}
}

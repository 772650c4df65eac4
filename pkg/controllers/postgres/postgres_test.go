package postgres

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const docs = "/pgctrl/desired/clusters/pg-test/"

func small(t *testing.T) *kv.Map { return controllertest.Load(t, "testdata/small.txtar") }

// keysOf lists the keys of a result's outputs, shortened.
func keysOf(r controllers.Result) string {
	var out []string
	for _, o := range r.Outputs {
		out = append(out, strings.TrimPrefix(o.Key, "/pgctrl/"))
	}
	return strings.Join(out, " ")
}

// report lets a node answer its present plan.
func report(m *kv.Map, node string, reason observed.Reason) {
	e, _ := m.Get(keys.Default.PlanKey(node, "pg-test", Concern))
	c := observed.Condition{Type: observed.Applied, Status: observed.True}
	if reason != "" {
		c = observed.Condition{Type: observed.Applied, Status: observed.False, Reason: reason, Message: "its words"}
	}
	controllertest.Put(m, keys.Default.ObservedKey(node, "pg-test", Concern), string(observed.Encode(observed.Report{
		Schema: 1, Concern: Concern, Plan: e.ModRevision, Loaded: "abc", Conditions: []observed.Condition{c},
	})))
}

func TestForming(t *testing.T) {
	m := small(t)
	r := controllertest.Run(t, New(), m, "pg-test")
	if got := keysOf(r); got != "formed/pg-test secrets/pg-test/patroni secrets/pg-test/postgres secrets/pg-test/replicator secrets/pg-test/rewind" {
		t.Fatalf("first come the record and the passwords, got %s", got)
	}
	controllertest.Apply(m, r)
	r = controllertest.Settle(t, New(), m, "pg-test")
	if got := keysOf(r); !strings.Contains(got, "plan/pg1/") || strings.Contains(got, "plan/pg2/") {
		t.Fatalf("only the first member starts before there is a leader, got %s", got)
	}
	expect(t, r, observed.WaitingForLeader, "pg-test-2 starts when pg-test-1 leads")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-1")
	r = controllertest.Settle(t, New(), m, "pg-test")
	if got := keysOf(r); !strings.Contains(got, "plan/pg2/") || !strings.Contains(got, "plan/pg3/") || len(r.Conditions) > 0 {
		t.Fatalf("then the others, got %s; %v", got, r.Conditions)
	}
	// A moment without a leader takes no plan away.
	controllertest.Delete(m, "/pg/pg-test/leader")
	if r = controllertest.Settle(t, New(), m, "pg-test"); len(r.Conditions) > 0 || len(r.Outputs) != 8 {
		t.Fatalf("without a leader: %s, %v", keysOf(r), r.Conditions)
	}
}

// expect finds a condition.
func expect(t *testing.T, r controllers.Result, reason observed.Reason, message string) observed.Condition {
	t.Helper()
	for _, c := range r.Conditions {
		if c.Reason == reason && strings.Contains(c.Message, message) {
			if c.Status == observed.True || c.Key == "" {
				t.Errorf("condition %s has status %s, key %q", c, c.Status, c.Key)
			}
			return c
		}
	}
	t.Errorf("no condition %s with %q in %v", reason, message, r.Conditions)
	return observed.Condition{}
}

func TestConditions(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(m *kv.Map)
		reason  observed.Reason
		message string
		silent  bool // no outputs at all
	}{
		{"no store", func(m *kv.Map) { delete(m.Keys, "/pgctrl/store") }, observed.NotPlanned, "no identity", true},
		{"agent missing", func(m *kv.Map) { delete(m.Keys, "/pgctrl/alive/pg3") }, observed.WaitingForNode, "node pg3", true},
		{"no common version", func(m *kv.Map) {
			controllertest.Put(m, "/pgctrl/alive/pg3", `{"node":"pg3","postgresql":[14]}`)
		}, observed.VersionUnavailable, "pg1: 15 16; pg2: 15; pg3: 14", true},
		{"wanted version missing", func(m *kv.Map) { controllertest.Put(m, docs+"postgres", "version: 16") }, observed.VersionUnavailable, "PostgreSQL 16 is not", true},
		{"unknown node", func(m *kv.Map) { delete(m.Keys, "/pgctrl/desired/nodes/pg3") }, observed.UnknownNode, "pg3", true},
		{"unknown field", func(m *kv.Map) { controllertest.Put(m, docs+"postgres", "prot: 5433") }, observed.InvalidDocument, "prot", true},
		{"invalid member", func(m *kv.Map) { controllertest.Put(m, docs+"members/pg-test-2", "node: [") }, observed.InvalidDocument, "", true},
		{"port of an older cluster", func(m *kv.Map) {
			m.Keys["/pgctrl/desired/clusters/old/members/o"] = kv.KV{Key: "/pgctrl/desired/clusters/old/members/o", Value: []byte("node: pg2"), ModRevision: 1, CreateRevision: 1}
		}, observed.PortConflict, "5432", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := small(t)
			c.change(m)
			r := controllertest.Run(t, New(), m, "pg-test")
			expect(t, r, c.reason, c.message)
			if c.silent && len(r.Outputs) > 0 {
				t.Errorf("outputs %s", keysOf(r))
			}
			controllertest.Deterministic(t, New(), m, "pg-test")
		})
	}
}

// TestR4: a bad document in a running cluster changes no plan, and says why.
func TestR4BadDocumentChangesNothing(t *testing.T) {
	for _, bad := range []struct{ key, value string }{
		{docs + "postgres", "port: many"},
		{docs + "members/pg-test-3", "node: pg9"},
		{docs + "members/pg-test-3", "node: pg2"}, // two on one node, and moved
		{"/pgctrl/desired/defaults/postgres", "nonsense: 1"},
		{"/pgctrl/desired/nodes/pg2", "address: here"},
	} {
		m := led(t, "small", "pg-test", "pg-test-1")
		controllertest.Put(m, bad.key, bad.value)
		r := controllertest.Run(t, New(), m, "pg-test")
		if len(r.Outputs) != 0 || len(r.Conditions) == 0 {
			t.Errorf("%s: %s gave outputs %s, conditions %v", bad.key, bad.value, keysOf(r), r.Conditions)
		}
	}
	// A service is another concern's business.
	m := led(t, "small", "pg-test", "pg-test-1")
	controllertest.Put(m, docs+"services/primary", "port: many")
	if r := controllertest.Run(t, New(), m, "pg-test"); len(r.Outputs) != 8 {
		t.Errorf("a bad service took PostgreSQL's plans: %s, %v", keysOf(r), r.Conditions)
	}
}

func TestFixedAtForming(t *testing.T) {
	m := led(t, "small", "pg-test", "pg-test-1")
	before := storedPlan(t, m, "pg1", "pg-test")
	controllertest.Put(m, docs+"postgres", "port: 5499\nversion: 16")
	r := controllertest.Settle(t, New(), m, "pg-test")
	expect(t, r, observed.FixedAtForming, "port: the cluster formed with 5432")
	expect(t, r, observed.FixedAtForming, "version: the cluster formed with 15")
	after := storedPlan(t, m, "pg1", "pg-test")
	if plan.Hash(before.Resources, nil) != plan.Hash(after.Resources, nil) || after.Inputs.Revision <= before.Inputs.Revision {
		t.Error("the plan must be the same but for its inputs' revision")
	}
}

func TestDeletingEveryDocumentKeepsEverything(t *testing.T) {
	m := led(t, "small", "pg-test", "pg-test-1")
	controllertest.Delete(m, docs+"members/pg-test-3")
	r := controllertest.Settle(t, New(), m, "pg-test")
	c := expect(t, r, observed.Unmanaged, "pg-test-3 on node pg3")
	if !strings.Contains(c.Next, "pgctrl set pg-test members/pg-test-3 node=pg3") || !strings.Contains(c.Next, "pgctrl remove pg-test pg-test-3") {
		t.Errorf("next: %s", c.Next)
	}
	if strings.Contains(keysOf(r), "plan/pg3") {
		t.Error("the plan of an unmanaged member is not written")
	}
	if p := storedPlan(t, m, "pg1", "pg-test"); len(p.Cluster.Members) != 3 || !strings.Contains(p.Resources[0].(plan.Unit).Files[0].Content, "10.10.10.13/32") {
		t.Error("an unmanaged member must still be let in")
	}
	for key := range m.Keys {
		if strings.HasPrefix(key, "/pgctrl/desired/") {
			controllertest.Delete(m, key)
		}
	}
	r = controllertest.Run(t, New(), m, "pg-test")
	if len(r.Outputs) != 0 || len(r.Conditions) != 3 {
		t.Errorf("outputs %s, conditions %v", keysOf(r), r.Conditions)
	}
}

func TestMovedMember(t *testing.T) {
	m := led(t, "small", "pg-test", "pg-test-1")
	controllertest.Put(m, "/pgctrl/desired/nodes/pg4", "address: 10.10.10.14")
	controllertest.Put(m, docs+"members/pg-test-3", "node: pg4")
	r := controllertest.Run(t, New(), m, "pg-test")
	expect(t, r, observed.InvalidDocument, `expected "pg3"`)
	if len(r.Outputs) > 0 {
		t.Errorf("outputs %s", keysOf(r))
	}
}

func TestParametersRollOutAndAreForgotten(t *testing.T) {
	m := led(t, "small", "pg-test", "pg-test-1")
	for _, n := range []string{"pg1", "pg2", "pg3"} {
		report(m, n, "")
	}
	value := func(node string) string {
		b, _ := json.Marshal(storedPlan(t, m, node, "pg-test").Resources[1])
		_, rest, found := strings.Cut(string(b), `"work_mem":`)
		if !found {
			return "unset"
		}
		v, _, _ := strings.Cut(rest, "}")
		return strings.SplitN(v, ",", 2)[0]
	}
	all := func() string { return value("pg1") + " " + value("pg2") + " " + value("pg3") }
	controllertest.Put(m, docs+"postgres", "parameters: {work_mem: 64MB}")
	for _, step := range []struct{ node, want string }{
		{"", `unset "64MB" unset`}, {"pg2", `unset "64MB" "64MB"`}, {"pg3", `"64MB" "64MB" "64MB"`},
	} {
		if step.node != "" {
			report(m, step.node, "")
		}
		controllertest.Settle(t, New(), m, "pg-test")
		if got := all(); got != step.want {
			t.Fatalf("after %q: %s, want %s", step.node, got, step.want)
		}
	}
	report(m, "pg1", "")
	controllertest.Delete(m, docs+"postgres")
	for _, n := range []string{"pg2", "pg3", "pg1"} {
		controllertest.Settle(t, New(), m, "pg-test")
		report(m, n, "")
	}
	if got := all(); got != "null null null" {
		t.Errorf("a parameter nobody sets any more: %s", got)
	}
	report(m, "pg2", observed.Rejected)
	controllertest.Put(m, docs+"postgres", "parameters: {work_mem: 1MB}")
	controllertest.Settle(t, New(), m, "pg-test")
	report(m, "pg2", observed.Rejected)
	r := controllertest.Settle(t, New(), m, "pg-test")
	expect(t, r, observed.RollingOut, "node pg2 says Rejected: its words")
	if got := all(); got != `null "1MB" null` {
		t.Errorf("a refused change goes no further: %s", got)
	}
}

// TestNewMemberIsLetIn: the newcomer can't become healthy before the others let it
// in, so it must not hold them up.
func TestNewMemberIsLetIn(t *testing.T) {
	m := led(t, "small", "pg-test", "pg-test-1")
	for _, n := range []string{"pg1", "pg2", "pg3"} {
		report(m, n, "")
	}
	controllertest.Put(m, "/pgctrl/desired/nodes/pg4", "address: 10.10.10.14")
	controllertest.Put(m, docs+"members/pg-test-4", "node: pg4")
	controllertest.Settle(t, New(), m, "pg-test")
	report(m, "pg4", observed.ApplyFailed)
	controllertest.Put(m, "/pg/pg-test/members/pg-test-4", `{"state":"creating replica","role":"uninitialized"}`)
	for _, n := range []string{"pg2", "pg3", "pg1"} {
		controllertest.Settle(t, New(), m, "pg-test")
		if p := storedPlan(t, m, n, "pg-test"); len(p.Cluster.Members) != 4 {
			t.Fatalf("node %s waits", n)
		}
		report(m, n, "")
	}
}

package monitor

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/controllers/postgres"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const (
	docs     = "/pgctrl/desired/clusters/pg-test/"
	nodeDocs = "/pgctrl/desired/nodes/"
)

// formed is a cluster of three members with every password, and two infra nodes.
func formed(t testing.TB) *kv.Map {
	t.Helper()
	m := controllertest.Load(t, "../postgres/testdata/small.txtar")
	controllertest.Settle(t, postgres.New(), m, "pg-test")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-1")
	controllertest.Settle(t, postgres.New(), m, "pg-test")
	controllertest.Put(m, keys.Default.Secret("pg-test", "pooler"), "hush")
	controllertest.Put(m, keys.Default.Secret("pg-test", "monitor"), "hush")
	for _, n := range [][2]string{{"infra1", "10.10.10.10"}, {"infra2", "10.10.10.9"}} { // revisions are in golden files
		controllertest.Put(m, nodeDocs+n[0], "{address: "+n[1]+", roles: [infra]}")
		alive(m, n[0], plan.SchemaFiles)
	}
	for _, node := range []string{"pg1", "pg2", "pg3"} {
		alive(m, node, plan.SchemaFiles)
	}
	return m
}

func alive(m *kv.Map, node string, schema int) {
	controllertest.Put(m, keys.Default.AliveKey(node), string(observed.Encode(observed.Alive{Schema: observed.Schema, Node: node, PlanSchema: schema})))
}

func storedPlan(t testing.TB, m *kv.Map, node, cluster, concern string) (p plan.Plan, ok bool) {
	t.Helper()
	e, ok := m.Get(keys.Default.PlanKey(node, cluster, concern))
	if !ok {
		return p, false
	}
	p, err := plan.Decode(e.Value)
	if err != nil {
		t.Fatal(err)
	}
	return p, true
}

// has is what a node's plan has it have, in a word each.
func has(t testing.TB, m *kv.Map, node string) string {
	t.Helper()
	p, ok := storedPlan(t, m, node, "pg-test", Concern)
	switch {
	case !ok:
		return "none"
	case p.Removal != nil:
		return "goes"
	}
	var out []string
	for _, r := range p.Resources {
		if plan.Absent(r) {
			continue
		}
		switch r := r.(type) {
		case plan.Unit:
			name, _, _ := strings.Cut(r.Unit, "@")
			out = append(out, name)
		case plan.Watched:
			out = append(out, "targets")
		}
	}
	return strings.Join(out, " ")
}

func golden(t *testing.T, m *kv.Map, key, file string) {
	t.Helper()
	e, ok := m.Get(key)
	if !ok {
		t.Fatalf("no %s", key)
	}
	var got bytes.Buffer
	if err := json.Indent(&got, e.Value, "", "  "); err != nil {
		t.Fatal(err)
	}
	uid := strings.Split(strings.Split(got.String(), `"uid": "`)[1], `"`)[0]
	controllertest.Golden(t, "testdata/"+file, []byte(strings.ReplaceAll(got.String(), uid, "UID")+"\n"))
}

func TestGolden(t *testing.T) {
	m := formed(t)
	if r := controllertest.Settle(t, New(), m, "pg-test"); len(r.Conditions) > 0 {
		t.Errorf("conditions %v", r.Conditions)
	}
	controllertest.Deterministic(t, New(), m, "pg-test")
	golden(t, m, keys.Default.PlanKey("infra1", "pg-test", Concern), "infra1.json")
	golden(t, m, keys.Default.PlanKey("pg1", "pg-test", Concern), "pg1.json")
	rules := Rules{"pgctrl.yml": []byte("groups: []\n")}
	controllertest.Settle(t, NewServer(rules), m, keys.NodeCluster)
	controllertest.Deterministic(t, NewServer(rules), m, keys.NodeCluster)
	golden(t, m, keys.Default.PlanKey("infra2", keys.NodeCluster, Program), "prometheus.json")
	controllertest.Settle(t, NewOfNodes(), m, keys.NodeCluster)
	controllertest.Deterministic(t, NewOfNodes(), m, keys.NodeCluster)
	golden(t, m, keys.Default.PlanKey("infra2", keys.NodeCluster, Targets), "targets.json")
}

func TestWhoHasWhat(t *testing.T) {
	const both, one = "pgbouncer-exporter postgres-exporter", "postgres-exporter"
	for name, c := range map[string]struct {
		docs map[string]string
		pg1  string
		infr string
	}{
		"without a document":     {nil, both, "targets"},
		"no pooler":              {map[string]string{docs + "pgbouncer": "enabled: false"}, one, "targets"},
		"a member on infra":      {map[string]string{nodeDocs + "pg1": "{address: 10.10.10.11, roles: [infra]}"}, "targets " + both, "targets"},
		"switched off":           {map[string]string{docs + "monitor": "enabled: false"}, "none", "none"},
		"a member that is to go": {map[string]string{docs + "members/pg-test-1": "{node: pg1, state: absent}"}, both, "targets"}, // it leads
	} {
		m := formed(t)
		for key, text := range c.docs {
			controllertest.Put(m, key, text)
		}
		controllertest.Settle(t, New(), m, "pg-test")
		if got := has(t, m, "pg1"); got != c.pg1 {
			t.Errorf("%s: pg1 has %q, want %q", name, got, c.pg1)
		}
		if got := has(t, m, "infra2"); got != c.infr {
			t.Errorf("%s: infra2 has %q, want %q", name, got, c.infr)
		}
	}
}

// TestAPoolerThatIsSwitchedOff takes its exporter away, and leaves the other.
func TestAPoolerThatIsSwitchedOff(t *testing.T) {
	m := formed(t)
	controllertest.Settle(t, New(), m, "pg-test")
	controllertest.Put(m, docs+"pgbouncer", "enabled: false")
	controllertest.Settle(t, New(), m, "pg-test")
	p, _ := storedPlan(t, m, "pg1", "pg-test", Concern)
	if !slices.ContainsFunc(p.Resources, func(r plan.Resource) bool {
		return plan.Absent(r) && r.ID() == "unit pgbouncer-exporter@pg-test.service"
	}) {
		t.Errorf("the exporter of a pooler that is no more stays: %s", has(t, m, "pg1"))
	}
	w, _ := storedPlan(t, m, "infra1", "pg-test", Concern)
	if strings.Contains(w.Resources[0].(plan.Watched).Content, ":9631") {
		t.Error("it is looked at still")
	}
}

func TestFailoverChangesNoPlan(t *testing.T) {
	m := formed(t)
	controllertest.Settle(t, New(), m, "pg-test")
	controllertest.Settle(t, NewServer(nil), m, keys.NodeCluster)
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-2")
	if controllertest.Apply(m, controllertest.Run(t, New(), m, "pg-test")) || controllertest.Apply(m, controllertest.Run(t, NewServer(nil), m, keys.NodeCluster)) {
		t.Error("a failover changed a plan")
	}
}

func TestR4BadDocumentChangesNothing(t *testing.T) {
	m := formed(t)
	controllertest.Settle(t, New(), m, "pg-test")
	controllertest.Put(m, docs+"monitor", "intervall: 3s")
	r := controllertest.Run(t, New(), m, "pg-test")
	if len(r.Outputs) != 0 || len(r.Conditions) == 0 || r.Conditions[0].Reason != observed.InvalidDocument {
		t.Errorf("%d outputs, conditions %v", len(r.Outputs), r.Conditions)
	}
	// It is nobody else's business.
	if r := controllertest.Run(t, postgres.New(), m, "pg-test"); len(r.Conditions) != 0 {
		t.Errorf("PostgreSQL: %v", r.Conditions)
	}
}

// TestR6OnlyWordsTakeAway: a document that is gone says nothing.
func TestR6OnlyWordsTakeAway(t *testing.T) {
	const all = "pg1 pg2 pg3 infra1 infra2"
	for name, c := range map[string]struct {
		do   func(*kv.Map)
		gone string
	}{
		"the document is gone": {func(m *kv.Map) { controllertest.Delete(m, docs+"monitor") }, ""},
		"a node's is gone":     {func(m *kv.Map) { controllertest.Delete(m, nodeDocs+"infra2") }, ""},
		"members' are gone": {func(m *kv.Map) {
			for _, n := range []string{"1", "2", "3"} {
				controllertest.Delete(m, docs+"members/pg-test-"+n)
			}
		}, ""},
		"everything is gone": {func(m *kv.Map) {
			for key := range m.Keys {
				if strings.HasPrefix(key, "/pgctrl/desired/") {
					controllertest.Delete(m, key)
				}
			}
		}, ""},
		"switched off":     {func(m *kv.Map) { controllertest.Put(m, docs+"monitor", "enabled: false") }, all},
		"another role":     {func(m *kv.Map) { controllertest.Put(m, nodeDocs+"infra2", "{address: 10.10.10.9, roles: [proxy]}") }, "infra2"},
		"the cluster goes": {func(m *kv.Map) { controllertest.Put(m, docs+"postgres", "{state: absent, confirm: pg-test}") }, all},
		"a member goes": {func(m *kv.Map) {
			controllertest.Put(m, docs+"members/pg-test-3", "{node: pg3, state: absent}")
			controllertest.Delete(m, keys.Default.PlanKey("pg3", "pg-test", "postgres"))
		}, "pg3"},
	} {
		m := formed(t)
		controllertest.Put(m, docs+"monitor", "interval: 10s")
		controllertest.Settle(t, New(), m, "pg-test")
		c.do(m)
		controllertest.Settle(t, New(), m, "pg-test")
		var gone []string
		for node := range strings.FieldsSeq(all) {
			p, ok := storedPlan(t, m, node, "pg-test", Concern)
			if !ok {
				t.Errorf("%s: the plan of %s is gone before its node is done", name, node)
			}
			if p.Removal == nil {
				continue
			}
			gone = append(gone, node)
			e, _ := m.Get(keys.Default.PlanKey(node, "pg-test", Concern))
			controllertest.Put(m, keys.Default.ObservedKey(node, "pg-test", Concern), string(observed.Encode(observed.Report{
				Schema: observed.Schema, Concern: Concern, Plan: e.ModRevision,
				Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True, Reason: observed.Removed}},
			})))
		}
		if strings.Join(gone, " ") != c.gone {
			t.Errorf("%s: it goes from %v, want %s", name, gone, c.gone)
		}
		controllertest.Settle(t, New(), m, "pg-test")
		for _, node := range gone {
			if _, ok := storedPlan(t, m, node, "pg-test", Concern); ok {
				t.Errorf("%s: what is done on %s is not deleted", name, node)
			}
		}
	}
}

func TestAMemberThatLeavesIsNoTarget(t *testing.T) {
	m := formed(t)
	controllertest.Put(m, docs+"members/pg-test-3", "{node: pg3, state: absent}")
	controllertest.Settle(t, New(), m, "pg-test")
	p, _ := storedPlan(t, m, "infra1", "pg-test", Concern)
	if text := p.Resources[0].(plan.Watched).Content; strings.Contains(text, "pg-test-3") || strings.Contains(text, "10.10.10.13") {
		t.Errorf("it is still looked at:\n%s", text)
	}
}

func TestAnOlderAgentIsWaitedFor(t *testing.T) {
	m := formed(t)
	alive(m, "infra2", plan.SchemaTLS)
	r := controllertest.Settle(t, New(), m, "pg-test")
	if has(t, m, "infra1") != "targets" || has(t, m, "infra2") != "none" || len(r.Conditions) != 1 || r.Conditions[0].Reason != observed.UnsupportedSchema {
		t.Errorf("infra1 %s, infra2 %s, %v", has(t, m, "infra1"), has(t, m, "infra2"), r.Conditions)
	}
}

package dns

import (
	"bytes"
	"encoding/json"
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

// formed is a cluster of three members, and two nodes for names.
func formed(t testing.TB) *kv.Map {
	t.Helper()
	m := controllertest.Load(t, "../postgres/testdata/small.txtar")
	controllertest.Settle(t, postgres.New(), m, "pg-test")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-1")
	controllertest.Settle(t, postgres.New(), m, "pg-test")
	for node, address := range map[string]string{"infra1": "10.10.10.10", "infra2": "10.10.10.9"} {
		controllertest.Put(m, nodeDocs+node, "{address: "+address+", roles: [infra]}")
		alive(m, node, plan.SchemaFiles)
	}
	return m
}

func alive(m *kv.Map, node string, schema int) {
	controllertest.Put(m, keys.Default.AliveKey(node), string(observed.Encode(observed.Alive{Schema: observed.Schema, Node: node, PlanSchema: schema})))
}

func planOf(t testing.TB, m *kv.Map, node string) (p plan.Plan, ok bool) {
	t.Helper()
	e, ok := m.Get(keys.Default.PlanKey(node, "pg-test", Concern))
	if !ok {
		return p, false
	}
	p, err := plan.Decode(e.Value)
	if err != nil {
		t.Fatal(err)
	}
	return p, true
}

// lines are the names on a node, without the comment.
func lines(t testing.TB, m *kv.Map, node string) string {
	t.Helper()
	p, ok := planOf(t, m, node)
	if !ok || p.Removal != nil {
		return ""
	}
	w := p.Resources[0].(plan.Watched)
	_, hosts, _ := strings.Cut(w.Content, "removed)\n")
	return hosts + strings.Join(w.From, ",") + " " + strings.Join(w.Replicas, " ")
}

func TestGolden(t *testing.T) {
	m := formed(t)
	controllertest.Put(m, docs+"dns", "suffix: db.example.org")
	controllertest.Settle(t, New(), m, "pg-test")
	controllertest.Deterministic(t, New(), m, "pg-test")
	e, _ := m.Get(keys.Default.PlanKey("infra1", "pg-test", Concern))
	var got bytes.Buffer
	if err := json.Indent(&got, e.Value, "", "  "); err != nil {
		t.Fatal(err)
	}
	uid := strings.Split(strings.Split(got.String(), `"uid": "`)[1], `"`)[0]
	controllertest.Golden(t, "testdata/infra1.json", []byte(strings.ReplaceAll(got.String(), uid, "UID")+"\n"))
}

const members = "10.10.10.11 pg-test-1\n10.10.10.12 pg-test-2\n10.10.10.13 pg-test-3\n"

func TestNames(t *testing.T) {
	const ofPrimary = "{{primary.address}} pg-test\n" + members
	const all = "pg-test-1,pg-test-2,pg-test-3 pg-test-replica"
	for name, c := range map[string]struct {
		docs map[string]string
		want string
	}{
		"without a document": {nil, ofPrimary + all},
		"virtual address":    {map[string]string{"vip": "address: 10.10.10.20/24"}, "10.10.10.20 pg-test\n" + members + all},
		"the primary though there is one": {
			map[string]string{"vip": "address: 10.10.10.20/24", "dns": "target: primary"}, ofPrimary + all},
		"who serves no replica service": {
			map[string]string{"members/pg-test-2": "{node: pg2, offline: true}", "members/pg-test-3": "{node: pg3, weight: 0}"},
			ofPrimary + "pg-test-1 pg-test-replica"},
		"a member that goes": {
			map[string]string{"members/pg-test-3": "{node: pg3, state: absent}"},
			"{{primary.address}} pg-test\n10.10.10.11 pg-test-1\n10.10.10.12 pg-test-2\npg-test-1,pg-test-2 pg-test-replica"},
	} {
		m := formed(t)
		for document, text := range c.docs {
			controllertest.Put(m, docs+document, text)
		}
		controllertest.Settle(t, New(), m, "pg-test")
		for _, node := range []string{"infra1", "infra2"} {
			if got := lines(t, m, node); got != c.want {
				t.Errorf("%s: %s has\n%s\nwant\n%s", name, node, got, c.want)
			}
		}
		if _, ok := planOf(t, m, "pg1"); ok {
			t.Errorf("%s: a node without role infra has names", name)
		}
	}
}

func TestFailoverChangesNoPlan(t *testing.T) {
	m := formed(t)
	controllertest.Settle(t, New(), m, "pg-test")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-2")
	if controllertest.Apply(m, controllertest.Run(t, New(), m, "pg-test")) {
		t.Error("a failover changed a plan")
	}
}

func TestR4BadDocumentChangesNothing(t *testing.T) {
	for key, value := range map[string]string{
		docs + "dns":                     "sufix: db.example.org",
		"/pgctrl/desired/defaults/dns":   "target: nobody",
		docs + "vip":                     "address: 10.10.10.9",
		docs + "members/PG-TEST-REPLICA": "node: pg9",
	} {
		m := formed(t)
		controllertest.Put(m, nodeDocs+"pg9", "address: 10.10.10.99")
		controllertest.Settle(t, New(), m, "pg-test")
		controllertest.Put(m, key, value)
		r := controllertest.Run(t, New(), m, "pg-test")
		if len(r.Outputs) != 0 || len(r.Conditions) == 0 || r.Conditions[0].Reason != observed.InvalidDocument {
			t.Errorf("%s: %q gave %d outputs, conditions %v", key, value, len(r.Outputs), r.Conditions)
		}
	}
}

// TestANameLeadsToOneCluster: dnsmasq answers with the addresses of both.
func TestANameLeadsToOneCluster(t *testing.T) {
	const other = "/pgctrl/desired/clusters/"
	for name, c := range map[string]struct {
		cluster, gone string
	}{
		"the replicas' name is a cluster's":          {"pg-test-replica", "pg-test-replica"},
		"a member's name is a cluster's":             {"pg-test-2", "10.10.10.12 pg-test-2\n"},
		"a longer name and a shorter one are others": {"pg-test-22", ""},
	} {
		m := formed(t)
		controllertest.Settle(t, New(), m, "pg-test")
		before := lines(t, m, "infra1")
		controllertest.Put(m, nodeDocs+"far", "address: 10.10.10.99")
		controllertest.Put(m, other+c.cluster+"/members/z", "node: far")
		r := controllertest.Settle(t, New(), m, "pg-test")
		want := before
		if c.gone != "" {
			want = strings.Replace(before, c.gone, "", 1)
		}
		if c.cluster == "pg-test-replica" {
			want = strings.Replace(want, "pg-test-1,pg-test-2,pg-test-3", "", 1)
		}
		if got := lines(t, m, "infra1"); got != want {
			t.Errorf("%s: has\n%s\nwant\n%s", name, got, want)
		}
		if said := len(r.Conditions) == 1 && r.Conditions[0].Reason == observed.NameTaken; said != (c.gone != "") {
			t.Errorf("%s: %v", name, r.Conditions)
		}
	}
}

func TestAnOlderAgentIsWaitedFor(t *testing.T) {
	m := formed(t)
	alive(m, "infra2", plan.SchemaTLS)
	r := controllertest.Settle(t, New(), m, "pg-test")
	_, one := planOf(t, m, "infra1")
	_, two := planOf(t, m, "infra2")
	if !one || two || len(r.Conditions) != 1 || r.Conditions[0].Reason != observed.UnsupportedSchema {
		t.Errorf("infra1 %v, infra2 %v, %v", one, two, r.Conditions)
	}
}

// TestR6OnlyWordsRemoveNames: a document that is gone says nothing; what documents say
// takes the names away, and the plan only when its node is done.
func TestR6OnlyWordsRemoveNames(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*kv.Map)
		gone []string
	}{
		"the document is gone": {func(m *kv.Map) { controllertest.Delete(m, docs+"dns") }, nil},
		"a node's is gone":     {func(m *kv.Map) { controllertest.Delete(m, nodeDocs+"infra2") }, nil},
		"members' are gone": {func(m *kv.Map) {
			for _, n := range []string{"1", "2", "3"} {
				controllertest.Delete(m, docs+"members/pg-test-"+n)
			}
		}, nil},
		"switched off":      {func(m *kv.Map) { controllertest.Put(m, docs+"dns", "enabled: false") }, []string{"infra1", "infra2"}},
		"another role":      {func(m *kv.Map) { controllertest.Put(m, nodeDocs+"infra2", "{address: 10.10.10.9, roles: [proxy]}") }, []string{"infra2"}},
		"the cluster goes":  {func(m *kv.Map) { controllertest.Put(m, docs+"postgres", "{state: absent, confirm: pg-test}") }, []string{"infra1", "infra2"}},
		"a node can't read": {func(m *kv.Map) { controllertest.Put(m, nodeDocs+"infra2", "adress: 10.10.10.9") }, nil},
	} {
		m := formed(t)
		controllertest.Put(m, docs+"dns", "target: auto")
		controllertest.Settle(t, New(), m, "pg-test")
		c.do(m)
		controllertest.Settle(t, New(), m, "pg-test")
		var gone []string
		for _, node := range []string{"infra1", "infra2"} {
			p, ok := planOf(t, m, node)
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
		if strings.Join(gone, " ") != strings.Join(c.gone, " ") {
			t.Errorf("%s: names go from %v, want %v", name, gone, c.gone)
		}
		controllertest.Settle(t, New(), m, "pg-test")
		for _, node := range gone {
			if _, ok := planOf(t, m, node); ok {
				t.Errorf("%s: what is done on %s is not deleted", name, node)
			}
		}
	}
}

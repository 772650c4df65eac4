package log

import (
	"fmt"
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

const (
	docs     = "/pgctrl/desired/clusters/pg-test/"
	clusters = "/pgctrl/desired/clusters/"
	nodeDocs = "/pgctrl/desired/nodes/"
)

// formed is a cluster of three members, and a node with role infra.
func formed(t testing.TB) *kv.Map {
	t.Helper()
	m := controllertest.Load(t, "../postgres/testdata/small.txtar")
	controllertest.Settle(t, postgres.New(), m, "pg-test")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-1")
	controllertest.Settle(t, postgres.New(), m, "pg-test")
	infra(m, "infra1", "10.10.10.10")
	return m
}

func infra(m *kv.Map, node, address string) {
	controllertest.Put(m, nodeDocs+node, "{address: "+address+", roles: [infra]}")
	alive(m, node, plan.SchemaFiles)
}

func alive(m *kv.Map, node string, schema int) {
	controllertest.Put(m, keys.Default.AliveKey(node), string(observed.Encode(observed.Alive{Schema: observed.Schema, Node: node, PlanSchema: schema})))
}

// file is the content of the one file in a node's plan; "removal" when it is one.
func file(t testing.TB, m *kv.Map, node, program string) string {
	t.Helper()
	e, ok := m.Get(keys.Default.PlanKey(node, keys.NodeCluster, program))
	if !ok {
		return ""
	}
	p, err := plan.Decode(e.Value)
	if err != nil {
		t.Fatal(err)
	}
	if p.Removal != nil {
		return "removal"
	}
	return p.Resources[0].(plan.Unit).Files[0].Content
}

// sends is where a node's lines go, and whose.
func sends(t testing.TB, m *kv.Map, node string) string {
	t.Helper()
	var out []string
	for n := 1; n <= MaxEndpoints; n++ {
		text := file(t, m, node, concern(n))
		if text == "removal" {
			out = append(out, fmt.Sprintf("%d: removal", n))
			continue
		}
		for _, s := range sourcesIn(text) {
			streams := strings.Join(s.Streams, ",")
			if len(s.Streams) == 6 {
				streams = "all"
			}
			out = append(out, fmt.Sprintf("%d: %s %s %s %s", n, endpointIn(text), s.Cluster, s.Member, streams))
		}
	}
	return strings.Join(out, "\n")
}

func settle(t testing.TB, m *kv.Map) (r controllers.Result) {
	t.Helper()
	return controllertest.Settle(t, NewShippers(), m, keys.NodeCluster)
}

const pg1Sends = "1: http://10.10.10.10:3100 pg-test pg-test-1 all"

func TestWhoseLinesGoWhere(t *testing.T) {
	for name, c := range map[string]struct {
		put  map[string]string
		want string // of pg1
	}{
		"no document":     {nil, pg1Sends},
		"nobody to get":   {map[string]string{nodeDocs + "infra1": "address: 10.10.10.10"}, ""},
		"switched off":    {map[string]string{docs + "log": "enabled: false"}, ""},
		"some streams":    {map[string]string{docs + "log": "streams: [patroni, postgres]"}, "1: http://10.10.10.10:3100 pg-test pg-test-1 postgres,patroni"},
		"two infra nodes": {map[string]string{nodeDocs + "infra2": "{address: 10.10.10.9, roles: [infra]}"}, pg1Sends + "\n2: http://10.10.10.9:3100 pg-test pg-test-1 all"},
		"another Loki":    {map[string]string{docs + "log": "endpoints: [https://loki.example.org/logs]"}, "1: https://loki.example.org/logs pg-test pg-test-1 all"},
		"two clusters and their own Lokis": {map[string]string{
			clusters + "b/members/b-1": "node: pg1", clusters + "b/log": "endpoints: [http://b:3100]\nstreams: [postgres]",
		}, "1: http://10.10.10.10:3100 pg-test pg-test-1 all\n2: http://b:3100 b b-1 postgres"},
		"a proxy of another cluster": {map[string]string{
			clusters + "b/members/b-1": "node: pg2", nodeDocs + "pg1": "{address: 10.10.10.11, roles: [proxy], clusters: [b]}",
		}, "1: http://10.10.10.10:3100 b  haproxy,pgagent\n" + pg1Sends},
	} {
		m := formed(t)
		for key, text := range c.put {
			controllertest.Put(m, key, text)
		}
		settle(t, m)
		if len(c.put) > 1 {
			controllertest.Deterministic(t, NewShippers(), m, keys.NodeCluster)
		}
		if got := sends(t, m, "pg1"); got != c.want {
			t.Errorf("%s: pg1 sends\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

// TestR6OnlyWordsEndAShipper: absence says nothing while the node has the cluster, and a
// document that can't be read neither (R4).
func TestR6OnlyWordsEndAShipper(t *testing.T) {
	everything := func(m *kv.Map) {
		for _, e := range m.Range(keys.Default.DesiredPrefix()) {
			controllertest.Delete(m, e.Key)
		}
	}
	members := func(m *kv.Map) {
		for _, n := range []string{"1", "2", "3"} {
			controllertest.Delete(m, docs+"members/pg-test-"+n)
		}
	}
	for name, c := range map[string]struct {
		do   func(*kv.Map)
		want string
	}{
		"every document is gone":                  {everything, pg1Sends},
		"the members' are gone":                   {members, pg1Sends},
		"it can't be read":                        {func(m *kv.Map) { controllertest.Put(m, docs+"log", "stream: x") }, pg1Sends},
		"the defaults can't be":                   {func(m *kv.Map) { controllertest.Put(m, "/pgctrl/desired/defaults/log", "enabled: x") }, pg1Sends},
		"the cluster is to go":                    {func(m *kv.Map) { controllertest.Put(m, docs+"postgres", "{state: absent, confirm: pg-test}") }, pg1Sends},
		"a member is to go":                       {func(m *kv.Map) { controllertest.Put(m, docs+"members/pg-test-1", "{node: pg1, state: absent}") }, pg1Sends},
		"the agent is older":                      {func(m *kv.Map) { alive(m, "pg1", plan.SchemaTLS) }, pg1Sends},
		"it is switched off":                      {func(m *kv.Map) { controllertest.Put(m, docs+"log", "enabled: false") }, "1: removal"},
		"the infra node's document can't be read": {func(m *kv.Map) { controllertest.Put(m, nodeDocs+"infra1", "{address: 10.10.10.10, role: [infra]}") }, pg1Sends},
		"the infra node's document is gone":       {func(m *kv.Map) { controllertest.Delete(m, nodeDocs+"infra1") }, pg1Sends},
		"no node has role infra":                  {func(m *kv.Map) { controllertest.Put(m, nodeDocs+"infra1", "address: 10.10.10.10") }, "1: removal"},
		"the member has left it": {func(m *kv.Map) {
			members(m)
			controllertest.Delete(m, keys.Default.PlanKey("pg1", "pg-test", "postgres"))
		}, "1: removal"},
		"another of them changes": {func(m *kv.Map) { controllertest.Put(m, docs+"members/pg-test-4", "node: pg4") }, pg1Sends},
	} {
		m := formed(t)
		controllertest.Settle(t, NewStores(), m, keys.NodeCluster)
		settle(t, m)
		c.do(m)
		controllertest.Settle(t, NewStores(), m, keys.NodeCluster)
		settle(t, m)
		if got := sends(t, m, "pg1"); got != c.want {
			t.Errorf("%s: pg1 sends %q, want %q", name, got, c.want)
		}
	}
}

// TestRemovedShipperIsForgotten: its plan goes when its node is done.
func TestRemovedShipperIsForgotten(t *testing.T) {
	m := formed(t)
	settle(t, m)
	controllertest.Put(m, docs+"log", "enabled: false")
	settle(t, m)
	e, _ := m.Get(keys.Default.PlanKey("pg1", keys.NodeCluster, Promtail))
	controllertest.Put(m, keys.Default.ObservedKey("pg1", keys.NodeCluster, Promtail), string(observed.Encode(observed.Report{
		Schema: observed.Schema, Concern: Promtail, Plan: e.ModRevision,
		Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True, Reason: observed.Removed}},
	})))
	settle(t, m)
	if got := sends(t, m, "pg1"); got != "" {
		t.Errorf("pg1 still has %q", got)
	}
}

func TestTooManyLokis(t *testing.T) {
	m := formed(t)
	for i := range 5 {
		infra(m, fmt.Sprintf("loki%d", i), fmt.Sprintf("10.10.20.%d", i+1))
	}
	r := settle(t, m)
	if n := strings.Count(sends(t, m, "pg1"), "\n") + 1; n != MaxEndpoints {
		t.Errorf("pg1 sends to %d", n)
	}
	if len(r.Conditions) != 3 || r.Conditions[0].Reason != observed.Unsupported {
		t.Errorf("conditions %v", r.Conditions)
	}
}

func TestLokis(t *testing.T) {
	lines := func(m *kv.Map, node string) (kept []string) {
		for line := range strings.Lines(file(t, m, node, Loki)) {
			if strings.Contains(line, "selector") || line == "removal" {
				kept = append(kept, strings.TrimSpace(line))
			}
		}
		return kept
	}
	m := formed(t)
	run := func() { controllertest.Settle(t, NewStores(), m, keys.NodeCluster) }
	controllertest.Put(m, docs+"log", "retention: 30d")
	run()
	const own = `[- {selector: '{cluster="pg-test"}', priority: 1, period: 2592000s}]`
	if got := fmt.Sprint(lines(m, "infra1")); got != own {
		t.Errorf("infra1 keeps %s", got)
	}
	controllertest.Put(m, docs+"log", "retention: x")
	controllertest.Put(m, clusters+"b/members/b-1", "node: pg1")
	run()
	if got := fmt.Sprint(lines(m, "infra1")); got != own {
		t.Errorf("R4: with a document that can't be read infra1 keeps %s", got)
	}
	controllertest.Delete(m, docs+"log")
	run()
	if got := lines(m, "infra1"); len(got) != 0 || !strings.Contains(file(t, m, "infra1", Loki), "retention_period: 1296000s") {
		t.Errorf("infra1 keeps %v", got)
	}
	for _, cluster := range []string{"pg-test", "b"} {
		controllertest.Put(m, clusters+cluster+"/log", "endpoints: [http://elsewhere:3100]")
	}
	run()
	if got := fmt.Sprint(lines(m, "infra1")); got != "[removal]" {
		t.Errorf("infra1 has a Loki that nobody uses: %s", got)
	}
}

// BenchmarkShippers plans for a fleet with three nodes for each cluster. It is to grow
// with the fleet and not with its square.
func BenchmarkShippers(b *testing.B) {
	for _, clusterCount := range []int{250, 1000} {
		b.Run(fmt.Sprint(clusterCount), func(b *testing.B) {
			m := formed(b)
			for i := range clusterCount {
				for j := range 3 {
					controllertest.Put(m, fmt.Sprintf("%sx%d/members/x%d-%d", clusters, i, i, j), fmt.Sprintf("node: n%d", i*3+j))
					controllertest.Put(m, fmt.Sprintf("%sn%d", nodeDocs, i*3+j), fmt.Sprintf("address: 10.%d.%d.%d", i/250+1, i%250, j+1))
				}
			}
			in := controllers.Input{Cluster: keys.NodeCluster, Layout: keys.Default, Now: controllertest.Now, Snapshot: m}
			for b.Loop() {
				if r, err := NewShippers().Plan(in); err != nil || len(r.Outputs) != 3*clusterCount+3 {
					b.Fatal(len(r.Outputs), err)
				}
			}
		})
	}
}

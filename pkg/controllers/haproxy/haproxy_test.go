package haproxy

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/controllers/postgres"
	"github.com/pgctrl/pgctrl/pkg/controllers/vip"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// cluster is a formed cluster with a leader and this package's documents on top.
func cluster(t testing.TB, name, cluster, leader string) *kv.Map {
	t.Helper()
	m := controllertest.Load(t, "../postgres/testdata/"+name+".txtar")
	controllertest.Settle(t, postgres.New(), m, cluster)
	controllertest.Put(m, "/pg/"+cluster+"/leader", leader)
	controllertest.Settle(t, postgres.New(), m, cluster)
	for key, e := range controllertest.Load(t, "testdata/"+name+".txtar").Keys {
		m.Keys[key] = kv.KV{Key: key, Value: e.Value, ModRevision: e.ModRevision + 100, CreateRevision: e.ModRevision + 100}
		m.At = max(m.At, e.ModRevision+100)
	}
	return m
}

func unitOf(t testing.TB, m *kv.Map, node, cluster string) plan.Unit {
	t.Helper()
	e, ok := m.Get(keys.Default.PlanKey(node, cluster, Concern))
	if !ok {
		t.Fatalf("node %s has no plan", node)
	}
	p, err := plan.Decode(e.Value)
	if err != nil {
		t.Fatal(err)
	}
	return p.Resources[0].(plan.Unit)
}

func TestGolden(t *testing.T) {
	for _, c := range []struct {
		name, cluster, leader string
		nodes                 []string
	}{
		{"small", "pg-test", "pg-test-1", []string{"pg1"}},
		{"rich", "shop", "b", []string{"db3", "lb1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := cluster(t, c.name, c.cluster, c.leader)
			r := controllertest.Settle(t, New(), m, c.cluster)
			if len(r.Conditions) > 0 {
				t.Errorf("conditions %v", r.Conditions)
			}
			controllertest.Deterministic(t, New(), m, c.cluster)
			for _, node := range c.nodes {
				u := unitOf(t, m, node, c.cluster)
				var routes bytes.Buffer
				enc := json.NewEncoder(&routes)
				enc.SetIndent("", "  ")
				if err := enc.Encode(u.Routes); err != nil {
					t.Fatal(err)
				}
				controllertest.Golden(t, "testdata/"+c.name+"/"+node+".cfg", []byte(u.Files[0].Content))
				controllertest.Golden(t, "testdata/"+c.name+"/routes.json", routes.Bytes())
			}
		})
	}
}

// TestHAProxyAcceptsGoldens asks the real program, which must not even warn.
func TestHAProxyAcceptsGoldens(t *testing.T) {
	program, err := exec.LookPath("haproxy")
	if err != nil {
		t.Fatalf("this test asks the real HAProxy, which is missing; apt-get install haproxy (%v)", err)
	}
	files, _ := filepath.Glob("testdata/*/*.cfg")
	if len(files) < 3 {
		t.Fatalf("golden files: %v", files)
	}
	state := filepath.Join(t.TempDir(), "state") // a missing one is a warning
	if err := os.WriteFile(state, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		cfg := filepath.Join(t.TempDir(), "haproxy.cfg")
		content := regexp.MustCompile(`server-state-file \S+`).ReplaceAllString(string(b), "server-state-file "+state)
		if err := os.WriteFile(cfg, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(program, "-c", "-f", cfg).CombinedOutput()
		if err != nil || strings.Contains(string(out), "WARNING") || strings.Contains(string(out), "ALERT") {
			t.Errorf("haproxy -c -f %s: %v\n%s", f, err, out)
		}
	}
}

// TestRoutesMatchTheFile: the agent speaks to HAProxy in the routes' names.
func TestRoutesMatchTheFile(t *testing.T) {
	m := cluster(t, "rich", "shop", "b")
	controllertest.Settle(t, New(), m, "shop")
	u := unitOf(t, m, "lb1", "shop")
	for name, r := range u.Routes {
		_, rest, found := strings.Cut(u.Files[0].Content, "\nbackend "+name+"\n")
		if !found {
			t.Errorf("no backend %s in the file", name)
		}
		section, _, _ := strings.Cut(rest, "\n\n")
		// Beside them: where clients wait while nobody is up, which no route speaks of.
		held := strings.Count(section, "\n    server "+holder+" ")
		if (held == 1) != (r.Role == plan.RoutePrimary) {
			t.Errorf("backend %s, %s: %d servers to wait at", name, r.Role, held)
		}
		if n := strings.Count(section, "\n    server ") - held; n != len(r.Servers) {
			t.Errorf("backend %s: %d servers in the file, %d in the route", name, n, len(r.Servers))
		}
		for _, s := range r.Servers {
			if !strings.Contains(section, "\n    server "+s.Name+" ") {
				t.Errorf("backend %s: no server %s", name, s.Name)
			}
		}
	}
	if n := strings.Count(u.Files[0].Content, "\nbackend "); n != len(u.Routes) {
		t.Errorf("%d backends, %d routes", n, len(u.Routes))
	}
}

func TestFailoverChangesNoPlan(t *testing.T) {
	m := cluster(t, "small", "pg-test", "pg-test-1")
	controllertest.Settle(t, New(), m, "pg-test")
	before := unitOf(t, m, "pg1", "pg-test")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-2")
	if controllertest.Apply(m, controllertest.Run(t, New(), m, "pg-test")) {
		t.Error("a failover changed a plan")
	}
	if plan.Hash(plan.Resources{before}, nil) != plan.Hash(plan.Resources{unitOf(t, m, "pg1", "pg-test")}, nil) {
		t.Error("the plan differs")
	}
}

func TestR4BadDocumentChangesNothing(t *testing.T) {
	const docs = "/pgctrl/desired/clusters/pg-test/"
	for _, bad := range []struct {
		key, value string
		reason     observed.Reason
	}{
		{docs + "services/primary", "port: many", observed.InvalidDocument},
		{docs + "services/replica", "port: 5433", observed.InvalidDocument}, // twice in one cluster
		{docs + "services/replica_fallback", "{port: 5999, role: primary}", observed.InvalidDocument},
		{docs + "services/x", "port: 5999", observed.InvalidDocument}, // no role
		{docs + "members/pg-test-2", "nod: pg2", observed.InvalidDocument},
		{"/pgctrl/desired/defaults/services", "maxcon: 3", observed.InvalidDocument},
		{"/pgctrl/desired/clusters/aaa/members/a", "node: pg1", observed.PortConflict}, // made older below
	} {
		m := cluster(t, "small", "pg-test", "pg-test-1")
		controllertest.Settle(t, New(), m, "pg-test")
		controllertest.Put(m, bad.key, bad.value)
		if bad.reason == observed.PortConflict {
			e := m.Keys[bad.key]
			e.CreateRevision = 1
			m.Keys[bad.key] = e
		}
		r := controllertest.Run(t, New(), m, "pg-test")
		found := false
		for _, c := range r.Conditions {
			found = found || c.Reason == bad.reason && c.Status == observed.False && c.Key != ""
		}
		if len(r.Outputs) != 0 || !found {
			t.Errorf("%s: %q gave %d outputs, conditions %v", bad.key, bad.value, len(r.Outputs), r.Conditions)
		}
	}
	// PostgreSQL's own document is not HAProxy's business once ports are fixed.
	m := cluster(t, "small", "pg-test", "pg-test-1")
	controllertest.Put(m, docs+"postgres", "parameters: 5")
	if r := controllertest.Run(t, New(), m, "pg-test"); len(r.Outputs) != 3 {
		t.Errorf("outputs %d, %v", len(r.Outputs), r.Conditions)
	}
}

func TestConditions(t *testing.T) {
	m := controllertest.Load(t, "../postgres/testdata/small.txtar")
	r := controllertest.Run(t, New(), m, "pg-test")
	if len(r.Outputs) > 0 || len(r.Conditions) != 1 || r.Conditions[0].Reason != observed.NotPlanned {
		t.Errorf("before forming: %v, %v", r.Outputs, r.Conditions)
	}
	m = cluster(t, "rich", "shop", "b")
	controllertest.Settle(t, New(), m, "shop")
	controllertest.Put(m, "/pgctrl/desired/nodes/lb1", "address: 10.10.10.40")
	r = controllertest.Run(t, New(), m, "shop")
	if len(r.Outputs) != 3 || len(r.Conditions) != 1 || r.Conditions[0].Reason != observed.Unmanaged {
		t.Errorf("a proxy without its role: %d outputs, %v", len(r.Outputs), r.Conditions)
	}
}

// TestServesAnIPv6Address: nodes that are known by IPv4 addresses have the services
// on a virtual address of the other kind too, for as long as some node may have it.
// A proxy never has it.
func TestServesAnIPv6Address(t *testing.T) {
	const doc = "/pgctrl/desired/clusters/shop/vip"
	m := cluster(t, "rich", "shop", "b")
	binds := func() (member, proxy string) {
		t.Helper()
		controllertest.Settle(t, New(), m, "shop")
		controllertest.Settle(t, vip.New(), m, "shop")
		controllertest.Settle(t, New(), m, "shop")
		bind := regexp.MustCompile(`(?m)^    bind (.*)$`)
		first := func(node string) string {
			return bind.FindStringSubmatch(unitOf(t, m, node, "shop").Files[0].Content)[1]
		}
		return first("db2"), first("lb1")
	}
	for _, step := range []struct{ doc, member string }{
		{"", "*:5438"},
		{"{address: 10.10.10.9/24, interface: eth0}", "*:5438"},
		{"{address: 'fd00::9/64', interface: eth0}", ":::5438 v4v6"},
		{"{adress: 10.10.10.9/24}", ":::5438 v4v6"}, // refused: the last one stays where it is
		{"", ":::5438 v4v6"}, // no longer managed, and still followed
		{"enabled: false", "*:5438"},
	} {
		controllertest.Delete(m, doc)
		if step.doc != "" {
			controllertest.Put(m, doc, step.doc)
		}
		member, proxy := binds()
		if member != step.member || proxy != "*:5438" {
			t.Errorf("with %q: member %q, proxy %q; want %q, %q", step.doc, member, proxy, step.member, "*:5438")
		}
	}
}

// TestUnmanagedMemberKeepsItsServers: it may still come to lead.
func TestUnmanagedMemberKeepsItsServers(t *testing.T) {
	m := cluster(t, "small", "pg-test", "pg-test-1")
	controllertest.Settle(t, New(), m, "pg-test")
	controllertest.Delete(m, "/pgctrl/desired/clusters/pg-test/members/pg-test-3")
	controllertest.Settle(t, New(), m, "pg-test")
	if n := len(unitOf(t, m, "pg1", "pg-test").Routes["primary"].Servers); n != 3 {
		t.Errorf("%d servers", n)
	}
}

// TestServiceSwitchedOff: what exists by default goes when a document says so, and
// comes back with the document's field; the others stay as they are.
func TestServiceSwitchedOff(t *testing.T) {
	m := cluster(t, "small", "pg-test", "pg-test-1")
	backends := func() string {
		controllertest.Settle(t, New(), m, "pg-test")
		u := unitOf(t, m, "pg1", "pg-test")
		out := ""
		for _, name := range []string{"primary", "replica", "default", "offline"} {
			_, routed := u.Routes[name]
			if served := strings.Contains(u.Files[0].Content, "frontend "+name); served || routed {
				out += name + " "
			}
		}
		return out
	}
	before := unitOf(t, settled(t, m), "pg1", "pg-test").Files[0].Content
	key := "/pgctrl/desired/clusters/pg-test/services/default"
	controllertest.Put(m, key, "enabled: false")
	for node := range 3 { // it goes from node to node
		answer(m, "pg"+string(rune('1'+node)))
		controllertest.Settle(t, New(), m, "pg-test")
	}
	answer(m, "pg1")
	answer(m, "pg2")
	answer(m, "pg3")
	if got := backends(); strings.Contains(got, "default") || !strings.Contains(got, "primary") {
		t.Errorf("switched off, node pg1 still has %s", got)
	}
	controllertest.Delete(m, key)
	for range 4 {
		for _, n := range []string{"pg1", "pg2", "pg3"} {
			answer(m, n)
		}
		controllertest.Settle(t, New(), m, "pg-test")
	}
	if got := unitOf(t, m, "pg1", "pg-test").Files[0].Content; got != before {
		t.Errorf("without the document it is not the default again:\n%s", got)
	}
}

func settled(t *testing.T, m *kv.Map) *kv.Map {
	controllertest.Settle(t, New(), m, "pg-test")
	return m
}

// answer lets a node's agent have its newest plan in force.
func answer(m *kv.Map, node string) {
	e, ok := m.Get(keys.Default.PlanKey(node, "pg-test", Concern))
	if !ok {
		return
	}
	controllertest.Put(m, keys.Default.ObservedKey(node, "pg-test", Concern), string(observed.Encode(observed.Report{
		Schema: 1, Concern: Concern, Plan: e.ModRevision, Loaded: "x",
		Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True}},
	})))
}

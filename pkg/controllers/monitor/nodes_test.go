package monitor

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/controllers/log"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// ofNodesOn is the file of the nodes' targets on a node with role infra; empty when it has
// none, or is to lose it.
func ofNodesOn(t testing.TB, m *kv.Map, node string) string {
	t.Helper()
	for _, e := range m.Range(keys.Default.NodePlans(node) + keys.NodeCluster + "/") {
		p, err := plan.Decode(e.Value)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range p.Resources {
			if w, ok := r.(plan.Watched); ok && p.Removal == nil {
				return w.Content
			}
		}
	}
	return ""
}

// settle lets everything of the nodes' Prometheus be planned.
func settle(t testing.TB, m *kv.Map) {
	t.Helper()
	for _, c := range []controllers.Controller{NewOfNodes(), NewServer(nil)} {
		controllertest.Settle(t, c, m, keys.NodeCluster)
	}
}

// TestBrokenPrometheusKeepsNoTargets: where one Prometheus can't be started, the other
// learns of a new node all the same.
func TestBrokenPrometheusKeepsNoTargets(t *testing.T) {
	m := formed(t)
	settle(t, m)
	for node, outcome := range map[string]observed.Condition{
		"infra1": {Type: observed.Applied, Status: observed.False, Reason: observed.Rejected},
		"infra2": {Type: observed.Applied, Status: observed.True},
	} {
		e, _ := m.Get(keys.Default.PlanKey(node, keys.NodeCluster, Program))
		controllertest.Put(m, keys.Default.ObservedKey(node, keys.NodeCluster, Program), string(observed.Encode(observed.Report{
			Schema: observed.Schema, Concern: Program, Plan: e.ModRevision, Loaded: "x", Conditions: []observed.Condition{outcome},
		})))
	}
	controllertest.Put(m, nodeDocs+"pg4", "address: 10.10.10.14")
	settle(t, m)
	for _, node := range []string{"infra1", "infra2"} {
		if got := ofNodesOn(t, m, node); !strings.Contains(got, "node: 'pg4'") {
			t.Errorf("%s knows no pg4:\n%s", node, got)
		}
	}
}

// TestTargetsGoWithTheRole: a node that is infra no more loses the file, and its plan when
// it has done so; the others stay.
func TestTargetsGoWithTheRole(t *testing.T) {
	m := formed(t)
	settle(t, m)
	controllertest.Put(m, nodeDocs+"infra2", "address: 10.10.10.9")
	settle(t, m)
	key := keys.Default.PlanKey("infra2", keys.NodeCluster, Targets)
	e, ok := m.Get(key)
	if p, err := plan.Decode(e.Value); !ok || err != nil || p.Removal == nil {
		t.Fatalf("infra2 has %s", e.Value)
	}
	controllertest.Put(m, keys.Default.ObservedKey("infra2", keys.NodeCluster, Targets), string(observed.Encode(observed.Report{
		Schema: observed.Schema, Concern: Targets, Plan: e.ModRevision,
		Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True, Reason: observed.Removed}},
	})))
	settle(t, m)
	if e, ok := m.Get(key); ok {
		t.Errorf("infra2 is done and has %s", e.Value)
	}
	if got := ofNodesOn(t, m, "infra1"); !strings.Contains(got, "job: 'agent', node: 'infra2'") || strings.Contains(got, "job: 'server', node: 'infra2'") {
		t.Errorf("infra1:\n%s", got)
	}
}

// TestNodesWithoutAWordStayTargets: a document that can't be used or is gone takes no
// target away (R4, R6), while anything says that the node is there; when nothing does any
// more, as after pgctrl node remove, it is none.
func TestNodesWithoutAWordStayTargets(t *testing.T) {
	m := formed(t)
	plans := func(node string) []kv.KV { return m.Range(keys.Default.NodePlans(node)) }
	for _, node := range []string{"pg2", "infra2"} {
		controllertest.Put(m, keys.Default.PlanKey(node, keys.NodeCluster, log.Promtail), string(plan.Encode(plan.Plan{Schema: plan.SchemaFiles})))
		controllertest.Put(m, keys.Default.ObservedKey(node, keys.NodeCluster, log.Promtail), string(observed.Encode(observed.Report{
			Schema: observed.Schema, Concern: log.Promtail, Loaded: "x",
		})))
	}
	controllertest.Put(m, keys.Default.StoreKey(), `{"schema":1,"incarnation":"i1","endpoints":["http://10.10.10.9:2379"]}`)
	of := func(node string) string {
		settle(t, m)
		var out []string
		for line := range strings.Lines(ofNodesOn(t, m, "infra1")) {
			if strings.Contains(line, "node: '"+node+"'") {
				out = append(out, line)
			}
		}
		slices.Sort(out)
		return strings.Join(out, "")
	}
	before := map[string]string{}
	for node, n := range map[string]int{"pg2": 2, "infra2": 5} {
		before[node] = of(node)
		if got := strings.Count(before[node], "\n"); got != n {
			t.Fatalf("%s has %d targets, want %d:\n%s", node, got, n, before[node])
		}
	}
	same := func(when string) {
		t.Helper()
		for node, want := range before {
			if got := of(node); got != want {
				t.Errorf("%s %s has\n%s, and had\n%s", when, node, got, want)
			}
		}
	}
	for node := range before {
		controllertest.Put(m, nodeDocs+node, "adress: 10.10.10.12")
	}
	same("while a word in their documents is wrong")
	controllertest.Put(m, nodeDocs+"pg9", "address: 10.10.10.19")
	same("when another joins meanwhile")
	for node := range before {
		controllertest.Delete(m, nodeDocs+node)
	}
	same("when their documents are gone")
	for node := range before {
		controllertest.Delete(m, keys.Default.AliveKey(node))
	}
	same("when they are silent, too")
	for node := range before {
		for _, e := range plans(node) {
			controllertest.Delete(m, e.Key)
		}
		if got := of(node); got != "" {
			t.Errorf("%s was removed, and has\n%s", node, got)
		}
	}
	controllertest.Put(m, nodeDocs+"pg2", "address: 10.10.10.42")
	if got := of("pg2"); strings.Contains(got, "10.10.10.12") || !strings.Contains(got, "10.10.10.42") {
		t.Errorf("pg2 has another address:\n%s", got)
	}
}

// TestTargetsOfLargeFleet: what there is of 3,000 nodes with their shippers fits a plan, and
// Prometheus's own plan does not grow with them.
func TestTargetsOfLargeFleet(t *testing.T) {
	m := formed(t)
	settle(t, m)
	size := func(program string) int {
		e, _ := m.Get(keys.Default.PlanKey("infra1", keys.NodeCluster, program))
		return len(e.Value)
	}
	targets, prometheus := size(Targets), size(Program)
	const n = 300
	for i := range n {
		node := fmt.Sprintf("pg-%04d", i)
		controllertest.Put(m, nodeDocs+node, fmt.Sprintf("address: 10.210.%d.%d", 100+i/100, 100+i%100))
		controllertest.Put(m, keys.Default.PlanKey(node, keys.NodeCluster, log.Promtail), string(plan.Encode(plan.Plan{Schema: plan.SchemaFiles})))
		controllertest.Put(m, keys.Default.ObservedKey(node, keys.NodeCluster, log.Promtail), string(observed.Encode(observed.Report{
			Schema: observed.Schema, Concern: log.Promtail, Loaded: "x",
		})))
	}
	settle(t, m)
	if got := strings.Count(ofNodesOn(t, m, "infra1"), "'10.210."); got != 2*n {
		t.Errorf("%d targets of %d nodes", got, n)
	}
	if grown := size(Targets) - targets; targets+grown/n*3000 > plan.MaxSize {
		t.Errorf("each node takes %d bytes, which times 3,000 is more than %d", grown/n, plan.MaxSize)
	} else {
		t.Logf("%d bytes a node: a plan has room for %d", grown/n, (plan.MaxSize-targets)*n/grown)
	}
	if got := size(Program); got != prometheus {
		t.Errorf("Prometheus's plan grew from %d to %d bytes", prometheus, got)
	}
}

// TestShippersAreTargetsOnceTheyRun: where promtail is not installed there is none.
func TestShippersAreTargetsOnceTheyRun(t *testing.T) {
	m := formed(t)
	for _, c := range []controllers.Controller{log.NewShippers(), log.NewStores()} {
		controllertest.Settle(t, c, m, keys.NodeCluster)
	}
	targets := func() string {
		controllertest.Settle(t, NewOfNodes(), m, keys.NodeCluster)
		return ofNodesOn(t, m, "infra1")
	}
	if got := targets(); strings.Contains(got, "promtail") || strings.Contains(got, "loki") {
		t.Errorf("nothing was ever started:\n%s", got)
	}
	for node, program := range map[string]string{"pg1": log.Promtail, "infra1": log.Loki} {
		controllertest.Put(m, keys.Default.ObservedKey(node, keys.NodeCluster, program), string(observed.Encode(observed.Report{
			Schema: observed.Schema, Concern: program, Loaded: "x",
		})))
	}
	if got := targets(); !strings.Contains(got, "'10.10.10.11:9080'") || !strings.Contains(got, "'10.10.10.10:3100'") || strings.Contains(got, "'10.10.10.12:9080'") {
		t.Errorf("what runs:\n%s", got)
	}
}

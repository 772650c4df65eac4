package monitor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestPromtoolAccepts: Prometheus's own checker takes its file and the files of targets
// that it names, and finds every target in them.
func TestPromtoolAccepts(t *testing.T) {
	m := formed(t)
	controllertest.Put(m, docs+"monitor", "interval: 3s")
	controllertest.Settle(t, New(), m, "pg-test")
	controllertest.Settle(t, NewServer(nil), m, keys.NodeCluster)
	controllertest.Settle(t, NewOfNodes(), m, keys.NodeCluster)
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(content, TargetsDir, dir)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c, _ := storedPlan(t, m, "infra1", "pg-test", Concern)
	w := c.Resources[0].(plan.Watched)
	write("pg-test.yml", strings.NewReplacer(plan.RoleOf("pg-test-1"), plan.RolePrimary).Replace(w.Content))
	n, ok := storedPlan(t, m, "infra1", keys.NodeCluster, Program)
	if !ok {
		t.Fatal("no Prometheus on infra1")
	}
	write("_node.yml", ofNodesOn(t, m, "infra1"))
	config := write("prometheus.yaml", n.Resources[0].(plan.Unit).Files[1].Content)
	out, err := exec.Command("promtool", "check", "config", config).CombinedOutput()
	if err != nil || strings.Contains(string(out), "WARNING") {
		t.Errorf("promtool (apt-get install prometheus): %v: %s", err, out)
	}
	out, err = exec.Command("promtool", "check", "service-discovery", "--timeout=1s", config, "pgctrl").CombinedOutput()
	if err != nil {
		t.Fatalf("promtool: %v: %s", err, out)
	}
	for _, want := range []string{`"10.10.10.11:9630"`, `"10.10.10.13:9631"`, `"10.10.10.12:8008"`, `"10.10.10.13:9101"`, `"10.10.10.9:9641"`, `"10.10.10.11:9641"`,
		`"10.10.10.10:9640"`, `"10.10.10.10:9090"`, `"role": "primary"`, `"__scrape_interval__": "3s"`, `"__scrape_timeout__": "3s"`, `"job": "postgres"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("promtool finds no %s", want)
		}
	}
}

// TestPrometheusOfNodes: one on each infra node, with the longest retention that anybody
// wants; none when every cluster is not to be measured.
func TestPrometheusOfNodes(t *testing.T) {
	m := formed(t)
	environment := func(node string) string {
		p, ok := storedPlan(t, m, node, keys.NodeCluster, Program)
		switch {
		case !ok:
			return "none"
		case p.Removal != nil:
			return "goes"
		}
		_, text, _ := strings.Cut(p.Resources[0].(plan.Unit).Files[0].Content, "removed)\n")
		return text
	}
	controllertest.Settle(t, NewServer(nil), m, keys.NodeCluster)
	if got := environment("infra1"); got != "LISTEN=:9090\nRETENTION=360h\n" || environment("pg1") != "none" {
		t.Errorf("infra1 %q, pg1 %q", got, environment("pg1"))
	}
	controllertest.Put(m, docs+"monitor", "retention: 30d")
	controllertest.Settle(t, NewServer(nil), m, keys.NodeCluster)
	if got := environment("infra1") + environment("infra2"); !strings.Contains(got, "RETENTION=720h") {
		t.Errorf("retention: %q", got)
	}
	controllertest.Put(m, docs+"monitor", "enabled: false")
	controllertest.Settle(t, NewServer(nil), m, keys.NodeCluster)
	if environment("infra1") != "goes" {
		t.Errorf("nobody is measured, and infra1 has %q", environment("infra1"))
	}
	for _, node := range []string{"infra1", "infra2"} {
		e, _ := m.Get(keys.Default.PlanKey(node, keys.NodeCluster, Program))
		controllertest.Put(m, keys.Default.ObservedKey(node, keys.NodeCluster, Program), string(observed.Encode(observed.Report{
			Schema: observed.Schema, Concern: Program, Plan: e.ModRevision,
			Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True, Reason: observed.Removed}},
		})))
		if environment("infra2") != "goes" {
			controllertest.Settle(t, NewServer(nil), m, keys.NodeCluster)
		}
	}
	controllertest.Settle(t, NewServer(nil), m, keys.NodeCluster)
	if got := environment("infra1") + environment("infra2"); got != "nonenone" {
		t.Errorf("both are done and have %q", got)
	}
	controllertest.Put(m, docs+"monitor", "enabled: true")
	controllertest.Settle(t, NewServer(nil), m, keys.NodeCluster)
	if got := environment("infra1"); !strings.HasPrefix(got, "LISTEN") {
		t.Errorf("switched on again: %q", got)
	}
}

// TestRetentionOutlivesTypos: what Prometheus once deletes does not come back, so a document
// that can't be used, or that is gone, shortens nothing (R4, R6).
func TestRetentionOutlivesTypos(t *testing.T) {
	m := formed(t)
	settings := func() string {
		controllertest.Settle(t, NewServer(nil), m, keys.NodeCluster)
		p, _ := storedPlan(t, m, "infra1", keys.NodeCluster, Program)
		_, text, _ := strings.Cut(p.Resources[0].(plan.Unit).Files[0].Content, "RETENTION=")
		return strings.TrimSpace(text)
	}
	controllertest.Put(m, docs+"monitor", "retention: 90d")
	if got := settings(); got != "2160h" {
		t.Fatalf("asked for 90d: %s", got)
	}
	controllertest.Put(m, docs+"monitor", "retention: 90d\nintervall: 10s")
	if got := settings(); got != "2160h" {
		t.Errorf("a typo in the cluster's own document: %s", got)
	}
	controllertest.Put(m, docs+"monitor", "retention: 180d")
	controllertest.Put(m, docs+"members/pg-test-1", "nodde: pg1")
	if got := settings(); got != "2160h" {
		t.Errorf("a typo in a member's document, so nobody says 180d yet: %s", got)
	}
	for _, e := range m.Range(docs) {
		controllertest.Delete(m, e.Key)
	}
	controllertest.Put(m, keys.Default.FormedKey("pg-test"), `{"schema":1}`)
	if got := settings(); got != "2160h" {
		t.Errorf("every document is gone: %s", got)
	}
	controllertest.Delete(m, keys.Default.FormedKey("pg-test"))
	if got := settings(); got != "360h" {
		t.Errorf("the cluster is gone for good: %s", got)
	}
}

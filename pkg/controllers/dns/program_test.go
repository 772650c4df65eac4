package dns

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// serverOf is the file of a node's server; empty: it has no plan, or one to lose it.
func serverOf(t testing.TB, m *kv.Map, node string) string {
	t.Helper()
	e, ok := m.Get(keys.Default.PlanKey(node, keys.NodeCluster, Program))
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
	return p.Resources[1].(plan.Unit).Files[0].Content
}

// says are the settings in it, without comments and proof.
func says(text string) string {
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "txt-record=") && !strings.HasPrefix(line, "hostsdir=") {
			out = append(out, line)
		}
	}
	return strings.Join(out, " ")
}

// reported answers a node's newest plan.
func reported(m *kv.Map, node string, c observed.Condition) {
	e, _ := m.Get(keys.Default.PlanKey(node, keys.NodeCluster, Program))
	r := observed.Report{Schema: observed.Schema, Concern: Program, UID: keys.NodeCluster, Plan: e.ModRevision, Loaded: "x"}
	c.Type = observed.Applied
	r.Conditions = append(r.Conditions, c)
	controllertest.Put(m, keys.Default.ObservedKey(node, keys.NodeCluster, Program), string(observed.Encode(r)))
}

func settled(t testing.TB, m *kv.Map) {
	t.Helper()
	for range 4 { // node after node
		controllertest.Settle(t, NewServer(), m, keys.NodeCluster)
		for _, node := range []string{"infra1", "infra2"} {
			switch serverOf(t, m, node) {
			case "":
			case "removal":
				reported(m, node, observed.Condition{Status: observed.True, Reason: observed.Removed})
			default:
				reported(m, node, observed.Condition{Status: observed.True})
			}
		}
	}
}

// TestServerGolden: what the real dnsmasq accepts.
func TestServerGolden(t *testing.T) {
	m := formed(t)
	controllertest.Put(m, docs+"dns", "{suffix: db.example.org, ttl: 5s}")
	settled(t, m)
	controllertest.Deterministic(t, NewServer(), m, keys.NodeCluster)
	text := serverOf(t, m, "infra1")
	controllertest.Golden(t, "testdata/pgctrl.conf", []byte(text))
	program, err := exec.LookPath("dnsmasq")
	if err != nil {
		t.Fatal("needs dnsmasq: apt-get install dnsmasq-base")
	}
	path := filepath.Join(t.TempDir(), "pgctrl.conf")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, "--test", "--conf-file="+path).CombinedOutput(); err != nil {
		t.Errorf("dnsmasq refuses it: %s", out)
	}
}

func TestServer(t *testing.T) {
	const other = "/pgctrl/desired/clusters/pg-other/"
	for name, c := range map[string]struct {
		docs map[string]string
		want string
	}{
		"no document":     {nil, "local-ttl=1 local=//"},
		"a suffix":        {map[string]string{docs + "dns": "suffix: db.test"}, "local-ttl=1 local=/db.test/"},
		"shared suffix":   {map[string]string{docs + "dns": "{suffix: db.test, forward: true}", other + "members/o": "node: pg1", other + "dns": "{suffix: db.test, ttl: 10s}"}, "local-ttl=1"},
		"the least ttl":   {map[string]string{docs + "dns": "{suffix: db.test, ttl: 30s}", other + "members/o": "node: pg1", other + "dns": "{suffix: db.test, ttl: 10s}"}, "local-ttl=10 local=/db.test/"},
		"none is enabled": {map[string]string{docs + "dns": "enabled: false"}, "local-ttl=1"},
		"no ttl":          {map[string]string{docs + "dns": "ttl: 0s"}, "local-ttl=0 local=//"},
	} {
		m := formed(t)
		for key, text := range c.docs {
			controllertest.Put(m, key, text)
		}
		settled(t, m)
		for _, node := range []string{"infra1", "infra2"} {
			if got := says(serverOf(t, m, node)); got != c.want {
				t.Errorf("%s: %s says %s, want %s", name, node, got, c.want)
			}
		}
		if serverOf(t, m, "pg1") != "" {
			t.Errorf("%s: a node without role infra has a server", name)
		}
	}
}

// TestR4OneClustersMistake: while a document can't be read, or all of a cluster's are gone,
// nothing of what the server has is taken away, and nothing comes that may be wrong.
func TestR4OneClustersMistake(t *testing.T) {
	const other = "/pgctrl/desired/clusters/pg-other/"
	for name, c := range map[string]struct {
		dns, others, then string
		before, after     string
	}{
		"a suffix stays, and others wait": {"suffix: a.test", "suffix: b.test", "suffix: c.test",
			"local-ttl=1 local=/a.test/ local=/b.test/", "local-ttl=1 local=/a.test/ local=/b.test/"},
		"the least ttl stays, and what is forwarded": {"{suffix: db.test, ttl: 1s, forward: true}", "{suffix: db.test, ttl: 30s}", "{suffix: db.test, ttl: 20s}",
			"local-ttl=1", "local-ttl=1"},
		"less is less": {"{suffix: db.test, ttl: 10s}", "{suffix: db.test, ttl: 30s}", "{suffix: db.test, ttl: 2s}",
			"local-ttl=10 local=/db.test/", "local-ttl=2 local=/db.test/"},
	} {
		for what, fault := range map[string]func(m *kv.Map){
			"mistyped": func(m *kv.Map) { controllertest.Put(m, docs+"dns", strings.Replace(c.dns, "suffix", "sufix", 1)) },
			"gone":     func(m *kv.Map) { deleteAll(m, docs) }, // R6
		} {
			m := formed(t)
			controllertest.Put(m, docs+"dns", c.dns)
			controllertest.Put(m, other+"members/o", "node: pg1")
			controllertest.Put(m, other+"dns", c.others)
			settled(t, m)
			if got := says(serverOf(t, m, "infra1")); got != c.before {
				t.Fatalf("%s: it says %s, want %s", name, got, c.before)
			}
			fault(m)
			controllertest.Put(m, other+"dns", c.then)
			settled(t, m)
			if got := says(serverOf(t, m, "infra1")); got != c.after {
				t.Errorf("%s, %s: it says %s, want %s", name, what, got, c.after)
			}
		}
	}
}

// TestServersChangeOneByOne: while one restarts the other answers.
func TestServersChangeOneByOne(t *testing.T) {
	m := formed(t)
	settled(t, m)
	controllertest.Put(m, docs+"dns", "suffix: db.test")
	controllertest.Settle(t, NewServer(), m, keys.NodeCluster)
	changed := func(node string) bool { return strings.Contains(serverOf(t, m, node), "/db.test/") }
	if !changed("infra1") || changed("infra2") {
		t.Fatalf("infra1 %v, infra2 %v before infra1 has answered", changed("infra1"), changed("infra2"))
	}
	reported(m, "infra1", observed.Condition{Status: observed.False, Reason: observed.RolledBack, Message: "no"})
	controllertest.Settle(t, NewServer(), m, keys.NodeCluster)
	if changed("infra2") {
		t.Fatal("what infra1 refused went to infra2")
	}
	reported(m, "infra1", observed.Condition{Status: observed.True})
	controllertest.Settle(t, NewServer(), m, keys.NodeCluster)
	if !changed("infra2") {
		t.Error("infra2 is not changed after infra1 is done")
	}
}

// TestR6OnlyWordsRemoveServers is TestR6OnlyWordsRemoveNames for the program.
func TestR6OnlyWordsRemoveServers(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*kv.Map)
		gone bool
	}{
		"its document is gone":  {func(m *kv.Map) { controllertest.Delete(m, nodeDocs+"infra2") }, false},
		"it can't be read":      {func(m *kv.Map) { controllertest.Put(m, nodeDocs+"infra2", "adress: 10.10.10.9") }, false},
		"all documents are":     {func(m *kv.Map) { deleteAll(m, keys.Default.DesiredPrefix()) }, false},
		"it has another role":   {func(m *kv.Map) { controllertest.Put(m, nodeDocs+"infra2", "{address: 10.10.10.9, roles: [proxy]}") }, true},
		"its agent is an older": {func(m *kv.Map) { alive(m, "infra2", plan.SchemaTLS) }, false},
	} {
		m := formed(t)
		settled(t, m)
		c.do(m)
		controllertest.Settle(t, NewServer(), m, keys.NodeCluster)
		if got := serverOf(t, m, "infra2"); got == "" || (got == "removal") != c.gone {
			t.Errorf("%s: infra2 has %q", name, got)
		}
		settled(t, m)
		if got := serverOf(t, m, "infra2"); (got == "") != c.gone {
			t.Errorf("%s, answered: infra2 has %q", name, got)
		}
		if serverOf(t, m, "infra1") == "" {
			t.Errorf("%s: infra1 has none", name)
		}
	}
}

func deleteAll(m *kv.Map, prefix string) {
	for _, e := range m.Range(prefix) {
		controllertest.Delete(m, e.Key)
	}
}

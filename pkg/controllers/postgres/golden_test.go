package postgres

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// led is the cluster with everything formed and a leader.
func led(t testing.TB, name, cluster, leader string) *kv.Map {
	t.Helper()
	m := controllertest.Load(t, "testdata/"+name+".txtar")
	controllertest.Settle(t, New(), m, cluster)
	controllertest.Put(m, "/pg/"+cluster+"/initialize", "7300000000000000001")
	controllertest.Put(m, "/pg/"+cluster+"/leader", leader)
	controllertest.Settle(t, New(), m, cluster)
	return m
}

func storedPlan(t testing.TB, m *kv.Map, node, cluster string) plan.Plan {
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

// pretty is the plan as people read it, file contents aside.
func pretty(t testing.TB, p plan.Plan) (text, content []byte) {
	t.Helper()
	for i, r := range p.Resources {
		if u, ok := r.(plan.Unit); ok {
			content = []byte(u.Files[0].Content)
			u.Files = append([]plan.File(nil), u.Files...)
			u.Files[0].Content = "(beside this file)"
			p.Resources[i] = u
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(p); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), content
}

func TestGolden(t *testing.T) {
	for _, c := range []struct {
		name, cluster, leader string
		nodes                 []string
	}{
		{"small", "pg-test", "pg-test-1", []string{"pg1", "pg2", "pg3"}},
		{"rich", "shop", "b", []string{"db1", "db2", "db3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := led(t, c.name, c.cluster, c.leader)
			controllertest.Deterministic(t, New(), m, c.cluster)
			formed, _ := m.Get(keys.Default.FormedKey(c.cluster))
			controllertest.Golden(t, "testdata/"+c.name+"/formed.json", append(formed.Value, '\n'))
			for _, node := range c.nodes {
				text, content := pretty(t, storedPlan(t, m, node, c.cluster))
				controllertest.Golden(t, "testdata/"+c.name+"/"+node+".json", text)
				controllertest.Golden(t, "testdata/"+c.name+"/"+node+".yml", content)
			}
		})
	}
}

// expand puts a secret with every awkward character where the placeholders are.
func expand(t testing.TB, content string) string {
	t.Helper()
	out, err := plan.Expand(content, plan.Values{Secret: func(string) ([]byte, bool) { return []byte(`p'"\ #: {x} %`), true }})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEveryFileNamesItsKeyAndHoldsNoRevision(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files: %v, %v", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(string(b), "\nscope:")
		for _, want := range []string{"/pgctrl/plan/", "/pgctrl/desired/clusters/", "pgctrl set ", "touch /etc/pgctrl/freeze."} {
			if !strings.Contains(head, want) {
				t.Errorf("%s: the header does not say %q", f, want)
			}
		}
		for _, not := range []string{"revision", "pgctrl freeze"} { // the command does not exist yet
			if strings.Contains(head, not) {
				t.Errorf("%s: the header says %q", f, not)
			}
		}
		expand(t, string(b))
	}
}

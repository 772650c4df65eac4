package rollout

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// want is a plan with the given content.
func want(content string, inputs int64) plan.Plan {
	return plan.Plan{Schema: 1, Writer: "t", UID: "u", Inputs: plan.Inputs{Revision: inputs},
		Resources: plan.Resources{plan.Unit{Unit: "x.service", Program: "haproxy", Files: []plan.File{{Path: "/x", Content: content}}}}}
}

func stored(content string, rev int64) *Stored { return store(want(content, 1), rev) }

// store is a plan as a server has it in mind.
func store(p plan.Plan, rev int64) *Stored {
	short, err := plan.ReadShort(plan.Shorten(plan.Encode(p)))
	if err != nil {
		panic(err)
	}
	return &Stored{Short: short, Whole: func() (plan.Plan, bool) { return p, true }, Revision: rev}
}

func says(rev int64, status observed.Status, reason observed.Reason) *observed.Report {
	return &observed.Report{Plan: rev, Conditions: []observed.Condition{{Type: observed.Applied, Status: status, Reason: reason, Message: "words"}}}
}

func doneAt(rev int64) *observed.Report { return says(rev, observed.True, "") }

// written lists the nodes that get the wanted content.
func written(t *testing.T, d Decision, nodes []Node) string {
	t.Helper()
	var out []string
	for _, n := range nodes {
		value, changes := d.Values[n.Name]
		if n.Stored == nil || changes && !n.Stored.Is(value) {
			if string(value) != string(plan.Encode(n.Want)) {
				t.Fatalf("node %s: neither the stored nor the wanted plan", n.Name)
			}
			out = append(out, n.Name)
		}
	}
	return strings.Join(out, " ")
}

func node(name string, s *Stored, r *observed.Report) Node {
	return Node{Name: name, Key: "/plan/" + name, Want: want("new", 2), Stored: s, Report: r, Alive: true}
}

func TestDecide(t *testing.T) {
	leads := func(n Node) Node { n.Leads = true; return n }
	away := func(n Node) Node { n.Alive = false; return n }
	empty := func(n Node) Node { n.Empty = true; return n }
	sick := doneAt(7)
	sick.Conditions = append(sick.Conditions, observed.Condition{Type: observed.Healthy, Status: observed.False, Reason: observed.NotStreaming})
	for _, c := range []struct {
		name    string
		nodes   []Node
		written string
		waits   string // of the first waiting node
	}{
		{"first time goes everywhere", []Node{node("a", nil, nil), node("b", nil, nil)}, "a b", ""},
		{"one node at a time", []Node{node("a", stored("old", 7), doneAt(7)), node("b", stored("old", 7), doneAt(7))}, "a", "node b until its turn"},
		{"the leader's node last", []Node{leads(node("a", stored("old", 7), doneAt(7))), node("b", stored("old", 7), doneAt(7))}, "b", "node a until its turn"},
		{"waits for an answer", []Node{node("a", stored("new", 8), doneAt(7)), node("b", stored("old", 7), doneAt(7))}, "a", "until node a has answered"},
		{"goes on when done", []Node{node("a", stored("new", 8), doneAt(8)), node("b", stored("old", 7), doneAt(7))}, "a b", ""},
		{"a refusal stops it", []Node{node("a", stored("new", 8), says(8, observed.False, observed.Rejected)), node("b", stored("old", 7), doneAt(7))}, "a", "node a says Rejected: words"},
		{"a newer content replaces a refused one", []Node{node("b", stored("bad", 8), says(8, observed.False, observed.RolledBack)), node("a", stored("old", 7), doneAt(7))}, "b", "RolledBack"},
		{"a newer content replaces an unanswered one", []Node{node("b", stored("bad", 8), doneAt(7)), node("a", stored("old", 7), doneAt(7))}, "b", "until node b has answered"},
		{"two broken ones are put right one by one", []Node{node("a", stored("bad", 8), says(8, observed.False, observed.PortInUse)), node("b", stored("bad", 8), says(8, observed.False, observed.PortInUse))}, "a", "PortInUse"},
		{"an unhealthy node stops it", []Node{node("a", stored("new", 7), sick), node("b", stored("old", 7), doneAt(7))}, "a", "NotStreaming"},
		{"a node away blocks nobody and keeps its plan", []Node{away(node("a", stored("old", 7), doneAt(7))), node("b", stored("old", 7), doneAt(7))}, "b", "node a is away"},
		{"an empty node blocks nobody and is not held up", []Node{empty(node("a", stored("old", 7), nil)), node("b", stored("old", 7), doneAt(7)), node("c", stored("old", 7), doneAt(7))}, "a b", "node c until"},
		{"a pending restart is no reason to wait", []Node{node("a", stored("new", 7), says(7, observed.False, observed.PendingRestart)), node("b", stored("old", 7), doneAt(7))}, "a b", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := Decide(c.nodes)
			if got := written(t, d, c.nodes); got != c.written {
				t.Errorf("wrote %q, want %q", got, c.written)
			}
			msg := ""
			if len(d.Waiting) > 0 {
				msg = d.Waiting[0].Message
			}
			if !strings.Contains(msg, c.waits) || (c.waits == "") != (msg == "") {
				t.Errorf("waits %q, want it to contain %q", msg, c.waits)
			}
		})
	}
}

func TestRevisionAloneIsNotGated(t *testing.T) {
	nodes := []Node{node("a", stored("new", 7), doneAt(7)), node("b", stored("new", 7), nil)}
	if got := written(t, Decide(nodes), nodes); got != "a b" {
		t.Errorf("wrote %q", got)
	}
}

func TestLoad(t *testing.T) {
	newer := kv.KV{Key: "/p", Value: []byte(`{"schema":99}`)}
	n := Node{Name: "a"}
	if err := n.Load(kv.NewMap(newer), "/p", "/r"); err == nil || n.Stored != nil {
		t.Errorf("a newer schema: %v, %v", err, n.Stored)
	}
	n = Node{Name: "a", Want: want("x", 1)}
	if err := n.Load(kv.NewMap(kv.KV{Key: "/p", Value: []byte(`{`)}), "/p", "/r"); err != nil || !n.changed() {
		t.Errorf("garbage: %v, changed %v", err, n.changed())
	}
}

// TestRolloutProperty lets nodes answer in any order and refuse,
// while the leader moves and documents change: there are never two nodes with an
// unanswered change, and once answers come and nothing changes, all nodes have
// the newest content (unless they refuse it).
func TestRolloutProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rev := int64(10)
		nodes := make([]Node, rapid.IntRange(1, 5).Draw(t, "nodes"))
		for i := range nodes {
			nodes[i] = node(fmt.Sprintf("n%d", i), stored("c0", rev), doneAt(rev))
			nodes[i].Want = want("c0", 1)
		}
		changing := map[string]bool{}
		write := func() {
			d := Decide(nodes)
			for i := range nodes {
				n := &nodes[i]
				if v, ok := d.Values[n.Name]; ok && !n.Stored.Is(v) {
					rev++
					if n.changed() {
						changing[n.Name] = true
					}
					p, err := plan.Decode(v)
					if err != nil {
						t.Fatal(err)
					}
					n.Stored, n.differs = store(p, rev), nil
				}
			}
			unanswered := 0
			for _, n := range nodes {
				if changing[n.Name] && n.Alive {
					unanswered++
				}
			}
			if unanswered > 1 {
				t.Fatalf("%d nodes in flight", unanswered)
			}
		}
		version := 0
		steps := rapid.SliceOf(rapid.SampledFrom([]string{"answer", "answer", "refuse", "change", "leader", "touch", "write"})).Draw(t, "steps")
		for _, s := range steps {
			i := rapid.IntRange(0, len(nodes)-1).Draw(t, "node")
			switch s {
			case "answer":
				nodes[i].Report = doneAt(nodes[i].Stored.Revision)
				delete(changing, nodes[i].Name)
			case "refuse":
				nodes[i].Report = says(nodes[i].Stored.Revision, observed.False, observed.Rejected)
				delete(changing, nodes[i].Name)
			case "change", "touch":
				if s == "change" {
					version++
				}
				for j := range nodes {
					nodes[j].Want = want(fmt.Sprintf("c%d", version), rev)
					nodes[j].encoded, nodes[j].differs = nil, nil
				}
			case "leader":
				for j := range nodes {
					nodes[j].Leads = j == i
				}
			}
			write()
		}
		// From here on every node answers well; it must end, and soon.
		for range 2*len(nodes) + 1 {
			for i := range nodes {
				nodes[i].Report = doneAt(nodes[i].Stored.Revision)
				delete(changing, nodes[i].Name)
			}
			write()
		}
		for _, n := range nodes {
			if n.changed() {
				t.Fatalf("node %s never got its plan", n.Name)
			}
		}
	})
}

package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func content1(text string) plan.Plan {
	return plan.Plan{Schema: 1, Resources: plan.Resources{plan.Unit{Unit: "u", Program: "p", Files: []plan.File{{Path: "/f", Mode: "0600", Content: text}}}}}
}

// frozenNode has plan "old" stored at revision 5 and in force, and is frozen.
func frozenNode(name string, loaded string) Node {
	return Node{
		Name: name, Key: "/plan/" + name, Want: content1("new"), Alive: true,
		Stored: store(content1("old"), 5),
		Report: &observed.Report{Plan: 5, Loaded: plan.Hash(content1(loaded).Resources, nil), Conditions: []observed.Condition{
			{Type: observed.Applied, Status: observed.True},
			{Type: observed.Healthy, Status: observed.True, Reason: observed.Frozen, Message: "nothing is applied", Next: "rm /etc/pgctrl/freeze (on " + name + ")"},
		}},
	}
}

func wellNode(name string) Node {
	n := frozenNode(name, "old")
	n.Report.Conditions = n.Report.Conditions[:1]
	return n
}

// A frozen node holds nobody up, takes no change, and says so with the way out.
func TestFrozenNodeIsPassedBy(t *testing.T) {
	d := Decide([]Node{frozenNode("a", "old"), wellNode("b"), wellNode("c")})
	got := fmt.Sprintf("a:%v b:%v c:%v", changedTo(d, "a"), changedTo(d, "b"), changedTo(d, "c"))
	if got != "a:false b:true c:false" {
		t.Fatalf("changed: %s", got)
	}
	w := d.Waiting[0]
	if w.Reason != observed.Frozen || !strings.Contains(w.Message, "node a, which is frozen") || w.Next != "rm /etc/pgctrl/freeze (on a)" {
		t.Errorf("a waits: %+v", w)
	}
	// A drifted one is no different: what it has in store is what it had in force.
	drifted := frozenNode("a", "old")
	drifted.Report.Conditions[0] = observed.Condition{Type: observed.Applied, Status: observed.False, Reason: observed.Frozen}
	if d := Decide([]Node{drifted, wellNode("b")}); !changedTo(d, "b") || changedTo(d, "a") {
		t.Error("a drifted frozen node holds up the others")
	}
}

// A node that was frozen with the change in store may begin with it when it thaws,
// so nobody else does meanwhile (R15); the way out is said.
func TestFrozenWithTheChangeStopsTheOthers(t *testing.T) {
	a := frozenNode("a", "older")
	a.Report.Conditions[0] = observed.Condition{Type: observed.Applied, Status: observed.False, Reason: observed.Frozen, Message: "left so", Next: "rm it"}
	a.Want = content1("old")
	d := Decide([]Node{a, wellNode("b")})
	if changedTo(d, "b") {
		t.Fatal("b changes while a may begin at any moment")
	}
	if w := d.Waiting[0]; w.Reason != observed.Frozen || w.Next != "rm it" || !strings.Contains(w.Message, "node a already") {
		t.Errorf("b waits: %+v", w)
	}
}

// The freeze itself goes to every node at once, also to those whose change waits.
func TestAFreezeWaitsForNobody(t *testing.T) {
	f := &plan.Freeze{Until: time.Unix(4e9, 0).UTC(), Owner: "bob"}
	nodes := []Node{wellNode("a"), wellNode("b"), frozenNode("c", "old")}
	for i := range nodes {
		nodes[i].Want.Freeze = f
	}
	d := Decide(nodes)
	for _, n := range nodes {
		p, err := plan.Decode(d.Values[n.Name])
		if err != nil || !p.Freeze.Same(f) {
			t.Errorf("node %s: freeze %+v, %v", n.Name, p.Freeze, err)
		}
	}
	if changedTo(d, "b") || changedTo(d, "c") {
		t.Error("the change went out with the freeze")
	}
	// Taking it away is no change either.
	n := wellNode("a")
	was := content1("old")
	was.Freeze = f
	n.Stored, n.Want = store(was, 5), content1("old")
	if n.changed() {
		t.Error("the end of a freeze counts as a change")
	}
}

func changedTo(d Decision, name string) bool {
	return strings.Contains(string(d.Values[name]), `"new"`)
}

package topology

import (
	"fmt"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// schema is the one in which the cluster's plans are written by a server whose newest
// is newest: what the present agents of all its nodes have announced. An agent that is
// away is not waited for; should it come back older, the next plan is in its schema.
func (t *Topology) schema(newest int) int {
	nodes := map[string]bool{}
	for _, n := range t.Docs.ProxyNodes() {
		nodes[n] = true
	}
	for _, m := range t.Members {
		nodes[m.Node] = true
	}
	var announced []int
	for n := range nodes {
		if a, ok := t.Alive(n); ok {
			announced = append(announced, a.PlanSchema)
		}
	}
	return plan.SchemaFor(newest, announced)
}

// Understood reports whether every present agent of the cluster's nodes knows plans
// of the schema. A concern whose resources need a newer one waits for the last.
func (t *Topology) Understood(schema int) bool { return t.schema(schema) == schema }

// Older reports that a node's agent is there and knows no files by themselves and no
// programs that clusters share, with what to say of it; does is what it does not do. Such a
// plan concerns that node alone, so nobody else waits for it.
func Older(in controllers.Input, node, does string) (observed.Condition, bool) {
	key := in.Layout.AliveKey(node)
	a, ok := observed.Read[observed.Alive](in.Snapshot, key)
	if !ok || a.PlanSchema >= plan.SchemaFiles {
		return observed.Condition{}, false
	}
	return observed.Condition{
		Type: observed.Planned, Status: observed.False, Reason: observed.UnsupportedSchema, Key: key,
		Message: fmt.Sprintf("the agent of node %s is of an earlier version that %s; what is there is left as it is", node, does),
		Next:    "pgctrl node list (shows which agents are older)",
	}, true
}

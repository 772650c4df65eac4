package topology

import "github.com/pgctrl/pgctrl/pkg/plan"

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

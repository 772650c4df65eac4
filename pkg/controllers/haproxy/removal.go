package haproxy

import (
	"slices"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// leaving finds the nodes on which nothing of this cluster's HAProxy is to stay:
// all of them when the cluster goes, else those of members that go, unless the node
// is a proxy by itself. want gets a removal for each; what is done is deleted.
func leaving(in controllers.Input, t *topology.Topology, stays []string, want map[string]plan.Plan) []controllers.Output {
	return t.Clear(in, Concern, version.String(), func(node string) bool {
		return !slices.Contains(stays, node) && t.Goes(node)
	}, want)
}

// staying are the nodes that run the cluster's HAProxy: as documents say, and those
// of members that are to go and may not yet, because they lead.
func staying(t *topology.Topology) []string {
	if t.Removing {
		return nil
	}
	nodes := t.Docs.ProxyNodes()
	for _, m := range t.Docs.MemberList() {
		if m.Absent() && !t.Leaving[m.Name] && !slices.Contains(nodes, m.Node) {
			nodes = append(nodes, m.Node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// removeAll is the answer for a cluster that is to go as a whole.
func removeAll(in controllers.Input, t *topology.Topology, cs []observed.Condition) controllers.Result {
	want := map[string]plan.Plan{}
	out := leaving(in, t, nil, want)
	rolled, waiting := t.Rollout(in, Concern, want, func(_ string, r *observed.Report) bool { return topology.NothingLoaded(r) })
	cs = append(cs, waiting...)
	observed.Sort(cs)
	return controllers.Result{Outputs: append(out, rolled...), Conditions: cs}
}

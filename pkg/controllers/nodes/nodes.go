// Package nodes is what controllers of shared programs begin with: programs of which a
// node runs one for all its clusters, such as the name server of an infra node. Their
// plans are kept under the pseudo cluster keys.NodeCluster and name no leader.
//
// A concern has two halves then: the program, planned once for each node by a
// controllers.Shared, and what each cluster contributes to it, files that the program
// reads by itself, planned by the concern's own controller. So a cluster that comes or
// goes restarts nothing.
package nodes

import (
	"maps"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// Fleet is every cluster and node as a shared program sees them.
type Fleet struct {
	// Nodes are those with a document that can be used, by name.
	Nodes map[string]*desired.Node
	// Clusters are those that some document asks for and none removes, by name.
	Clusters []*desired.Cluster
	// Unread are the clusters of which nothing can be said, because a document can't be
	// used or all are gone: what they contribute to a program stays as it is (R4, R6).
	Unread []string

	in    controllers.Input
	store observed.Store
}

// base are the documents that say which clusters there are, and which go.
var base = []string{"members", "postgres"}

// Inputs is what Load reads, with the documents of the kinds.
func Inputs(kinds ...string) []controllers.Access {
	in := []controllers.Access{{Family: keys.Nodes}, {Family: keys.Alive}, {Family: keys.Store}, {Family: keys.Formed, Fleet: true}}
	for _, kind := range unique(base, kinds) {
		in = append(in,
			controllers.Access{Family: keys.Desired, Part: kind, Fleet: true},
			controllers.Access{Family: keys.Defaults, Part: kind})
	}
	return in
}

// Reports is the input from which Outputs knows what nodes have done.
func Reports(program string) controllers.Access {
	return controllers.Access{Family: keys.Observed, Part: program}
}

// Load reads the fleet with the documents of the kinds. Without ok nothing may be
// planned, and the conditions say why.
func Load(in controllers.Input, kinds ...string) (f *Fleet, cs []observed.Condition, ok bool) {
	f = &Fleet{in: in}
	if f.store, ok = observed.Read[observed.Store](in.Snapshot, in.Layout.StoreKey()); !ok || f.store.Incarnation == "" {
		return f, []observed.Condition{topology.NoStore(in.Layout.StoreKey())}, false
	}
	var problems []desired.Problem
	f.Nodes, problems = desired.Nodes(in.Snapshot, in.Layout)
	for _, p := range problems {
		cs = append(cs, p.Condition())
	}
	kinds = unique(base, kinds)
	said := map[string]bool{}
	for _, c := range desired.LoadAll(in.Snapshot, in.Layout, kinds...) {
		switch {
		case slices.ContainsFunc(kinds, c.Invalid):
			f.Unread = append(f.Unread, c.Name)
		case c.Removing():
		case c.Exists():
			f.Clusters = append(f.Clusters, c)
		default:
			continue
		}
		said[c.Name] = true
	}
	for _, e := range in.Snapshot.Range(in.Layout.Prefix(keys.Formed)) {
		if ref, err := in.Layout.Parse(e.Key); err == nil && !said[ref.Cluster] {
			f.Unread = append(f.Unread, ref.Cluster)
		}
	}
	return f, cs, true
}

// WithRole are the nodes with a role, by name.
func (f *Fleet) WithRole(role string) []*desired.Node {
	var out []*desired.Node
	for _, name := range slices.Sorted(maps.Keys(f.Nodes)) {
		if n := f.Nodes[name]; n.HasRole(role) {
			out = append(out, n)
		}
	}
	return out
}

// Plan is the part of a node's plan that is the same for every program.
func (f *Fleet) Plan(n *desired.Node, resources ...plan.Resource) plan.Plan {
	return plan.Plan{
		Schema: plan.SchemaFiles, Writer: version.String(), Store: f.store.Incarnation, UID: keys.NodeCluster,
		Inputs:  plan.Inputs{Revision: n.ModRevision},
		Cluster: plan.Cluster{Name: keys.NodeCluster, Members: []plan.Member{}}, Resources: resources,
	}
}

// Stored is the plan that a node has of a program; false when there is none that can be
// read.
func (f *Fleet) Stored(node, program string) (plan.Plan, bool) {
	e, ok := f.in.Snapshot.Get(f.in.Layout.PlanKey(node, keys.NodeCluster, program))
	if !ok {
		return plan.Plan{}, false
	}
	p, err := plan.Decode(e.Value)
	return p, err == nil
}

// Runs reports whether a node is to run a program and has done so: one that could never be
// started there, as when it is not installed, is its status's business and nobody else's.
func (f *Fleet) Runs(node, program string) bool {
	p, ok := f.Stored(node, program)
	if !ok || p.Removal != nil {
		return false
	}
	r, ok := observed.Read[observed.Report](f.in.Snapshot, f.in.Layout.ObservedKey(node, keys.NodeCluster, program))
	return ok && r.Loaded != ""
}

// Older reports that a node's agent is there and knows no shared programs, with what to
// say of it.
func (f *Fleet) Older(node, program string) (observed.Condition, bool) {
	return topology.Older(f.in, node, "runs no "+program)
}

func unique(lists ...[]string) []string {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Compact(all)
}

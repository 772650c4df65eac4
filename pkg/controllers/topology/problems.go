package topology

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// problems is everything wrong with the documents of these kinds, and with the
// nodes of the cluster's members. Other kinds are another concern's business: a
// bad service must not keep PostgreSQL from being configured.
func problems(in controllers.Input, kinds []string) []observed.Condition {
	self := desired.Load(in.Snapshot, in.Layout, in.Cluster, unique(append(append(slices.Clone(allKinds), freezeKind), kinds...))...)
	all := append(slices.Clone(self.Problems), desired.Check(self, neighbours(in, self))...)
	var cs []observed.Condition
	for _, p := range all {
		if p.Kind == "nodes" || slices.Contains(kinds, p.Kind) {
			c := p.Condition()
			if p.Aside() {
				c.Type = observed.Planned
			}
			cs = append(cs, c)
		}
	}
	return cs
}

// unique drops what is named twice and keeps the order.
func unique(names []string) []string {
	var out []string
	for _, n := range names {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// neighbours loads the clusters that may share a node or a virtual address with
// this one.
func neighbours(in controllers.Input, self *desired.Cluster) []*desired.Cluster {
	var out []*desired.Cluster
	names := Neighbours(in.Snapshot, in.Layout, in.Cluster, self.ProxyNodes())
	names = append(names, Rivals(in.Snapshot, in.Layout, in.Cluster, &self.VIP)...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		out = append(out, desired.Load(in.Snapshot, in.Layout, name, allKinds...))
	}
	return out
}

// Neighbours names the clusters, other than the given one, that may have something
// on any of the nodes: a member, or HAProxy on a node with role proxy. Sorted.
//
// Reading every document of the fleet for every cluster would make a change cost the
// square of the fleet; members are found by their node's name instead. A proxy that
// names no clusters is everybody's.
func Neighbours(s kv.Snapshot, l keys.Layout, cluster string, nodes []string) []string {
	near := map[string]bool{}
	for _, node := range nodes {
		for _, e := range kv.Mentioning(s, l.Prefix(keys.Desired), node) {
			if ref, err := l.Parse(e.Key); err == nil && strings.HasPrefix(ref.Doc, "members/") {
				near[ref.Cluster] = true
			}
		}
		n := desired.LoadNode(s, l, node)
		switch {
		case n == nil || !n.HasRole("proxy"):
		case len(n.Clusters) > 0:
			for _, c := range n.Clusters {
				near[c] = true
			}
		default:
			for _, c := range desired.Clusters(s, l) {
				near[c] = true
			}
		}
	}
	delete(near, cluster)
	return slices.Sorted(maps.Keys(near))
}

// onHosts finds the members that have a plan, which is what is on hosts, sorted
// by name.
func onHosts(in controllers.Input, t *Topology) []plan.Member {
	var out []plan.Member
	for _, e := range PlansOf(in, Concern) {
		p, err := plan.ReadShort(e.Value)
		if err != nil || t.Formed != nil && p.UID != t.Formed.UID {
			continue // an earlier cluster of this name is none of ours
		}
		if own, ok := p.Cluster.Own(); ok {
			out = append(out, own)
		}
	}
	slices.SortFunc(out, func(a, b plan.Member) int { return strings.Compare(a.Name+"/"+a.Node, b.Name+"/"+b.Node) })
	return out
}

// PlansOf are the stored plans of one concern of the cluster, on whatever node, for
// plan.ReadShort.
func PlansOf(in controllers.Input, concern string) []kv.KV {
	var out []kv.KV
	for _, e := range kv.RangeShort(in.Snapshot, in.Layout.Prefix(keys.Plan)) {
		// Parsing is dearer than looking.
		if !strings.HasSuffix(e.Key, "/"+in.Cluster+"/"+concern) {
			continue
		}
		if ref, err := in.Layout.Parse(e.Key); err == nil && ref.Cluster == in.Cluster && ref.Concern == concern {
			out = append(out, e)
		}
	}
	return out
}

// moved is a member whose document names another node than it runs on. Two
// Patronis under one name delete each other's leader key (measured), so nothing
// is planned until the document is right again.
func moved(in controllers.Input, m *desired.Member, at plan.Member) observed.Condition {
	return observed.Condition{
		Type: observed.Valid, Status: observed.False, Reason: observed.InvalidDocument,
		Key:     in.Layout.ClusterDoc(in.Cluster, "members/"+m.Name),
		Message: fmt.Sprintf("node: expected %q, where %s is, found %q; a member's node never changes: add a member there and remove this one", at.Node, m.Name, m.Node),
		Next:    fmt.Sprintf("pgctrl set %s members/%s node=%s", in.Cluster, m.Name, at.Node),
	}
}

// UnmanagedConditions says of each member without a document that it is left as it is, with
// the two ways out.
func (t *Topology) UnmanagedConditions(l keys.Layout) []observed.Condition {
	var cs []observed.Condition
	for _, m := range t.Unmanaged {
		c := t.Docs.Name
		cs = append(cs, observed.Condition{
			Type: observed.Planned, Status: observed.False, Reason: observed.Unmanaged,
			Key:     l.ClusterDoc(c, "members/"+m.Name),
			Message: fmt.Sprintf("member %s on node %s has no document; it is left as it is", m.Name, m.Node),
			Next: fmt.Sprintf("pgctrl set %s members/%s node=%s (to keep it), or pgctrl remove %s %s (its data stay)",
				c, m.Name, m.Node, c, m.Name),
		})
	}
	return cs
}

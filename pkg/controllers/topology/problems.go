package topology

import (
	"bytes"
	"fmt"
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
	self := desired.Load(in.Snapshot, in.Layout, in.Cluster, allKinds...)
	all := append(slices.Clone(self.Problems), desired.Check(self, neighbours(in, self))...)
	var cs []observed.Condition
	for _, p := range all {
		if p.Kind == "nodes" || slices.Contains(kinds, p.Kind) {
			cs = append(cs, p.Condition())
		}
	}
	return cs
}

// neighbours loads the clusters that may share a node with this one. Reading every
// document of the fleet for every cluster would make a change cost the square of
// the fleet; a cluster none of whose member documents has one of our node names
// in it can't be in the way, unless it wants our virtual address. A proxy node is
// everybody's.
func neighbours(in controllers.Input, self *desired.Cluster) []*desired.Cluster {
	ours := self.ProxyNodes()
	shared := false
	for _, n := range self.Nodes {
		shared = shared || n.HasRole("proxy")
	}
	docs, rivals := map[string][]kv.KV{}, map[string]bool{}
	for _, e := range in.Snapshot.Range(in.Layout.Prefix(keys.Desired)) {
		ref, err := in.Layout.Parse(e.Key)
		if err != nil || ref.Cluster == in.Cluster {
			continue
		}
		switch kind, _ := ref.Document(); {
		case kind == "members":
			docs[ref.Cluster] = append(docs[ref.Cluster], e)
		case kind == "vip" && self.VIP.On() && self.VIP.MayName(e.Value):
			rivals[ref.Cluster] = true
		}
	}
	var out []*desired.Cluster
	for cluster, members := range docs {
		near := shared || rivals[cluster] || slices.ContainsFunc(members, func(e kv.KV) bool {
			return slices.ContainsFunc(ours, func(n string) bool { return bytes.Contains(e.Value, []byte(n)) })
		})
		if near {
			out = append(out, desired.Load(in.Snapshot, in.Layout, cluster, allKinds...))
		}
	}
	slices.SortFunc(out, func(a, b *desired.Cluster) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// onHosts finds the members that have a plan, which is what is on hosts, sorted
// by name. It looks on every node it hears of: from documents, presences, and the
// members that the plans themselves know.
func onHosts(in controllers.Input, t *Topology) []plan.Member {
	seen := map[string]bool{}
	var queue []string
	hear := func(node string) {
		if !seen[node] {
			seen[node] = true
			queue = append(queue, node)
		}
	}
	for n := range t.Docs.Nodes {
		hear(n)
	}
	for n := range t.alive {
		hear(n)
	}
	var out []plan.Member
	for len(queue) > 0 {
		node := queue[0]
		queue = queue[1:]
		e, ok := in.Snapshot.Get(in.Layout.PlanKey(node, in.Cluster, Concern))
		if !ok {
			continue
		}
		p, err := plan.Decode(e.Value)
		if err != nil || t.Formed != nil && p.UID != t.Formed.UID {
			continue // an earlier cluster of this name is none of ours
		}
		for _, m := range p.Cluster.Members {
			hear(m.Node)
		}
		if own, ok := p.Cluster.Own(); ok {
			out = append(out, own)
		}
	}
	slices.SortFunc(out, func(a, b plan.Member) int { return strings.Compare(a.Name+"/"+a.Node, b.Name+"/"+b.Node) })
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
			Next: fmt.Sprintf("pgctrl set %s members/%s node=%s (to keep it), or systemctl disable --now patroni@%s (on %s, to stop it; its data stay)",
				c, m.Name, m.Node, c, m.Node),
		})
	}
	return cs
}

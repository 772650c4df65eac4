package desired

import (
	"fmt"
	"sort"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/near"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Check finds what is wrong between documents: each may be fine by itself. others
// are the fleet's clusters; the cluster itself may be among them. What is wrong
// inside one document is in cluster.Problems already.
func Check(cluster *Cluster, others []*Cluster) []Problem {
	var out []Problem
	if cluster.Loaded("members") {
		out = append(out, checkNodes(cluster)...)
		out = append(out, checkSharedNodes(cluster)...)
		out = append(out, checkLeaders(cluster)...)
		if cluster.Loaded("postgres") {
			out = append(out, checkMemberSlots(cluster)...)
		}
	}
	out = append(out, checkRemoval(cluster)...)
	out = append(out, checkOwnPorts(cluster)...)
	out = append(out, checkForeignPorts(cluster, others)...)
	out = append(out, checkAddress(cluster)...)
	out = append(out, checkForeignAddress(cluster, others)...)
	out = append(out, checkRulesOfTLS(cluster)...)
	out = append(out, checkNames(cluster)...)
	out = append(out, checkArchiving(cluster)...)
	sortProblems(out)
	return out
}

// memberProblem is a problem with a member, at its field node.
func (c *Cluster) memberProblem(m *Member, format string, args ...any) Problem {
	return c.resolved["members/"+m.Name].problem("node", format, args...)
}

// checkNodes finds members on nodes that nobody has described. A node whose
// document can't be used is another problem, which Load has found.
func checkNodes(c *Cluster) []Problem {
	var out []Problem
	for _, m := range c.MemberList() {
		if _, known := c.Nodes[m.Node]; known || c.brokenNode(m.Node) {
			continue
		}
		p := c.memberProblem(m, "expected a node with a document, found %q, which has none", m.Node)
		p.Reason = observed.UnknownNode
		p.Suggestion = near.Hint(m.Node, c.strangers)
		out = append(out, p)
	}
	return out
}

// brokenNode reports whether the node has a document that can't be used.
func (c *Cluster) brokenNode(node string) bool {
	for _, p := range c.Problems {
		if p.Kind == "nodes" && strings.HasSuffix(p.Key, "/"+node) {
			return true
		}
	}
	return false
}

// checkSharedNodes finds two members of the cluster on one node: they would want
// the same ports and directory.
func checkSharedNodes(c *Cluster) []Problem {
	byAge := c.MemberList()
	sort.SliceStable(byAge, func(i, j int) bool { return byAge[i].CreateRevision < byAge[j].CreateRevision })
	first := map[string]*Member{}
	var out []Problem
	for _, m := range byAge {
		if other, taken := first[m.Node]; taken {
			out = append(out, c.memberProblem(m, "expected one member on a node, found %s on %s too", other.Name, m.Node))
			continue
		}
		first[m.Node] = m
	}
	return out
}

// checkLeaders finds a cluster that nobody could lead. One without members is no
// such cluster: its other documents may well be written first.
func checkLeaders(c *Cluster) []Problem {
	if len(c.Members) == 0 || c.Invalid("members") {
		return nil
	}
	if c.Removing() {
		return nil
	}
	stays := []*Member{}
	for _, m := range c.MemberList() {
		if m.CanLead() && !m.Absent() {
			return nil
		}
		if !m.Absent() {
			stays = append(stays, m)
		}
	}
	if len(stays) == 0 {
		return []Problem{c.lastMember()}
	}
	m := stays[0]
	d := c.resolved["members/"+m.Name]
	field := "failover_priority"
	switch {
	case m.Offline:
		field = "offline"
	case m.Delayed():
		field = "delay"
	}
	p := d.problem(field, "expected a member that can lead, found all %d offline, delayed or with failover_priority 0", len(stays))
	p.Suggestion = fmt.Sprintf("unset %s of one member", field)
	return []Problem{p}
}

package desired

import (
	"cmp"
	"sort"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// readNodes reads every node's document.
func readNodes(s kv.Snapshot, l keys.Layout) []*resolved {
	k := registry["nodes"]
	prefix := l.Prefix(keys.Nodes)
	var out []*resolved
	for _, e := range s.Range(prefix) {
		if name := strings.TrimPrefix(e.Key, prefix); k.checkName(name) == nil {
			out = append(out, k.resolve(name, e.Key, []layer{{kv: e}}))
		}
	}
	return out
}

// nodeSource finds the documents of nodes.
type nodeSource interface {
	// node is nil when there is no such document; one that can't be used has problems.
	node(name string) *resolved
	// withRole are the nodes with a role, sorted; perhaps others as well.
	withRole(role string) []*resolved
	names() []string
}

// someNodes reads no more than it is asked for.
type someNodes struct {
	s kv.Snapshot
	l keys.Layout
}

func (n *someNodes) node(name string) *resolved {
	k := registry["nodes"]
	e, ok := n.s.Get(n.l.Node(name))
	if !ok || k.checkName(name) != nil {
		return nil
	}
	return k.resolve(name, e.Key, []layer{{kv: e}})
}

func (n *someNodes) withRole(role string) []*resolved {
	prefix := n.l.Prefix(keys.Nodes)
	var out []*resolved
	for _, e := range kv.Mentioning(n.s, prefix, role) {
		if d := n.node(strings.TrimPrefix(e.Key, prefix)); d != nil {
			out = append(out, d)
		}
	}
	return out
}

func (n *someNodes) names() []string { return (&allNodes{list: readNodes(n.s, n.l)}).names() }

// allNodes has read them all once, for every cluster of the fleet.
type allNodes struct {
	list   []*resolved
	byRole map[string][]*resolved
	byName map[string]*resolved
}

func newAllNodes(s kv.Snapshot, l keys.Layout) *allNodes {
	n := &allNodes{list: readNodes(s, l), byName: map[string]*resolved{}, byRole: map[string][]*resolved{}}
	for _, d := range n.list {
		n.byName[d.name] = d
		for _, role := range d.doc.(*Node).Roles {
			n.byRole[role] = append(n.byRole[role], d)
		}
	}
	return n
}

func (n *allNodes) node(name string) *resolved { return n.byName[name] }

func (n *allNodes) withRole(role string) []*resolved { return n.byRole[role] }

func (n *allNodes) names() []string {
	var out []string
	for _, d := range n.list {
		if len(d.problems) == 0 {
			out = append(out, d.name)
		}
	}
	return out
}

// LoadNode reads one node's document; nil when there is none that can be used.
func LoadNode(s kv.Snapshot, l keys.Layout, name string) *Node {
	d := (&someNodes{s, l}).node(name)
	if d == nil || len(d.problems) > 0 {
		return nil
	}
	return d.doc.(*Node)
}

// NodeOf is the node that a member's document names; empty when it can't be read.
func NodeOf(document kv.KV) string {
	return registry["members"].resolve("", document.Key, []layer{{kv: document}}).doc.(*Member).Node
}

// Nodes reads the fleet's nodes and everything wrong with their documents.
func Nodes(s kv.Snapshot, l keys.Layout) (map[string]*Node, []Problem) {
	out := map[string]*Node{}
	var problems []Problem
	for _, d := range readNodes(s, l) {
		problems = append(problems, d.problems...)
		if len(d.problems) == 0 {
			out[d.name] = d.doc.(*Node)
		}
	}
	return out, problems
}

// Clusters lists the names of the clusters that have any document, sorted.
func Clusters(s kv.Snapshot, l keys.Layout) []string {
	set := map[string]bool{}
	prefix := l.Prefix(keys.Desired)
	for _, e := range s.Range(prefix) {
		name, doc, found := strings.Cut(strings.TrimPrefix(e.Key, prefix), "/")
		if found && doc != "" && keys.CheckCluster(name) == nil {
			set[name] = true
		}
	}
	return sortedKeys(set)
}

// LoadAll loads every cluster, for checks across them.
func LoadAll(s kv.Snapshot, l keys.Layout, kinds ...string) []*Cluster {
	nodes := newAllNodes(s, l)
	var out []*Cluster
	for _, name := range Clusters(s, l) {
		out = append(out, load(s, l, name, kinds, nodes))
	}
	return out
}

// Validate reads one document by itself, as it would be under the key.
func Validate(l keys.Layout, key string, data []byte) []Problem {
	k, ref, problem := place(l, key)
	if problem != nil {
		return []Problem{*problem}
	}
	_, problems := k.decode(key, data)
	if name := cmp.Or(ref.Node, nameOf(ref.Doc)); len(problems) == 0 && (k.Fleet || k.Both) {
		problems = k.resolve(name, key, []layer{{kv: kv.KV{Key: key, Value: data}}}).problems
	}
	sort.SliceStable(problems, func(i, j int) bool { return problems[i].Line < problems[j].Line })
	return problems
}

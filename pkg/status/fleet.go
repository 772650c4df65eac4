package status

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Clusters lists every cluster there is anything of: documents, a record of how
// it formed, or plans.
func Clusters(in Input) []string {
	set := map[string]bool{}
	for _, name := range desired.Clusters(in.Snapshot, in.Layout) {
		set[name] = true
	}
	for _, f := range []keys.Family{keys.Formed, keys.Plan} {
		for _, e := range kv.RangeShort(in.Snapshot, in.Layout.Prefix(f)) {
			if ref, err := in.Layout.Parse(e.Key); err == nil && ref.Cluster != keys.NodeCluster {
				set[ref.Cluster] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// Fleet is a line for each cluster, worst first; in.Cluster is ignored.
func Fleet(in Input) []Line {
	var out []Line
	for _, name := range Clusters(in) {
		in.Cluster = name
		s := Compute(in)
		l := Line{
			Cluster: name, Ready: s.Ready, Leader: s.Leader, Members: len(s.Members),
			Revision: s.Revision, Applied: s.Applied, Nodes: s.Nodes,
		}
		for i, c := range s.Conditions {
			if c.Reason != observed.NoServer { // that is about all of them: FleetConditions
				l.Worst = &s.Conditions[i]
				break
			}
		}
		out = append(out, l)
	}
	slices.SortStableFunc(out, func(a, b Line) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.Cluster, b.Cluster))
	})
	return out
}

func (l Line) rank() int {
	if l.Worst == nil {
		return 1000
	}
	return l.Worst.rank()
}

// FleetConditions are what concerns no cluster alone: the store, the server, nodes,
// and keys in places that mean nothing. Worst first.
func FleetConditions(in Input) []Condition {
	var cs []Condition
	add := func(node string, c observed.Condition) { cs = append(cs, Condition{Node: node, Condition: c}) }
	if _, c := Server(in); c != nil {
		add("", *c)
	}
	for _, c := range StoreConditions(in) {
		add("", c)
	}
	nodes, problems := desired.Nodes(in.Snapshot, in.Layout)
	_, hooks := desired.FleetHooks(in.Snapshot, in.Layout)
	for _, p := range append(append(problems, hooks...), desired.Misplaced(in.Snapshot, in.Layout)...) {
		add("", p.Condition())
	}
	for _, c := range serverNotes(in) {
		add("", c)
	}
	for name := range nodes {
		for _, c := range notesOf(in, name) {
			add(name, c)
		}
		if _, alive := in.Snapshot.Get(in.Layout.AliveKey(name)); !alive {
			add(name, observed.Condition{
				Type: observed.Applied, Status: observed.Unknown, Reason: observed.NodeAbsent, Key: in.Layout.AliveKey(name),
				Message: "the agent of node " + name + " has no presence", Next: "pgagent status (on " + name + ")",
			})
		}
	}
	programs, other := Shared(in)
	for _, p := range programs {
		other = append(other, p.Conditions...)
	}
	return worstFirst(append(cs, other...))
}

// Short is the status in a few words: Ready, or the reasons that stand in its way,
// each once.
func (s ClusterStatus) Short() string {
	if s.Ready {
		return "Ready"
	}
	var reasons []string
	for _, c := range s.Conditions {
		if c.Blocking() && !slices.Contains(reasons, string(c.Reason)) {
			reasons = append(reasons, string(c.Reason))
		}
	}
	if len(reasons) == 0 {
		return string(observed.Unmanaged)
	}
	return strings.Join(reasons, ", ")
}

package nodes

import (
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/rollout"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// Pace is how changed plans go out.
type Pace int

const (
	// AtOnce: to all nodes together. A program that is away for a moment loses nothing.
	AtOnce Pace = iota
	// OneByOne: to the next node when the last has the change in force, because clients
	// ask another node's program meanwhile.
	OneByOne
)

// Outputs turns the wanted plans of a program, by node, into outputs. A node that has the
// program and is not among them loses it when its document says so: goes is asked of
// nodes with a document alone, for absence is no word (R6).
func (f *Fleet) Outputs(program string, want map[string]plan.Plan, pace Pace, goes func(node string) bool) ([]controllers.Output, []observed.Condition) {
	var out []controllers.Output
	for _, s := range topology.AllStored(f.in, program) {
		_, wanted := want[s.Node]
		_, documented := f.Nodes[s.Node]
		switch {
		case wanted && s.Head.Removal == nil, !s.Readable():
		case s.Removed():
			// Deleted first, and planned anew after that where it is wanted again.
			delete(want, s.Node)
			out = append(out, s.Delete())
		case s.Head.Removal != nil, documented && goes(s.Node):
			p, _ := s.Whole()
			if p.Removal == nil {
				p = plan.Removes(p, plan.Removal{Whole: true})
				p.Writer = version.String()
			}
			want[s.Node] = p
		}
	}
	sent, cs := f.send(program, want, pace)
	out = append(out, sent...)
	slices.SortFunc(out, func(a, b controllers.Output) int { return strings.Compare(a.Key, b.Key) })
	return out, cs
}

// OnInfra plans a program's resources for each node with role infra; where it is not wanted,
// or the role is another one now, the program goes.
func (f *Fleet) OnInfra(program string, pace Pace, wanted bool, resources func(node string) []plan.Resource) ([]controllers.Output, []observed.Condition) {
	var cs []observed.Condition
	want := map[string]plan.Plan{}
	for _, n := range f.WithRole("infra") {
		if c, older := f.Older(n.Name, program); older {
			cs = append(cs, c)
		} else if wanted {
			want[n.Name] = f.Plan(n, resources(n.Name)...)
		}
	}
	out, waiting := f.Outputs(program, want, pace, func(node string) bool {
		return !wanted || !f.Nodes[node].HasRole("infra")
	})
	return out, append(cs, waiting...)
}

// send writes the plans, or as many of them as the pace allows now.
func (f *Fleet) send(program string, want map[string]plan.Plan, pace Pace) (out []controllers.Output, cs []observed.Condition) {
	var list []rollout.Node
	for name, p := range want {
		_, alive := f.in.Snapshot.Get(f.in.Layout.AliveKey(name))
		n := rollout.Node{Name: name, Want: p, Alive: alive}
		key := f.in.Layout.PlanKey(name, f.in.Cluster, program)
		if err := n.Load(f.in.Snapshot, key, f.in.Layout.ObservedKey(name, f.in.Cluster, program)); err != nil {
			cs = append(cs, topology.NewerPlan(key, err))
			continue
		}
		n.Empty = topology.NothingLoaded(n.Report)
		list = append(list, n)
	}
	if pace == AtOnce {
		for _, n := range list {
			out = append(out, controllers.Output{Key: n.Key, Value: plan.Encode(n.Want)})
		}
		return out, cs
	}
	d := rollout.Decide(list)
	for _, n := range list {
		o := controllers.Output{Key: n.Key, Mode: controllers.Keep}
		if value, ok := d.Values[n.Name]; ok {
			o = controllers.Output{Key: n.Key, Value: value}
		}
		out = append(out, o)
	}
	return out, append(cs, d.Waiting...)
}

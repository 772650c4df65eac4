package topology

import (
	"errors"
	"sort"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/rollout"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Rollout turns wanted plans into outputs: each node's plan as it is to be stored
// now, changes going node by node (R15). empty says of a node and its last report
// that nothing is in force there yet which a client could lose.
func (t *Topology) Rollout(in controllers.Input, concern string, want map[string]plan.Plan,
	empty func(node string, r *observed.Report) bool) ([]controllers.Output, []observed.Condition) {
	var nodes []rollout.Node
	var out []controllers.Output
	var cs []observed.Condition
	for name, p := range want {
		p.Freeze = t.freeze(concern)
		_, alive := t.Alive(name)
		n := rollout.Node{Name: name, Want: p, Alive: alive, Leads: t.Leads(name)}
		key := in.Layout.PlanKey(name, in.Cluster, concern)
		if err := n.Load(in.Snapshot, key, in.Layout.ObservedKey(name, in.Cluster, concern)); err != nil {
			cs = append(cs, NewerPlan(key, err))
			continue
		}
		n.Empty = empty(name, n.Report)
		nodes = append(nodes, n)
	}
	d := rollout.Decide(nodes)
	for _, n := range nodes {
		o := controllers.Output{Key: n.Key, Mode: controllers.Keep}
		if value, ok := d.Values[n.Name]; ok {
			o = controllers.Output{Key: n.Key, Value: value}
		}
		out = append(out, o)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out, append(cs, d.Waiting...)
}

// AtOnce turns wanted plans into outputs that go to all nodes together, whether their
// agents are there or not. It is for concerns whose change stops and reloads no
// program (R15 is about those): of the nodes only the confirmed primary's acts, and
// whichever is next must not begin with an older plan.
func (t *Topology) AtOnce(in controllers.Input, concern string, want map[string]plan.Plan) ([]controllers.Output, []observed.Condition) {
	var out []controllers.Output
	var cs []observed.Condition
	for name, p := range want {
		p.Freeze = t.freeze(concern)
		key := in.Layout.PlanKey(name, in.Cluster, concern)
		if e, ok := kv.GetShort(in.Snapshot, key); ok {
			if _, err := plan.ReadShort(e.Value); errors.Is(err, plan.ErrSchema) {
				cs = append(cs, NewerPlan(key, err))
				continue
			}
		}
		out = append(out, controllers.Output{Key: key, Value: plan.Encode(p)})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out, cs
}

// NewerPlan says that a plan was written by a newer program, which an older one must
// not replace.
func NewerPlan(key string, err error) observed.Condition {
	return observed.Condition{
		Type: observed.Planned, Status: observed.False, Reason: observed.UnsupportedSchema, Key: key,
		Message: err.Error() + "; the plan is left as it is",
	}
}

// NothingLoaded reports that a node has never had anything of this concern in force.
func NothingLoaded(r *observed.Report) bool { return r == nil || r.Loaded == "" }

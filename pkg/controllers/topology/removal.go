package topology

import (
	"fmt"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Proxy is the concern whose programs lead clients to members: it lets go of a
// member before the member is stopped.
const Proxy = "haproxy"

// Pooler is the concern whose programs stand between the two, on the members' nodes.
const Pooler = "pgbouncer"

// Stored is a node's plan as etcd has it, and the node's newest answer to it.
type Stored struct {
	Node     string
	Key      string
	Plan     plan.Plan
	Revision int64
	Report   *observed.Report
}

// Removed reports that the node has answered this very plan with Removed.
func (s *Stored) Removed() bool {
	if s.Plan.Removal == nil || s.Report == nil || s.Report.Plan != s.Revision {
		return false
	}
	c, ok := s.Report.Condition(observed.Applied)
	return ok && c.Status == observed.True && c.Reason == observed.Removed
}

// Delete is the output that clears a plan away which has been answered.
func (s *Stored) Delete() controllers.Output {
	return controllers.Output{Key: s.Key, Mode: controllers.Delete}
}

// Stored reads one node's plan of a concern; nil when there is none that can be
// read. The controller declares plans and reports of the concern.
func (t *Topology) Stored(in controllers.Input, node, concern string) *Stored {
	s := &Stored{Node: node, Key: in.Layout.PlanKey(node, in.Cluster, concern)}
	e, ok := in.Snapshot.Get(s.Key)
	if !ok {
		return nil
	}
	var err error
	if s.Plan, err = plan.Decode(e.Value); err != nil {
		return nil
	}
	s.Revision = e.ModRevision
	if r, ok := observed.Read[observed.Report](in.Snapshot, in.Layout.ObservedKey(node, in.Cluster, concern)); ok {
		s.Report = &r
	}
	return s
}

// AllStored reads the plans of a concern on whatever node they are, by node.
func (t *Topology) AllStored(in controllers.Input, concern string) []*Stored {
	var out []*Stored
	for _, e := range PlansOf(in, concern) {
		ref, _ := in.Layout.Parse(e.Key)
		if s := t.Stored(in, ref.Node, concern); s != nil {
			out = append(out, s)
		}
	}
	return out
}

// removalOf is what a node's member plan says of removal; nil when it is an
// ordinary plan or there is none.
func (t *Topology) removalOf(in controllers.Input, node string) *plan.Removal {
	e, ok := in.Snapshot.Get(in.Layout.PlanKey(node, in.Cluster, Concern))
	if !ok {
		return nil
	}
	p, err := plan.Decode(e.Value)
	if err != nil {
		return nil
	}
	return p.Removal
}

// Removes turns a stored plan into the one under which nothing of it stays. One
// that says so already is left as it is, to the byte: it may be half done.
func (t *Topology) Removes(s *Stored, writer string, r plan.Removal) plan.Plan {
	if s.Plan.Removal != nil && *s.Plan.Removal == r {
		return s.Plan
	}
	p := plan.Removes(s.Plan, r)
	p.Writer, p.Inputs.Revision = writer, max(p.Inputs.Revision, t.Docs.Revision)
	return p
}

// Goes reports whether a document says that the node's part of the cluster is to go,
// and may by now.
func (t *Topology) Goes(node string) bool {
	if t.Removing {
		return true
	}
	for _, m := range t.Docs.MemberList() {
		if m.Node == node && m.Absent() && t.Leaving[m.Name] {
			return true
		}
	}
	return false
}

// Stopping reports whether nobody is led to the node's member any more: its own plan is
// a removal, or gone.
func (t *Topology) Stopping(in controllers.Input, node string) bool {
	_, planned := in.Snapshot.Get(in.Layout.PlanKey(node, in.Cluster, Concern))
	return !planned || t.removalOf(in, node) != nil
}

// Clear puts a removal into want for every node of which nothing of the concern is to
// stay, and returns the deletion of plans whose nodes have answered one.
func (t *Topology) Clear(in controllers.Input, concern, writer string, goes func(node string) bool, want map[string]plan.Plan) []controllers.Output {
	var done []controllers.Output
	for _, s := range t.AllStored(in, concern) {
		switch {
		case s.Plan.Removal == nil && !goes(s.Node):
		case s.Removed():
			delete(want, s.Node)
			done = append(done, s.Delete())
		default:
			want[s.Node] = t.Removes(s, writer, plan.Removal{Whole: t.Removing})
		}
	}
	return done
}

// RemovingCondition says what a removal waits for.
func RemovingCondition(key, format string, args ...any) observed.Condition {
	return observed.Condition{
		Type: observed.Planned, Status: observed.False, Reason: observed.Removing, Key: key, Message: fmt.Sprintf(format, args...),
	}
}

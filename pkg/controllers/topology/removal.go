package topology

import (
	"fmt"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/rollout"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Proxy is the concern whose programs lead clients to members: it lets go of a
// member before the member is stopped.
const Proxy = "haproxy"

// Pooler is the concern whose programs stand between the two, on the members' nodes.
const Pooler = "pgbouncer"

// Monitor is the concern whose exporters look at both.
const Monitor = "monitor"

// Databases is the concern that makes the role and the function by which poolers know
// who may log in.
const Databases = "databases"

// Backup is the concern by which a member's PostgreSQL is archived, and its program.
const (
	Backup        = "backup"
	BackupProgram = "pgbackrest"
)

// Stored is a node's plan as etcd has it, and the node's newest answer to it.
type Stored struct {
	Node string
	Key  string
	// Head is the plan without its resources, Whole a way to all of it.
	Head     plan.Short
	Whole    func() (plan.Plan, bool)
	Revision int64
	Report   *observed.Report
}

// Readable reports whether the whole plan can be read; who can't do without asks first.
func (s *Stored) Readable() bool {
	_, ok := s.Whole()
	return ok
}

// Removed reports that the node has answered this very plan with Removed.
func (s *Stored) Removed() bool {
	if s.Head.Removal == nil || s.Report == nil || s.Report.Plan != s.Revision {
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
	return storedOf(in, node, concern)
}

func storedOf(in controllers.Input, node, concern string) *Stored {
	key := in.Layout.PlanKey(node, in.Cluster, concern)
	s := &Stored{Node: node, Key: key, Whole: rollout.Whole(in.Snapshot, key)}
	e, ok := kv.GetShort(in.Snapshot, key)
	if !ok {
		return nil
	}
	var err error
	if s.Head, err = plan.ReadShort(e.Value); err != nil {
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
	return AllStored(in, concern)
}

// AllStored reads the plans of a concern, of what the controller is asked about, on
// whatever node they are, by node.
func AllStored(in controllers.Input, concern string) []*Stored {
	var out []*Stored
	for _, e := range PlansOf(in, concern) {
		ref, _ := in.Layout.Parse(e.Key)
		if s := storedOf(in, ref.Node, concern); s != nil {
			out = append(out, s)
		}
	}
	return out
}

// removalOf is what a node's member plan says of removal; nil when it is an
// ordinary plan or there is none.
func (t *Topology) removalOf(in controllers.Input, node string) *plan.Removal {
	e, ok := kv.GetShort(in.Snapshot, in.Layout.PlanKey(node, in.Cluster, Concern))
	if !ok {
		return nil
	}
	p, err := plan.ReadShort(e.Value)
	if err != nil {
		return nil
	}
	return p.Removal
}

// Removes turns a stored plan into the one under which nothing of it stays. One
// that says so already is left as it is, to the byte: it may be half done. The plan is
// Readable.
func (t *Topology) Removes(s *Stored, writer string, r plan.Removal) plan.Plan {
	p, _ := s.Whole()
	if p.Removal != nil && *p.Removal == r {
		return p
	}
	p = plan.Removes(p, r)
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
	_, planned := kv.GetShort(in.Snapshot, in.Layout.PlanKey(node, in.Cluster, Concern))
	return !planned || t.removalOf(in, node) != nil
}

// Clear puts a removal into want for every node of which nothing of the concern is to
// stay, and returns the deletion of plans whose nodes have answered one.
func (t *Topology) Clear(in controllers.Input, concern, writer string, goes func(node string) bool, want map[string]plan.Plan) []controllers.Output {
	var done []controllers.Output
	for _, s := range t.AllStored(in, concern) {
		switch {
		case s.Head.Removal == nil && !goes(s.Node), !s.Readable():
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

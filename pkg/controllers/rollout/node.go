package rollout

import (
	"errors"
	"fmt"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Load fills in what etcd holds about a node's plan: the plan at key and the
// report at reportKey. A plan that can't be read counts as one that differs; a
// plan of a newer schema is an error, because an older program must not replace it.
func (n *Node) Load(s kv.Snapshot, key, reportKey string) error {
	n.Key = key
	if r, ok := observed.Read[observed.Report](s, reportKey); ok && r.Of(n.Want.UID) {
		n.Report = &r
	}
	e, ok := kv.GetShort(s, key)
	if !ok {
		return nil
	}
	short, err := plan.ReadShort(e.Value)
	if errors.Is(err, plan.ErrSchema) {
		return fmt.Errorf("read %s: %w", key, err)
	}
	n.Stored = &Stored{Short: short, Whole: Whole(s, key), Revision: e.ModRevision}
	return nil
}

// Whole reads a stored plan with its resources when it is called; false: there is
// none that can be read.
func Whole(s kv.Snapshot, key string) func() (plan.Plan, bool) {
	return func() (plan.Plan, bool) {
		e, ok := s.Get(key)
		if !ok {
			return plan.Plan{}, false
		}
		p, err := plan.Decode(e.Value)
		return p, err == nil
	}
}

// changed reports whether the wanted plan asks something else of the host than
// the stored one. The revision of the documents and the name of the writer do
// not: those go to all nodes at once.
func (n *Node) changed() bool {
	if n.Stored == nil {
		return false
	}
	if n.differs == nil {
		differs := !n.Stored.Is(n.wanted()) && !n.Stored.SameBut(aside, n.Want)
		n.differs = &differs
	}
	return *n.differs
}

// aside takes away what goes to all nodes at once.
func aside(p *plan.Plan) { p.Inputs, p.Writer, p.Freeze = plan.Inputs{}, "", nil }

// wanted is the stored form of the wanted plan.
func (n *Node) wanted() []byte {
	if n.encoded == nil {
		n.encoded = plan.Encode(n.Want)
	}
	return n.encoded
}

func (n *Node) state() state {
	r := n.Report
	if r == nil || r.Plan != n.Stored.Revision {
		return unanswered
	}
	if r.Done(n.Stored.Revision) || waitsForRestart(*r) {
		return good
	}
	return notGood
}

// waitsForRestart: everything is in force that is possible without a restart.
// Nothing but an operation restarts, so waiting for it would wait for people.
func waitsForRestart(r observed.Report) bool {
	a, ok := r.Condition(observed.Applied)
	return ok && a.Reason == observed.PendingRestart
}

// waits says why this node's changed plan is not written now.
func (n *Node) waits(nodes []Node) observed.Condition {
	c := observed.Condition{Type: observed.Planned, Status: observed.False, Reason: observed.RollingOut, Key: n.Key}
	if !n.Alive {
		c.Reason = observed.NodeAbsent
		c.Message = fmt.Sprintf("node %s is away; its change is written when its agent is back", n.Name)
		return c
	}
	if n.held() {
		return n.frozen(c, n.Name, "the change waits on node %s, which is frozen; its turn comes after that")
	}
	c.Message = fmt.Sprintf("the change waits on node %s until its turn", n.Name)
	for i := range nodes {
		o := &nodes[i]
		if o.Name == n.Name || !o.Alive || o.Stored == nil || o.Empty || o.held() {
			continue
		}
		switch o.state() {
		case unanswered:
			c.Message = fmt.Sprintf("the change waits on node %s until node %s has answered its plan", n.Name, o.Name)
			return c
		case notGood:
			if _, is := o.freezeOf(); is {
				return o.frozen(c, n.Name, "the change waits on node %s: it reached node "+o.Name+" already, which is frozen")
			}
			c.Message = fmt.Sprintf("the change stops before node %s: %s", n.Name, o.trouble())
			return c
		}
	}
	return c
}

// trouble is what is wrong on a node, in one sentence.
func (n *Node) trouble() string {
	for _, t := range []observed.Type{observed.Applied, observed.Healthy} {
		if c, ok := n.Report.Condition(t); ok && c.Bad() {
			return fmt.Sprintf("node %s says %s: %s", n.Name, c.Reason, c.Message)
		}
	}
	return fmt.Sprintf("node %s does not say that its plan is in force", n.Name)
}

package rollout

import (
	"fmt"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// freezeOf is what the node says about being frozen, by a file or by its plan.
func (n *Node) freezeOf() (observed.Condition, bool) {
	if n.Report == nil {
		return observed.Condition{}, false
	}
	for _, c := range n.Report.Conditions {
		if c.Reason == observed.Frozen {
			return c, true
		}
	}
	return observed.Condition{}, false
}

// held reports whether the node is frozen with everything in force that its stored
// plan asks for: thawing changes nothing on it then. The node's own word counts,
// not a clock: it is what acts.
func (n *Node) held() bool {
	if n.Stored == nil || n.Report == nil || n.Report.Plan != n.Stored.Revision {
		return false
	}
	if _, is := n.freezeOf(); !is {
		return false
	}
	p, ok := n.Stored.Whole()
	return ok && n.Report.Loaded == plan.Hash(p.Resources, p.Secrets)
}

// frozen words why the change of a node waits for a freeze, its own or another's.
func (n *Node) frozen(c observed.Condition, waits, format string) observed.Condition {
	f, _ := n.freezeOf()
	c.Reason, c.Next = observed.Frozen, f.Next
	c.Message = fmt.Sprintf(format, waits) + " (" + f.Message + ")"
	return c
}

// keep is what a node whose change waits gets in store: what it had, but for the
// freeze, which waits for nobody. other is false when that is what it has.
func (n *Node) keep() (value []byte, other bool) {
	if n.Want.Freeze.Same(n.Stored.Freeze) {
		return nil, false
	}
	p, ok := n.Stored.Whole()
	if !ok {
		return nil, false
	}
	p.Freeze = n.Want.Freeze
	return plan.Encode(p), true
}

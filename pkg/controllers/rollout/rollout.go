// Package rollout decides which node's plan may change now (R15): changed plans
// go out node by node, replicas first, the leader's node last, and a change that
// a node refuses goes no further.
//
// It keeps nothing between calls. What has been rolled out is read from the
// stored plans, what became of it from the nodes' reports; so a server that is
// killed in the middle of a rollout is followed by one that goes on with it.
package rollout

import (
	"sort"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Node is one node's part in a rollout.
type Node struct {
	Name string
	// Key is the plan's key.
	Key string
	// Want is the plan that the documents ask for.
	Want plan.Plan
	// Stored is the plan in etcd, nil when there is none.
	Stored *Stored
	// Report is the node's newest answer, nil when it never gave one.
	Report *observed.Report
	// Alive: the node's agent has its presence.
	Alive bool
	// Leads: the leader's member is here.
	Leads bool
	// Empty: nothing is in force here yet that a client could lose, as on a node
	// that is still copying its first data. It holds nobody up: others may have to
	// change before it can become healthy at all (they must let it in).
	Empty bool

	encoded []byte // Want, once it was asked for
	differs *bool  // changed, once it was asked for
}

// Stored is a plan as etcd has it: what is known of it at no price, and a way to all
// of it. Its fields are zero and Whole is false when it can't be read.
type Stored struct {
	plan.Short
	Whole    func() (plan.Plan, bool)
	Revision int64
}

// Decision is what to write: every node's plan as it is to be stored now, and a
// condition for each node whose plan waits.
type Decision struct {
	// Values are by Node.Name; a node whose stored plan stays as it is has none.
	Values  map[string][]byte
	Waiting []observed.Condition
}

// state is what a node's report says about its stored plan.
type state int

const (
	good       state = iota // in force, and what runs is well
	unanswered              // the node may be at it right now
	notGood                 // refused, rolled back, could not be asked, or not healthy
)

// Decide says which plans go out now.
func Decide(nodes []Node) Decision {
	nodes = order(nodes)
	d := Decision{Values: make(map[string][]byte, len(nodes))}
	next := pick(nodes)
	for i := range nodes {
		n := &nodes[i]
		switch {
		case n.Stored == nil, !n.changed(), n.Empty && n.Alive, n == next: // a freeze is no change: it goes to all at once
			d.Values[n.Name] = n.wanted()
		default:
			if value, other := n.keep(); other {
				d.Values[n.Name] = value
			}
			d.Waiting = append(d.Waiting, n.waits(nodes))
		}
	}
	return d
}

// order puts replicas before the leader's node; names break the tie, so that a
// rollout goes on where it was.
func order(nodes []Node) []Node {
	out := append([]Node(nil), nodes...)
	sort.SliceStable(out, func(i, j int) bool {
		if out[i].Leads != out[j].Leads {
			return out[j].Leads
		}
		return out[i].Name < out[j].Name
	})
	return out
}

// pick chooses the one node whose plan may change now, nil when none may.
//
// While a node has an unanswered plan nobody else changes; it alone may get a
// newer one in its place. Where a plan was refused or left the node unwell, only
// that node may change: newer content must be able to put it right, and nobody
// is to follow it. Several such nodes (their ports were taken, say) are put right
// one after the other.
//
// A frozen node takes no change and holds nobody up: its turn comes when the freeze
// is over. Only one whose change had gone out before stops the others, because it may
// begin with it at any moment.
func pick(nodes []Node) *Node {
	var flying, broken, changed []*Node
	for i := range nodes {
		n := &nodes[i]
		if !n.Alive || n.Stored == nil || n.Empty || n.held() {
			continue
		}
		switch n.state() {
		case unanswered:
			flying = append(flying, n)
		case notGood:
			broken = append(broken, n)
		}
		if n.changed() {
			changed = append(changed, n)
		}
	}
	switch {
	case len(flying) > 1:
		return nil
	case len(flying) == 1:
		return firstChanged(flying)
	case len(broken) > 0:
		return firstChanged(broken)
	}
	return firstChanged(changed)
}

func firstChanged(nodes []*Node) *Node {
	for _, n := range nodes {
		if n.changed() {
			return n
		}
	}
	return nil
}

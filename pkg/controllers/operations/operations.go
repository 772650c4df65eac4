// Package operations moves a cluster's operations on, and begins the backups that are due.
// What an operation is and what comes next in it is package pkg/operations; this controller
// shows it the world and writes what it answers: the record, and the steps it asks of nodes,
// in one transaction, so that a server that dies in between leaves nothing half done.
package operations

import (
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Name is the controller's.
const Name = "operations"

// Kept is how many operations of a kind that have ended a cluster keeps, of each type of backup,
// for people to look at and to know what is due.
const Kept = 20

// Controller implements controllers.Controller.
type Controller struct{}

// New returns the controller.
func New() Controller { return Controller{} }

// Name implements controllers.Controller.
func (Controller) Name() string { return Name }

// Inputs implements controllers.Controller.
func (Controller) Inputs() []controllers.Access {
	return append(topology.Inputs(),
		controllers.Access{Family: keys.Observed, Part: "backup"},
		controllers.Access{Family: keys.Plan, Part: "backup"},
		controllers.Access{Family: keys.PatroniKey, Part: "config"},
		controllers.Access{Family: keys.Primary},
		controllers.Access{Family: keys.Operations},
		controllers.Access{Family: keys.Steps},
		controllers.Access{Family: keys.Results},
	)
}

// Outputs implements controllers.Controller. Agents write results; here they are deleted
// together with their steps.
func (Controller) Outputs() []controllers.Access {
	return []controllers.Access{{Family: keys.Operations}, {Family: keys.Steps}, {Family: keys.Results}}
}

// Plan implements controllers.Controller.
func (Controller) Plan(in controllers.Input) (controllers.Result, error) {
	t, _, ok := topology.Load(in, "members", "postgres", "backup") // every concern says what is wrong
	if t.Formed == nil || t.Store.Incarnation == "" {
		return controllers.Result{}, nil
	}
	m := &mover{in: in, t: t, world: worldOf(in, t)}
	m.ops, m.unread = operations.Load(in.Snapshot, in.Layout, in.Cluster)
	m.world.Keep = operations.Keeping(m.backups(), in.Now)
	var cs []observed.Condition
	if !ok {
		// A slip in what the others are about does not keep the data from being backed up.
		_, _, ok = topology.Load(in, "backup")
	}
	if ok && !t.Removing && t.Docs.Exists() {
		cs = m.schedule()
	}
	if t.Removing {
		m.cancelAll("removal")
	}
	m.advance()
	m.token()
	m.forgetOld()
	observed.Sort(cs)
	slices.SortFunc(m.out, func(a, b controllers.Output) int { return strings.Compare(a.Key, b.Key) })
	return controllers.Result{Outputs: m.out, Conditions: cs, After: m.after}, nil
}

// mover is one look at a cluster's operations.
type mover struct {
	in     controllers.Input
	t      *topology.Topology
	world  operations.World
	ops    []operations.Stored
	unread []string
	out    []controllers.Output
	after  time.Duration
}

// again asks to be called again in time.
func (m *mover) again(d time.Duration) {
	if d > 0 && (m.after == 0 || d < m.after) {
		m.after = d
	}
}

// advance moves every operation on. The oldest of a kind goes first, and the others wait
// until it has ended.
func (m *mover) advance() {
	ahead := map[operations.Kind]bool{}
	holder, held := operations.TokenHolder(m.in.Snapshot, m.in.Layout, m.in.Cluster)
	swapping, swaps := m.swapping()
	discarded := m.discarded()
	for i := range m.ops {
		o := &m.ops[i]
		first := !ahead[o.Kind] && (!o.Disrupts() || held && holder.Operation == o.ID)
		was := string(observed.Encode(o.Operation))
		if at := discarded[o.ID]; o.Kind == operations.KindRestore && o.Discarded.IsZero() {
			o.Discarded = at
		}
		if swaps && !o.Disrupts() && !o.State.Final() {
			first = false // it would be on the primary, which goes
			if o.State == operations.Running && o.Cancel == "" {
				o.Cancel = swapping
			}
		}
		c := operations.Advance(&o.Operation, m.world, first)
		if !o.State.Final() {
			ahead[o.Kind] = true
		}
		m.again(c.After)
		if is := observed.Encode(o.Operation); string(is) != was || o.Revision == 0 {
			m.out = append(m.out, controllers.Output{Key: m.in.Layout.OperationKey(m.in.Cluster, o.ID), Value: is})
		} else if len(c.Ask)+len(c.Forget) == 0 {
			continue
		}
		for _, a := range c.Ask {
			m.out = append(m.out, controllers.Output{Key: m.in.Layout.StepKey(a.Node, a.ID), Value: observed.Encode(a.Step)})
		}
		for _, a := range c.Forget {
			m.out = append(m.out, controllers.Output{Key: m.in.Layout.StepKey(a.Node, a.ID), Mode: controllers.Delete})
			if !a.Withdraw {
				m.out = append(m.out, controllers.Output{Key: m.in.Layout.ResultKey(a.Node, a.ID), Mode: controllers.Delete})
			}
		}
	}
}

// swapping is the restore that takes the data from under the cluster, or has.
func (m *mover) swapping() (id string, is bool) {
	for _, o := range m.ops {
		if o.Swaps() {
			return o.ID, true
		}
	}
	return "", false
}

// discarded are the restores whose kept data were removed, and when.
func (m *mover) discarded() map[string]time.Time {
	out := map[string]time.Time{}
	for _, o := range m.ops {
		if o.Kind == operations.KindDiscard && o.State == operations.Done && o.Args.Restore != nil {
			out[o.Args.Restore.Operation] = o.Ended
		}
	}
	return out
}

// token gives the cluster's token to the oldest operation that waits for it, and takes it
// back from one that has ended. What a command holds by itself goes with its lease.
func (m *mover) token() {
	key := m.in.Layout.TokenKey(m.in.Cluster)
	holder, held := operations.TokenHolder(m.in.Snapshot, m.in.Layout, m.in.Cluster)
	if e, there := m.in.Snapshot.Get(key); there && held && e.Lease == 0 && strings.HasPrefix(holder.Operation, string(operations.KindRestore)+"-") && !m.known(holder.Operation) {
		// Its record was deleted by hand, or is of before an etcd that was put back.
		m.out = append(m.out, controllers.Output{Key: key, Mode: controllers.Delete})
		return
	}
	for _, o := range m.ops {
		switch {
		case !o.Disrupts():
		case held && holder.Operation == o.ID && o.State.Final():
			m.out = append(m.out, controllers.Output{Key: key, Mode: controllers.Delete})
			return
		case !held && !o.State.Final():
			m.out = append(m.out, controllers.Output{Key: key, Mode: controllers.Once, Value: observed.Encode(operations.Holder{
				Operation: o.ID, By: o.By, Since: m.in.Now,
			})})
			return
		}
	}
}

// known reports an operation whose record is there, even one that only a newer server reads.
func (m *mover) known(id string) bool {
	return slices.ContainsFunc(m.ops, func(o operations.Stored) bool { return o.ID == id }) ||
		slices.Contains(m.unread, m.in.Layout.OperationKey(m.in.Cluster, id))
}

// cancelAll asks for the end of all that goes on.
func (m *mover) cancelAll(by string) {
	for i := range m.ops {
		if o := &m.ops[i]; !o.State.Final() && o.Cancel == "" {
			o.Cancel = by
		}
	}
}

// forgetOld deletes the oldest of those of a kind that have ended: what was done and what
// failed last says what is due.
func (m *mover) forgetOld() {
	type sort struct {
		kind operations.Kind
		of   plan.BackupType
	}
	kept := map[sort]int{}
	proof, _ := operations.Proof(m.ops)
	for _, o := range slices.Backward(m.ops) {
		if !o.State.Final() || o.Revision == 0 || len(o.Keeps()) > 0 || o.ID == proof.ID {
			continue
		}
		s := sort{o.Kind, o.Args.Backup}
		if kept[s]++; kept[s] <= Kept {
			continue
		}
		m.out = slices.DeleteFunc(m.out, func(out controllers.Output) bool { return out.Key == o.Key })
		m.out = append(m.out, controllers.Output{Key: o.Key, Mode: controllers.Delete})
	}
}

// schedule begins the backup that is due, and says what is not well with the backups.
func (m *mover) schedule() []observed.Condition {
	p, on := policyOf(m.t)
	if !on {
		return nil
	}
	if len(m.unread) > 0 {
		// It may be a backup that goes on.
		return []observed.Condition{{
			Type: observed.Planned, Status: observed.False, Reason: observed.UnsupportedSchema, Key: m.unread[0],
			Message: "the record of an operation can't be read, and a newer program may have written it; no backup begins beside it",
			Next:    "pgctrl version (compare it with the server's)",
		}}
	}
	b := m.backups()
	next := operations.Due(p, b, m.in.Now)
	if !next.At.IsZero() {
		m.again(next.At.Sub(m.in.Now))
	}
	if _, swaps := m.swapping(); next.Type != "" && m.world.Holds == nil && m.world.Confirmed && !swaps {
		o := operations.NewBackup(operations.Asked{
			Cluster: m.in.Cluster, UID: m.t.Formed.UID, Store: m.t.Store.Incarnation, By: operations.BySchedule, Why: next.Why, At: m.in.Now,
		}, next.Type)
		o.Args.Keep = next.Keep
		key := m.in.Layout.OperationKey(m.in.Cluster, o.ID)
		if _, taken := m.in.Snapshot.Get(key); taken {
			m.again(time.Millisecond) // which is what names differ by
		} else {
			m.ops = append(m.ops, operations.Stored{Operation: o, Key: key})
		}
	}
	return append(operations.Conditions(p, b, m.in.Cluster, m.in.Now), m.verify(b)...)
}

// backups is what is known of the cluster's backups.
func (m *mover) backups() operations.Backups {
	b := operations.Backups{Leader: m.t.Leader, Timeline: m.primary().Timeline}
	for _, o := range m.ops {
		if o.UID == m.t.Formed.UID { // others are an earlier cluster's of this name
			b.Operations = append(b.Operations, o)
		}
	}
	for _, member := range m.t.Members {
		r, ok := observed.Read[observed.Report](m.in.Snapshot, m.in.Layout.ObservedKey(member.Node, m.in.Cluster, "backup"))
		if !ok || r.Repository == nil || !r.Of(m.t.Formed.UID) {
			continue
		}
		if member.Name == m.t.Leader {
			b.Repository = r.Repository
		} else if _, has := r.Repository.Newest(); has {
			b.Elsewhere = true
		}
	}
	return b
}

func (m *mover) primary() observed.Primary {
	p, _ := observed.Read[observed.Primary](m.in.Snapshot, m.in.Layout.PrimaryKey(m.in.Cluster))
	return p
}

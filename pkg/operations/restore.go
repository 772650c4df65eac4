package operations

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// The phases of a restore in place. The backup is restored and recovered beside the data
// first, so a target that does not exist is known before anything stops. Then every member's
// data are set aside, the leader's last, the leader gets the restored ones and leads, and the
// others copy from it. Until it leads everything can be taken back, and nothing is deleted.
const (
	PhasePrepare = "prepare"
	PhaseAside   = "set-aside"
	PhaseSwap    = "swap"
	PhaseLead    = "lead"
	PhaseFollow  = "follow"
	// PhaseBack takes PhaseAside and PhaseSwap back on one member.
	PhaseBack = "put-back"
	// PhaseDiscard removes what a restore kept on one member's node.
	PhaseDiscard = "discard"
)

// restoreActs are the acts of phases that are one member's.
var restoreActs = map[string]plan.Act{
	PhasePrepare: plan.ActPrepare, PhaseAside: plan.ActAside, PhaseSwap: plan.ActSwap, PhaseLead: plan.ActLead, PhaseFollow: plan.ActFollow,
	PhaseBack: plan.ActBack, PhaseDiscard: plan.ActDiscard,
}

// RestoreWithin is how long a restore may take before it is taken back: as long as a backup.
const RestoreWithin = BackupWithin

// NewRestore is a restore in place of a cluster whose member r.First leads, or led last, and
// whose other members are others. archive: there is a primary, which archives what it wrote
// up to now first. Its name goes into r.
func NewRestore(asked Asked, r plan.Restore, others []string, archive bool) Operation {
	var phases []string
	if archive {
		phases = append(phases, PhaseArchive)
	}
	o := asked.operation(KindRestore, RestoreWithin, phases...)
	r.Operation = o.ID
	o.Args.Restore = &r
	one := func(name, member string) { o.Phases = append(o.Phases, Phase{Name: name, Member: member}) }
	one(PhasePrepare, r.First)
	for _, m := range others {
		one(PhaseAside, m)
	}
	one(PhaseSwap, r.First)
	one(PhaseLead, r.First)
	for _, m := range others {
		one(PhaseFollow, m)
	}
	return o
}

// DiscardWithin is how long it may take to remove the data that a restore kept.
const DiscardWithin = time.Hour

// NewDiscard removes what a restore kept on the nodes of members.
func NewDiscard(asked Asked, r plan.Restore, members []string) Operation {
	o := asked.operation(KindDiscard, DiscardWithin)
	o.Args.Restore = &r
	for _, m := range members {
		o.Phases = append(o.Phases, Phase{Name: PhaseDiscard, Member: m})
	}
	return o
}

// Touched are the members whose data a restore in place has changed, or may have, the one that
// was to lead before the others.
func (o *Operation) Touched() (members []string) {
	for _, p := range slices.Backward(o.Phases) {
		if (p.Name == PhaseAside || p.Name == PhaseSwap) && p.Tries > 0 {
			members = append(members, p.Member)
		}
	}
	return members
}

// Keeps are the members on whose nodes a restore in place has left data that nobody uses: the
// former ones, or those that were prepared and never led.
func (o *Operation) Keeps() (members []string) {
	if o.Kind != KindRestore || !o.State.Final() || !o.Discarded.IsZero() {
		return nil
	}
	members = o.Touched()
	for _, p := range o.Phases {
		if p.Name == PhasePrepare && p.State == PhaseDone && !slices.Contains(members, p.Member) {
			members = append(members, p.Member)
		}
	}
	return members
}

// Swaps reports whether a restore in place is at, or past, the moment from which its cluster
// does not run as it was: nothing else that needs a primary begins.
func (o *Operation) Swaps() bool {
	return o.Kind == KindRestore && !o.State.Final() && (o.Undo || len(o.Touched()) > 0)
}

// restored: the restored data lead, and clients may have written to them. From here on it
// goes forward only.
func (o *Operation) restored() bool {
	return o.Kind == KindRestore && slices.ContainsFunc(o.Phases, func(p Phase) bool { return p.Name == PhaseLead && p.State == PhaseDone })
}

// RestoredAt is when the restored data began to lead; the zero time: they did not.
func (o *Operation) RestoredAt() (at time.Time) {
	for _, p := range o.Phases {
		if o.Kind == KindRestore && p.Name == PhaseLead && p.State == PhaseDone {
			at = p.Ended
		}
	}
	return at
}

// goesOn: a phase that fails does not end the operation, since each of the others is needed
// by another member.
func (o *Operation) goesOn() bool { return o.Undo || o.restored() || o.Kind == KindDiscard }

// movedAway says why nothing may be stopped although the backup is ready: the cluster is not
// the one that it was prepared for.
func (a *advance) movedAway(p *Phase) string {
	if p.Name != PhaseAside && p.Name != PhaseSwap || len(a.Touched()) > 0 {
		return ""
	}
	first := a.Args.Restore.First
	own := []string{}
	for _, p := range a.Phases {
		if p.Name == PhasePrepare && p.Epoch != a.Epoch && a.Leader != first {
			return cmp.Or(a.Leader, "nobody") + " leads now, and the restore was prepared on " + first + ", which led"
		} else if p.Name == PhasePrepare && p.Epoch != a.Epoch {
			return "the leadership changed after the restore was prepared, and the cluster's history with it"
		}
		if p.Name == PhaseAside || p.Name == PhaseSwap {
			own = append(own, p.Member)
		}
	}
	slices.Sort(own)
	if now := slices.Sorted(slices.Values(a.Members)); a.Members != nil && !slices.Equal(own, now) {
		return "the members are others than when it was asked for: " + strings.Join(now, ", ")
	}
	return ""
}

// leadsAlready takes the restored data for leading as soon as they do, whoever says so: the
// agent that was asked, or, should that be away, the leader key and who confirms it. From that
// moment clients write to them.
//
// The confirmation of the data that were stopped is still there, and counts for nothing in a
// leadership that came after it. But no other agent confirms a member anew that nobody else led in
// between, so once the one that does has been away for LostFor, the key alone is believed.
func (a *advance) leadsAlready() {
	p, more := a.Operation.Now()
	if a.Kind != KindRestore || !more || p.Name != PhaseLead || p.Tries == 0 || p.State == PhaseFailed || a.Undo || a.State.Final() || a.Args.Restore == nil {
		return
	}
	r, said := a.Result(p.Node, p.Step)
	said = said && p.Step != "" && r.State == observed.StepDone
	leads := a.Confirmed && a.Leader == a.Args.Restore.First && a.Epoch != p.Epoch
	if !said && !(leads && (a.ConfirmedIn == a.Epoch || a.awayFor(p))) {
		return
	}
	if p.Step != "" {
		a.forget(p)
	}
	if p.State, p.Ended, p.Message = PhaseDone, a.World.Now, "takes writes"; a.State == Cancelling {
		a.State = Running
	}
}

// startsAgain is how the first member that does not follow the restored data is brought to: its
// Patroni was stopped, for every boot too, and copies the leader when it is started.
func (a *advance) startsAgain() string {
	for _, p := range a.Phases {
		if p.Name == PhaseFollow && p.State != PhaseDone {
			return fmt.Sprintf("systemctl enable --now patroni@%s (on %s)", a.Cluster, cmp.Or(p.Node, a.World.Node(p.Member), p.Member))
		}
	}
	return "pgctrl status " + a.Cluster
}

// ledAfterAll takes in that the restored data took the lead when they were not waited for any more:
// clients write to them.
func (a *advance) ledAfterAll() {
	for i := range a.Phases {
		if p := &a.Phases[i]; p.Name == PhaseLead {
			p.State, p.Ended = PhaseDone, a.World.Now
		}
	}
}

// waitsForHolds: nothing is begun while Patroni is paused or the cluster is frozen. What is
// undone waits too, since agents would refuse it; what only follows a restore does.
func (a *advance) waitsForHolds(p *Phase) bool {
	return !a.goesOn() || p.Name == PhaseBack || p.Name == PhaseFollow
}

// held are reasons for which an agent refuses what its node's people want to be left alone.
var held = map[observed.Reason]bool{observed.PatroniPaused: true, observed.Frozen: true, observed.NoLeader: true}

// BackRetry is the longest pause between two tries to put former data back.
const BackRetry = time.Minute

// later has the other members put back first. The one that was to lead goes before all once
// Patroni's keys that say who may lead were deleted: others may lack what it has.
func (a *advance) later(p *Phase) {
	i := slices.IndexFunc(a.Phases, func(q Phase) bool { return q.Name == PhaseBack && q.Member == p.Member })
	if p.Name != PhaseBack || i < 0 || p.Member == a.Args.Restore.First && a.ledWasAsked() {
		return
	}
	q := a.Phases[i]
	if !slices.ContainsFunc(a.Phases[i+1:], func(o Phase) bool { return o.State == "" }) {
		return // all the others are done, or were tried
	}
	a.Phases = append(slices.Delete(slices.Clone(a.Phases), i, i+1), q)
}

func (a *advance) ledWasAsked() bool {
	return slices.ContainsFunc(a.Phases, func(p Phase) bool { return p.Name == PhaseLead && p.Tries > 0 })
}

// finish ends the operation, after what it has changed was taken back.
func (a *advance) finish(s State, reason observed.Reason, next, message string) {
	members := a.Touched()
	if a.Kind != KindRestore || a.Undo || a.restored() || len(members) == 0 {
		a.end(s, reason, next, message)
		return
	}
	a.tidy()
	a.Undo, a.State = true, Cancelling
	a.Reason, a.Next, a.Message = reason, next, message
	a.Phases = slices.DeleteFunc(a.Phases, func(p Phase) bool { return p.State == "" && p.Tries == 0 })
	for i := range a.Phases {
		if p := &a.Phases[i]; p.State != PhaseDone {
			p.State = PhaseFailed
			if p.Ended.IsZero() {
				p.Ended = a.World.Now
			}
		}
	}
	for _, m := range members {
		a.Phases = append(a.Phases, Phase{Name: PhaseBack, Member: m})
	}
	a.run()
}

// trouble adds what went wrong in a phase that does not end the operation.
func (a *advance) trouble(reason observed.Reason, next, message string) {
	if a.Message != "" {
		message = a.Message + "; " + message
	}
	if a.Reason == "" {
		a.Reason = reason
	}
	a.Message, a.Next = message, next
}

// concludes ends an operation whose phases are passed.
func (a *advance) concludes() {
	failed := slices.ContainsFunc(a.Phases, func(p Phase) bool { return p.State == PhaseFailed })
	switch {
	case a.Undo && a.restored():
		a.end(Failed, a.Reason, "pgctrl status "+a.Cluster, a.Message+"; the restored data came to lead all the same, and are left so")
	case a.Undo && a.Cancel != "":
		a.end(Cancelled, a.Reason, a.Next, undone(a.Message))
	case a.Undo:
		a.end(Failed, a.Reason, a.Next, undone(a.Message))
	case failed && a.Kind == KindDiscard:
		a.end(Failed, a.Reason, a.Next, a.Message)
	case failed: // of a restore that leads
		a.end(Failed, a.Reason, a.Next, "the data are restored; "+a.Message)
	default:
		a.end(Done, "", "", a.Message)
	}
}

func undone(message string) string {
	const said = "the former data are in their place again"
	if strings.Contains(message, PhaseBack+" on ") {
		return message // and it says where they are not
	}
	return message + "; " + said
}

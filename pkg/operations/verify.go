package operations

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// The phases of a proof that a backup can be restored.
const (
	// PhaseHeartbeat commits a row on the primary and has it archived.
	PhaseHeartbeat = "heartbeat"
	// PhaseProve restores the backup on one node, where it can reach nothing, and finds the row.
	PhaseProve = "prove"
)

// VerifyWithin is how long a proof may take: as long as a backup.
const VerifyWithin = BackupWithin

// NewVerify is a proof that a backup can be restored, on a member's node.
func NewVerify(asked Asked, v plan.Verify, member string) Operation {
	o := asked.operation(KindVerify, VerifyWithin, PhaseHeartbeat, PhaseProve)
	v.Heartbeat = o.ID
	o.Args.Verify = &v
	o.Phases[1].Member = member
	return o
}

// leftBehind is why a proof can't be had any more by what the cluster is now, which says
// nothing against the backup; empty: it can.
func (a *advance) leftBehind(p *Phase) string {
	switch {
	case p.Name != PhaseProve:
		return ""
	case a.World.Node(p.Member) == "":
		return fmt.Sprintf("member %s, on whose node the proof was to be, is gone", p.Member)
	case a.Args.Verify.Local && a.Leader != "" && a.Leader != p.Member:
		return fmt.Sprintf("%s leads now and archives into another repository than the one on the node of %s", a.Leader, p.Member)
	}
	return ""
}

// proven are reasons that an act of a proof would say again each time, after it had copied the
// whole database again.
var proven = []observed.Reason{observed.RecoveryFailed, observed.NoRoom, observed.Unsupported}

// VerifyPolicy is what a cluster's document says of proofs that backups can be restored.
type VerifyPolicy struct {
	// Schedule says when one is due; nil: never by itself.
	Schedule Schedule
	// Stale is how old the newest one may be; 0: as old as it likes.
	Stale time.Duration
	// Node is where it is made; empty: where it disturbs least.
	Node string
	// Local: the repository is on the primary's own node.
	Local bool
}

// VerifyMember is a member as a place for a proof.
type VerifyMember struct {
	Name, Node string
	// Alive: its node's agent is there.
	Alive bool
}

// VerifyOn chooses the member on whose node the proof is made: where the document says, else a
// replica's, which disturbs least. A repository in a folder of the primary's host is nowhere
// else. The error says why there is none.
func VerifyOn(p VerifyPolicy, members []VerifyMember, leader string) (VerifyMember, error) {
	find := func(is func(VerifyMember) bool) (VerifyMember, bool) {
		i := slices.IndexFunc(members, is)
		if i < 0 {
			return VerifyMember{}, false
		}
		return members[i], true
	}
	leads, known := find(func(m VerifyMember) bool { return m.Name == leader })
	switch {
	case p.Node != "":
		m, has := find(func(m VerifyMember) bool { return m.Node == p.Node })
		switch {
		case !has:
			return m, fmt.Errorf("the cluster has no member on node %s, so pgBackRest has no settings there", p.Node)
		case p.Local && m.Name != leader:
			return m, fmt.Errorf("the repository is a folder of the node that leads, %s, and node %s can't read it", leads.Node, p.Node)
		}
		return m, nil
	case !known:
		return leads, fmt.Errorf("nobody leads")
	case p.Local:
		return leads, nil
	}
	if m, is := find(func(m VerifyMember) bool { return m.Name != leader && m.Alive }); is {
		return m, nil
	}
	return leads, nil
}

const (
	// VerifyAgainFirst is the pause after a proof that failed; it doubles up to VerifyAgainMost.
	// Each copies the whole database.
	VerifyAgainFirst = time.Hour
	VerifyAgainMost  = 24 * time.Hour
)

// NextVerify is a proof that is due, or when to look again.
type NextVerify struct {
	// Due: one is to be made now, of the newest backup.
	Due    bool
	Backup observed.Backup
	Why    string
	// At is when to look again; the zero time: when something changes.
	At time.Time
}

// VerifyDue says whether a proof is due. What was missed is made once, as with backups; a due
// time before there was any backup is none.
func VerifyDue(p VerifyPolicy, b Backups, now time.Time) (n NextVerify) {
	newest, has := b.Repository.Newest()
	if p.Schedule == nil || !has || b.Repository.Error != "" {
		return n
	}
	n.At = p.Schedule.After(now)
	due, ok := p.Schedule.Before(now)
	if !ok {
		return n
	}
	failures, last := verifies(b.Operations)
	for _, o := range b.Operations {
		if !o.State.Final() && (o.Kind == KindVerify || o.Kind == KindBackup || o.Kind == KindRestore) {
			return n // its end has this looked at again
		}
	}
	if b.Repository.Backups[0].Stopped.After(due) && last.State == "" {
		return n
	}
	if (last.State == Done || last.State == Cancelled && !madeWay(last)) && !last.Began.Before(due) {
		return n
	}
	pause := time.Duration(0)
	switch {
	case last.State != Failed || last.Ended.Before(due):
	case moved[last.Reason]:
		pause = FailedFirst
	default:
		pause = VerifyAgainFirst
		for i := 1; i < failures && pause < VerifyAgainMost; i++ {
			pause *= 2
		}
		pause = min(pause, VerifyAgainMost)
	}
	if again := last.Ended.Add(pause); pause > 0 && now.Before(again) {
		n.At = earlier(n.At, again)
		return n
	}
	n.Due, n.Backup, n.Why = true, newest, "proof due since "+due.UTC().Format("2006-01-02 15:04 MST")
	return n
}

// madeWay: a restore in place ended it, and nobody who had a reason against it.
func madeWay(o Operation) bool { return strings.HasPrefix(o.Cancel, string(KindRestore)+"-") }

// verifies is the newest proof that has ended, and how many failed in a row up to it.
func verifies(ops []Stored) (n int, last Operation) {
	for _, o := range slices.Backward(ops) {
		if o.Kind != KindVerify || !o.State.Final() {
			continue
		}
		if last.State == "" {
			last = o.Operation
		}
		if o.State != Failed {
			break
		}
		n++
	}
	return n, last
}

// Proof is the newest proof that succeeded; false: there is none.
func Proof(ops []Stored) (Operation, bool) {
	for _, o := range slices.Backward(ops) {
		if o.Kind == KindVerify && o.State == Done && o.Recovered != nil {
			return o.Operation, true
		}
	}
	return Operation{}, false
}

// Disproof is the newest proof that ended, where it failed and that says something of the
// backup: neither a move nor a person ended it.
func Disproof(ops []Stored) (Operation, bool) {
	for _, o := range slices.Backward(ops) {
		switch {
		case o.Kind != KindVerify || !o.State.Final() || o.State == Cancelled || o.State == Failed && (moved[o.Reason] || o.Reason == observed.StoreChanged):
		default:
			return o.Operation, o.State == Failed
		}
	}
	return Operation{}, false
}

// VerifyConditions are what is not well with the proofs.
func VerifyConditions(p VerifyPolicy, b Backups, cluster string, now time.Time) (cs []observed.Condition) {
	say := func(reason observed.Reason, next, message string) {
		cs = append(cs, observed.Condition{Type: observed.Healthy, Status: observed.False, Reason: reason, Message: message, Next: next})
	}
	const form = "2006-01-02 15:04 MST"
	if o, is := Disproof(b.Operations); is {
		say(observed.VerificationFailed, "pgctrl operation show "+cluster+" "+o.ID,
			fmt.Sprintf("the proof of %s that backup %s can be restored failed: %s", o.Ended.UTC().Format(form), o.Args.Verify.Backup, o.Message))
	}
	if at, since := staleAt(p, b); !at.IsZero() && !now.Before(at) {
		say(observed.VerificationStale, "pgctrl backup verify "+cluster, since)
	}
	return cs
}

// staleAt is when the newest proof is, or was, too old, and what to say then.
func staleAt(p VerifyPolicy, b Backups) (time.Time, string) {
	if p.Schedule == nil || p.Stale <= 0 {
		return time.Time{}, ""
	}
	if o, proved := Proof(b.Operations); proved {
		return o.Ended.Add(p.Stale), fmt.Sprintf("that a backup can be restored was proved last at %s, of %s", o.Ended.UTC().Format("2006-01-02 15:04 MST"), o.Label)
	}
	if b.Repository == nil || len(b.Repository.Backups) == 0 {
		return time.Time{}, ""
	}
	// The oldest backup that is kept may be younger than the cluster, so this is late rather
	// than early; proofs that fail are said by themselves.
	return b.Repository.Backups[0].Stopped.Add(p.Stale), "that a backup can be restored was never proved"
}

// VerifyLook is when VerifyConditions may say something else although nothing changed; the zero
// time: never.
func VerifyLook(p VerifyPolicy, b Backups, now time.Time) time.Time {
	if at, _ := staleAt(p, b); at.After(now) {
		return at
	}
	return time.Time{}
}

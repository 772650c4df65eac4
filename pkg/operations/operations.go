// Package operations is one-shot work on a cluster: a backup, a restore. Each is a record
// with phases, kept in etcd and moved on by whichever server leads, so that a crash of any
// program is an interruption and nothing more. Types and pure functions only: Advance looks
// at the record and the world and says what the record becomes and which step is asked of
// which node. Agents do the steps (plan.Step) and nobody else acts.
//
// At most one operation of a cluster that disrupts it goes on at a time. Whoever holds the
// cluster's token may (Token); the commands that act by themselves, such as restart, take
// the same one.
package operations

import (
	"slices"
	"strconv"
	"time"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Schema is the version of the records in this package.
const Schema = 1

// Kind is what an operation does.
type Kind string

// The kinds.
const (
	// KindBackup takes a backup of the cluster.
	KindBackup Kind = "backup"
	// KindArchive brings everything that is written so far into the archive, so that it can
	// be restored.
	KindArchive Kind = "archive"
	// KindRestore makes the data of a running cluster those of a moment of its past.
	KindRestore Kind = "restore"
	// KindVerify proves that the newest backup can be restored.
	KindVerify Kind = "verify"
	// KindDiscard removes the data that a restore kept.
	KindDiscard Kind = "discard"
)

// Kinds are all that this program knows.
var Kinds = []Kind{KindBackup, KindArchive, KindVerify, KindRestore, KindDiscard}

// State is how far an operation is.
type State string

// The states. The last three are final.
const (
	// Waiting: it has not begun; another one goes on, or something it needs is away.
	Waiting State = "waiting"
	Running State = "running"
	// Cancelling: a person asked for its end; what the phase under way did is undone.
	Cancelling State = "cancelling"
	Done       State = "done"
	Failed     State = "failed"
	Cancelled  State = "cancelled"
)

// Final reports that nothing more comes.
func (s State) Final() bool { return s == Done || s == Failed || s == Cancelled }

// Operation is the stored record.
type Operation struct {
	Schema  int    `json:"schema"`
	Kind    Kind   `json:"kind"`
	ID      string `json:"id"`
	Cluster string `json:"cluster"`
	// Store and UID are the etcd and the cluster that it was asked of.
	Store string `json:"store"`
	UID   string `json:"uid"`
	// By is who asked, as in root@pg1; BySchedule when the server did by itself.
	By string `json:"by"`
	// Cause is the event whose hook asked for it, as in pg-test/1042-0; empty: no hook did.
	Cause string `json:"cause,omitempty"`
	// Why is what a server's own operation is for, as in "full backup due since ...".
	Why   string    `json:"why,omitempty"`
	Asked time.Time `json:"asked"`
	// Deadline is when it is given up; what a node still does of it is stopped.
	Deadline time.Time `json:"deadline"`
	Args     Args      `json:"args,omitzero"`

	State State `json:"state"`
	// Phases are all that it will pass, in order, from the first moment on.
	Phases []Phase `json:"phases"`
	// Cancel is who asked for its end.
	Cancel string `json:"cancel,omitempty"`
	// Withdrawn is the step that was taken back because of it.
	Withdrawn string `json:"withdrawn,omitempty"`
	// Withdrew is when that was.
	Withdrew time.Time `json:"withdrew,omitzero"`
	// Reason, Message and Next say why it waits, failed, or what came of it.
	Reason  observed.Reason `json:"reason,omitempty"`
	Message string          `json:"message,omitempty"`
	Next    string          `json:"next,omitempty"`
	// Began and Ended bound its work; the zero time: not yet.
	Began time.Time `json:"began,omitzero"`
	Ended time.Time `json:"ended,omitzero"`
	// Label is the backup that it made, restored or verified.
	Label string `json:"label,omitempty"`
	// Heartbeat is the row that a KindVerify had written, and Recovered what came of restoring.
	Heartbeat *observed.Heartbeat `json:"heartbeat,omitempty"`
	Recovered *observed.Recovered `json:"recovered,omitempty"`
	// Undo: it failed or was cancelled after it had changed something, and the phases after
	// the failed one take that back.
	Undo bool `json:"undo,omitempty"`
	// Discarded is when the data that it kept were removed; the zero time: they are there.
	Discarded time.Time `json:"discarded,omitzero"`
}

// NewID is the name of an operation asked for at a time, which tells it from every other one
// of the cluster: names sort by age.
func NewID(k Kind, at time.Time) string {
	return string(k) + "-" + strconv.FormatInt(at.UnixMilli(), 36)
}

// BySchedule is who asked for an operation that nobody asked for.
const BySchedule = "schedule"

// Args are what the kinds take.
type Args struct {
	// Backup is the type of a KindBackup.
	Backup plan.BackupType `json:"backup,omitempty"`
	// Keep: no older one is expired with it.
	Keep bool `json:"keep,omitempty"`
	// Verify is what a KindVerify is about.
	Verify *plan.Verify `json:"verify,omitempty"`
	// Restore is what a KindRestore is about, and of a KindDiscard whose data go.
	Restore *plan.Restore `json:"restore,omitempty"`
}

// Phase is a part of an operation. It is passed whole or begun again.
type Phase struct {
	Name  string     `json:"name"`
	State PhaseState `json:"state,omitempty"`
	// Node, Member and Step are whom it asked, and the step's name below steps/<node>/. The
	// member of a phase that is one member's is there from the beginning.
	Node   string `json:"node,omitempty"`
	Member string `json:"member,omitempty"`
	Step   string `json:"step,omitempty"`
	// Tries counts the steps that were asked in it, Failures those that went wrong, Moves
	// those that ended because the leader changed or an agent was lost.
	Tries    int `json:"tries,omitempty"`
	Failures int `json:"failures,omitempty"`
	Moves    int `json:"moves,omitempty"`
	// Epoch is the leadership under which the step was asked.
	Epoch plan.Epoch `json:"epoch,omitempty"`
	// Asked is when the step was.
	Asked time.Time `json:"asked,omitzero"`
	// Lost is since when the node's agent has no presence, while a step is asked of it.
	Lost time.Time `json:"lost,omitzero"`
	// Retry is when it begins again after a failure.
	Retry   time.Time `json:"retry,omitzero"`
	Began   time.Time `json:"began,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Message string    `json:"message,omitempty"`
}

// PhaseState is how far a phase is.
type PhaseState string

// The states of a phase; empty before it begins.
const (
	PhaseRunning PhaseState = "running"
	PhaseDone    PhaseState = "done"
	PhaseFailed  PhaseState = "failed"
)

// Now is the phase that an operation is in: the first that is not done; false after the last.
// One that failed is passed over where the others have to be done all the same.
func (o *Operation) Now() (*Phase, bool) {
	for i := range o.Phases {
		switch o.Phases[i].State {
		case PhaseDone:
		case PhaseFailed:
			if !o.goesOn() {
				return &o.Phases[i], true
			}
		default:
			return &o.Phases[i], true
		}
	}
	return nil, false
}

// Disrupts reports whether an operation stops or moves what clients use, and so needs the
// cluster's token. What only reads does not, and of a kind that is not known nobody knows.
func (o *Operation) Disrupts() bool {
	return o.Kind != KindBackup && o.Kind != KindArchive && o.Kind != KindDiscard && o.Kind != KindVerify
}

// Holder is the value of a cluster's token: who may disrupt it. A command that acts by
// itself writes it under a lease; an operation's goes when that has ended.
type Holder struct {
	// Operation is the operation's ID, or what a command calls itself, as in restart-x.
	Operation string    `json:"operation"`
	By        string    `json:"by"`
	Since     time.Time `json:"since"`
}

// Load reads the operations of a cluster, the oldest first. One that can't be read, as when a
// newer server wrote it, is among the unread, by key.
func Load(s kv.Snapshot, l keys.Layout, cluster string) (ops []Stored, unread []string) {
	for _, e := range s.Range(l.ClusterOperations(cluster)) {
		if e.Key == l.TokenKey(cluster) {
			continue
		}
		o, err := observed.Decode[Operation](e)
		if err != nil || o.Schema > Schema {
			unread = append(unread, e.Key)
			continue
		}
		ops = append(ops, Stored{Operation: o, Key: e.Key, Created: e.CreateRevision, Revision: e.ModRevision})
	}
	slices.SortStableFunc(ops, func(a, b Stored) int { return int(a.Created - b.Created) })
	return ops, unread
}

// Stored is an operation as it is in etcd.
type Stored struct {
	Operation
	Key               string
	Created, Revision int64
}

// TokenHolder is who may disrupt the cluster now; false: nobody does.
func TokenHolder(s kv.Snapshot, l keys.Layout, cluster string) (Holder, bool) {
	return observed.Read[Holder](s, l.TokenKey(cluster))
}

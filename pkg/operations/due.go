package operations

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Schedule says when something is due.
type Schedule interface {
	// Before is the newest due time that is not after now; false: there is none.
	Before(now time.Time) (time.Time, bool)
	// After is the next one; the zero time: there is none.
	After(now time.Time) time.Time
}

// Policy is what a cluster's document says about backups.
type Policy struct {
	// Local: the repository is on the primary's own node, and each has another one.
	Local bool
	// Full is how many full backups are kept.
	Full int
	// Schedules are by type; one that is not there has none.
	Schedules map[plan.BackupType]Schedule
}

// covers are the types of backup that serve where one is due.
var covers = map[plan.BackupType][]plan.BackupType{
	plan.BackupFull:         {plan.BackupFull},
	plan.BackupDifferential: {plan.BackupFull, plan.BackupDifferential},
	plan.BackupIncremental:  {plan.BackupFull, plan.BackupDifferential, plan.BackupIncremental},
}

// types are in the order in which one that is due is preferred: what a full backup makes
// serves for the others as well.
var types = []plan.BackupType{plan.BackupFull, plan.BackupDifferential, plan.BackupIncremental}

// Backups is what is known of a cluster's backups.
type Backups struct {
	// Repository is what the leader's agent reports; nil: it has not looked yet.
	Repository *observed.Repository
	// Elsewhere: another node has backups of this cluster in a repository of its own.
	Elsewhere bool
	// Leader and Timeline are the confirmed primary's.
	Leader   string
	Timeline int64
	// Operations are the cluster's, the oldest first.
	Operations []Stored
}

const (
	// FailedFirst is the pause after a backup that failed until the next one begins; it
	// doubles with each further failure up to FailedMost.
	FailedFirst = 5 * time.Minute
	FailedMost  = time.Hour
	// OverdueAfter is how late a backup may be before it is said.
	OverdueAfter = time.Hour
	// ReportWithin is how long after a backup its agent has told what the repository holds
	// since: it reads that right after, and pgBackRest takes seconds for it.
	ReportWithin = time.Minute
)

// Next is a backup that is due, or when to look again.
type Next struct {
	// Type of the backup that is due now; empty: none is.
	Type plan.BackupType
	Why  string
	// Keep: no older one is expired with it.
	Keep bool
	// Since is when it was due.
	Since time.Time
	// At is when the next one is due; the zero time: never.
	At time.Time
}

// Due says which backup is due. What was missed, because no server or no primary was there,
// is due until it is made, once.
func Due(p Policy, b Backups, now time.Time) Next {
	n := Next{At: nextOf(p, now)}
	if b.unknown() {
		return n
	}
	failures, last := failedInARow(b.Operations)
	if until := last.Ended.Add(ReportWithin); b.outrun(last) && now.Before(until) {
		n.At = earlier(n.At, until)
		return n
	}
	switch {
	case Split(p, b, now):
		n.Type, n.Why, n.Since, n.Keep = plan.BackupFull, "the primary's repository has no backup since the failover", now, p.keep(b)
	case restoredSince(b):
		n.Type, n.Why, n.Since, n.Keep = plan.BackupFull, "the data were restored", now, p.keep(b)
	case !anyOf(b.Repository, plan.BackupFull):
		n.Type, n.Why, n.Since = plan.BackupFull, "the first backup", now
	default:
		n.missed(p, b, now)
		n.gap(p, b, now)
	}
	for _, o := range b.Operations {
		if o.Kind == KindBackup && !o.State.Final() {
			n.Type = ""
		}
	}
	if n.Type == "" || last.State == "" || last.State == Done {
		return n
	}
	pause := FailedFirst
	for i := 1; i < failures && pause < FailedMost; i++ {
		pause *= 2
	}
	switch {
	case last.State == Cancelled && !last.Ended.After(restoredAt(b)):
		return n // the restore had it end
	case last.State == Cancelled:
		pause = FailedMost // a person had a reason
	}
	if again := last.Ended.Add(min(pause, FailedMost)); now.Before(again) {
		n.Type, n.At = "", earlier(n.At, again)
	}
	return n
}

// unknown: nobody has read the repository since it is this leader's. One that could not be
// read and of which nothing was known before looks empty and is not: a full backup of it would
// be made, and retention would take what it has for that.
func (b Backups) unknown() bool {
	return b.Repository == nil || b.Repository.Error != "" && len(b.Repository.Backups) == 0
}

// outrun reports a backup that is newer than the report about the repository it is in.
func (b Backups) outrun(last Operation) bool {
	if b.Repository.Error != "" {
		return false // its report is an older one, and says nothing about what was made since
	}
	if last.State != Done || len(last.Phases) == 0 || last.Phases[len(last.Phases)-1].Member != b.Leader {
		return false
	}
	// What a backup is called is not always known: the repository may be away for a moment
	// right after it.
	stepsOf := strings.TrimSuffix(keys.StepID(last.Cluster, last.ID, 0), "0")
	for _, has := range b.Repository.Backups {
		if has.Label == last.Label || strings.HasPrefix(has.Step, stepsOf) {
			return false
		}
	}
	return true
}

// missed finds a due time since which no backup was made that would serve.
func (n *Next) missed(p Policy, b Backups, now time.Time) {
	for _, t := range types {
		s := p.Schedules[t]
		if s == nil {
			continue
		}
		due, ok := s.Before(now)
		if !ok || made(b, t, due) {
			continue
		}
		n.Type, n.Since = t, due
		n.Why = fmt.Sprintf("%s backup due since %s", t, due.UTC().Format("2006-01-02 15:04 MST"))
		return
	}
}

// made reports a backup that serves where one of type t was due: the repository has it, or
// an operation made it that the repository's last report is older than. One that a person
// cancelled is not made again before the next one is due.
func made(b Backups, t plan.BackupType, due time.Time) bool {
	for _, has := range b.Repository.Backups {
		if serves(t, plan.BackupType(has.Type)) && !has.Started.Before(due) {
			return true
		}
	}
	for _, o := range b.Operations {
		if o.Kind == KindBackup && (o.State == Done || o.State == Cancelled) && serves(t, o.Args.Backup) && !o.Began.Before(due) {
			return true
		}
	}
	return false
}

func serves(want, has plan.BackupType) bool { return slices.Contains(covers[want], has) }

func anyOf(r *observed.Repository, t plan.BackupType) bool {
	return slices.ContainsFunc(r.Backups, func(b observed.Backup) bool { return b.Type == string(t) })
}

// Split reports that WAL went on in another repository than the one that has the backups: a
// failover left them behind, with a repository on each primary's own node, or the document
// named another one for a while. What is archived now can't be restored from them.
func Split(p Policy, b Backups, now time.Time) bool {
	if b.unknown() {
		return false
	}
	newest, has := b.Repository.Newest()
	if _, last := failedInARow(b.Operations); has && b.outrun(last) && last.Ended.After(newest.Stopped.Add(time.Second)) && !now.Before(last.Ended.Add(ReportWithin)) {
		return true
	}
	if !p.Local {
		return false
	}
	if !has {
		return b.Elsewhere
	}
	tl, known := timeline(newest.LastWAL)
	return known && b.Timeline > tl
}

// restoredSince reports that the newest full backup is of the time before the data were
// restored in place: it can be restored still, but what the cluster has now only by way of a
// history that it left.
func restoredSince(b Backups) bool {
	at := restoredAt(b)
	if at.IsZero() {
		return false
	}
	for _, has := range b.Repository.Backups {
		if has.Type == string(plan.BackupFull) && has.Started.After(at.Truncate(time.Second)) {
			return false
		}
	}
	for _, o := range b.Operations {
		if o.Kind == KindBackup && o.State == Done && o.Args.Backup == plan.BackupFull && o.Began.After(at) {
			return false
		}
	}
	return true
}

// restoredAt is when the data were restored in place last; the zero time: never.
func restoredAt(b Backups) (at time.Time) {
	for _, o := range b.Operations {
		if t := o.RestoredAt(); t.After(at) {
			at = t
		}
	}
	return at
}

// timeline is the first eight digits of a segment's name.
func timeline(wal string) (tl int64, ok bool) {
	if len(wal) != 24 {
		return 0, false
	}
	_, err := fmt.Sscanf(wal[:8], "%08X", &tl)
	return tl, err == nil
}

// failedInARow is the newest backup that has ended, and how many failed in a row up to it.
func failedInARow(ops []Stored) (n int, last Operation) {
	for i := len(ops) - 1; i >= 0; i-- {
		o := ops[i]
		if o.Kind != KindBackup || !o.State.Final() || o.Reason == observed.StoreChanged {
			continue // the last says nothing of backups: an etcd was put back under it
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

// nextOf is the next time at which any type is due.
func nextOf(p Policy, now time.Time) (at time.Time) {
	for _, t := range types {
		if s := p.Schedules[t]; s != nil {
			at = earlier(at, s.After(now))
		}
	}
	return at
}

// earlier is the earlier of two times, of which a zero one is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Conditions are what is not well with the backups.
func Conditions(p Policy, b Backups, cluster string, now time.Time) (cs []observed.Condition) {
	n := Next{}
	if !b.unknown() && anyOf(b.Repository, plan.BackupFull) {
		n.missed(p, b, now)
	}
	say := func(status observed.Status, reason observed.Reason, next, message string) {
		cs = append(cs, observed.Condition{Type: observed.Healthy, Status: status, Reason: reason, Message: message, Next: next})
	}
	if Split(p, b, now) {
		say(observed.True, observed.RepositorySplit, "pgctrl operation list "+cluster,
			"the primary's repository has no backup since it took over; a full one is due at once")
	}
	if gap, open := OpenGap(b); open && !Split(p, b, now) {
		say(observed.False, observed.WALGap, "pgctrl operation list "+cluster, gapWords(gap)+"; a full backup, which begins anew, is due at once")
	}
	if newest, damaged := Damaged(b); damaged {
		say(observed.False, observed.BackupDamaged, "pgctrl backup check "+cluster, damagedWords(newest))
	}
	if failures, last := failedInARow(b.Operations); failures > 0 {
		say(observed.False, observed.BackupFailed, "pgctrl operation show "+cluster+" "+last.ID,
			fmt.Sprintf("the newest backup failed at %s: %s", last.Ended.UTC().Format("2006-01-02 15:04 MST"), last.Message))
	}
	if n.Type != "" && now.Sub(n.Since) > OverdueAfter {
		say(observed.False, observed.BackupOverdue, "pgctrl operation list "+cluster, n.Why)
	}
	return cs
}

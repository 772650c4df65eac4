package server

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgctrl/pgctrl/internal/memo"
	"github.com/pgctrl/pgctrl/internal/schedule"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/status"
)

// backups is what the reports say of each cluster's repository, and how its operations
// are, as metrics. The leader's repository is the cluster's: nothing else can be restored
// without a person's doing.
type backups struct {
	layout keys.Layout
	// reports and kept remember what a report and an operation said, by key and revision: a
	// scrape of a fleet must not read thousands of lists of backups that have not changed.
	reports *memo.Memo[seen, repository]
	kept    *memo.Memo[seen, *operation]
	// plans are when backups are due, by type, as of a revision of the cluster's documents.
	plans *memo.Memo[seen, map[string]schedule.Schedule]
	// ages are how old proofs may be, as of such a revision.
	ages *memo.Memo[seen, time.Duration]

	due, stopped, duration, size, stored, split, gap, damaged, operations, ended *prometheus.Desc
	verified, restore, loss, disproved, stale                                    *prometheus.Desc
}

// repository is what is told of one: the newest backup of all and of each type.
type repository struct {
	uid string // of the cluster that the report is about
	// looked: the agent has read it, and it could be read at the last look.
	looked bool
	newest observed.Backup
	// gap: the archive lacks what recovery from the newest backup needs.
	gap bool
	// damaged: pages of the newest backup failed their checksums.
	damaged bool
	// stopped and started are when the newest of each type did.
	stopped, started map[string]time.Time
}

// operation is what is told of one.
type operation struct {
	kind  operations.Kind
	state operations.State
	ended time.Time
	// stored is what it was made from, of a proof alone, for what is asked of several at once.
	stored operations.Stored
}

// keptOperations is how many operations of a cluster are remembered.
const keptOperations = 16

func newBackups(l keys.Layout) *backups {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"cluster"}, labels...), nil)
	}
	return &backups{
		layout: l, reports: memo.New[seen, repository](3 * remembered), kept: memo.New[seen, *operation](keptOperations * remembered),
		plans: memo.New[seen, map[string]schedule.Schedule](remembered), ages: memo.New[seen, time.Duration](remembered),
		due: d("pgctrl_backup_due_timestamp_seconds",
			"When the schedule wants, or wanted, the next backup, reckoned from the newest ones in the leader's repository. Absent before the first full one."),
		stopped: d("pgctrl_backup_last_stop_timestamp_seconds",
			"When the newest complete backup of each type in the leader's repository ended.", "type"),
		duration: d("pgctrl_backup_last_duration_seconds", "How long the newest complete backup took."),
		size:     d("pgctrl_backup_last_size_bytes", "Size of the database that the newest complete backup is of."),
		stored:   d("pgctrl_backup_last_stored_bytes", "What the newest complete backup takes in the repository, beside those that it builds on."),
		split: d("pgctrl_backup_repository_split",
			"1 while another node's repository has a newer backup than the leader's: history is in two places. Absent until the leader's was read."),
		gap: d("pgctrl_backup_wal_gap",
			"1 while WAL is missing from the archive of the leader's repository since its newest backup, so that nothing after it can be restored. Absent until it was read."),
		damaged: d("pgctrl_backup_damaged",
			"1 while pages of the newest backup in the leader's repository failed their checksums. Absent until it was read."),
		operations: d("pgctrl_operations", "Operations that have not ended, and those that failed among the ended ones that are kept.", "kind", "state"),
		verified: d("pgctrl_backup_verified_timestamp_seconds",
			"When it was proved last that a backup can be restored. Absent before the first proof."),
		restore:   d("pgctrl_backup_verify_restore_seconds", "How long the newest proof took to restore the backup, until the database could be used."),
		loss:      d("pgctrl_backup_verify_loss_seconds", "For how long the oldest write had been there that the archive did not have when the newest proof began: what a loss of all hosts would have cost."),
		disproved: d("pgctrl_backup_verify_failed", "1 while the newest proof that a backup can be restored is one that failed; moves and cancellations are none. Absent before the first."),
		stale: d("pgctrl_backup_verify_stale_timestamp_seconds",
			"When the newest proof that a backup can be restored is, or was, too old. Absent where the document wants none."),
		ended: d("pgctrl_operation_ended_timestamp_seconds", "When the newest operation of a kind that ended so did.", "kind", "state"),
	}
}

func (b *backups) describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{b.due, b.stopped, b.duration, b.size, b.stored, b.split, b.gap, b.damaged, b.operations, b.ended, b.verified, b.restore, b.loss, b.disproved, b.stale} {
		ch <- d
	}
}

type say func(d *prometheus.Desc, v float64, labels ...string)

// cluster says what there is of one cluster. Its leader and nodes are those of its status.
func (b *backups) cluster(s kv.Snapshot, say say, name string, st *status.ClusterStatus) {
	b.repositories(s, say, name, st)
	b.ops(s, say, name, st.Revision)
}

func (b *backups) repositories(s kv.Snapshot, say say, name string, st *status.ClusterStatus) {
	formed, _ := observed.Read[observed.Formed](s, b.layout.FormedKey(name))
	var own repository
	leads := ""
	for _, m := range st.Members {
		if m.Name == st.Leader && m.Node != "" {
			leads, own = m.Node, b.repository(s, name, m.Node, formed.UID)
		}
	}
	for t, at := range own.stopped {
		say(b.stopped, seconds(at), name, t)
	}
	if at := next(b.schedules(s, name, st.Revision), own.started); !at.IsZero() {
		say(b.due, seconds(at), name)
	}
	if !own.newest.Stopped.IsZero() {
		say(b.duration, own.newest.Stopped.Sub(own.newest.Started).Seconds(), name)
		say(b.size, float64(own.newest.Size), name)
		say(b.stored, float64(own.newest.Stored), name)
	}
	if !own.looked {
		return // what others have is newer than what nobody knows
	}
	split := false
	for _, m := range st.Members {
		if m.Node != "" && m.Node != leads {
			split = split || b.repository(s, name, m.Node, formed.UID).newest.Stopped.After(own.newest.Stopped)
		}
	}
	say(b.split, number(split), name)
	say(b.gap, number(own.gap), name)
	say(b.damaged, number(own.damaged), name)
}

// repository is what a node's report of the cluster of that uid says of its repository.
func (b *backups) repository(s kv.Snapshot, cluster, node, uid string) repository {
	e, ok := s.Get(b.layout.ObservedKey(node, cluster, "backup"))
	if !ok {
		return repository{}
	}
	said := b.reports.Get(seen{e.Key, e.ModRevision}, func() repository {
		r, err := observed.Decode[observed.Report](e)
		if err != nil || r.Schema > observed.Schema || r.Repository == nil {
			return repository{}
		}
		out := repository{uid: r.UID, looked: r.Repository.Error == "", stopped: map[string]time.Time{}, started: map[string]time.Time{}}
		out.newest, _ = r.Repository.Newest()
		_, out.gap = operations.OpenGap(operations.Backups{Repository: r.Repository})
		_, out.damaged = operations.Damaged(operations.Backups{Repository: r.Repository})
		for _, backup := range r.Repository.Backups {
			switch backup.Type {
			case "full", "diff", "incr": // a label of what else is written there would be anybody's
				if backup.Stopped.After(out.stopped[backup.Type]) {
					out.stopped[backup.Type], out.started[backup.Type] = backup.Stopped, backup.Started
				}
			}
		}
		return out
	})
	if !(observed.Report{UID: said.uid}).Of(uid) {
		return repository{} // an earlier cluster of this name
	}
	return said
}

// schedules are when a cluster's backups are due, by type.
func (b *backups) schedules(s kv.Snapshot, cluster string, revision int64) map[string]schedule.Schedule {
	return b.plans.Get(seen{cluster, revision}, func() map[string]schedule.Schedule {
		docs := desired.Load(s, b.layout, cluster, "backup")
		if docs.Invalid("backup") {
			return nil
		}
		out := map[string]schedule.Schedule{}
		for _, t := range []plan.BackupType{plan.BackupFull, plan.BackupDifferential, plan.BackupIncremental} {
			if due, ok := docs.Backup.Schedule(string(t)); ok {
				out[string(t)] = due
			}
		}
		return out
	})
}

// next is the first time at which a schedule wants a backup since the newest that serves for
// it: a full one does for all, a differential one for an incremental. The zero time: there is no
// full one yet, or nothing is ever due.
func next(schedules map[string]schedule.Schedule, started map[string]time.Time) (first time.Time) {
	if started["full"].IsZero() {
		return first
	}
	last := time.Time{}
	for _, t := range []string{"full", "diff", "incr"} {
		if started[t].After(last) {
			last = started[t]
		}
		s, ok := schedules[t]
		if !ok {
			continue
		}
		if at := s.After(last); !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// ops counts a cluster's operations.
func (b *backups) ops(s kv.Snapshot, say say, cluster string, revision int64) {
	var proofs []operations.Stored
	type how struct {
		kind  operations.Kind
		state operations.State
	}
	count, ended := map[how]int{}, map[how]time.Time{}
	for _, e := range s.Range(b.layout.ClusterOperations(cluster)) {
		o := b.kept.Get(seen{e.Key, e.ModRevision}, func() *operation {
			o, err := observed.Decode[operations.Operation](e)
			if err != nil || o.Schema > operations.Schema || !known(o.Kind, o.State) {
				return nil // the token, or a newer server's
			}
			out := &operation{kind: o.Kind, state: o.State, ended: o.Ended}
			if o.Kind == operations.KindVerify {
				out.stored = operations.Stored{Operation: o, Created: e.CreateRevision}
			}
			return out
		})
		if o == nil {
			continue
		}
		if o.kind == operations.KindVerify {
			proofs = append(proofs, o.stored)
		}
		h := how{o.kind, o.state}
		if !o.state.Final() || o.state == operations.Failed {
			count[h]++
		}
		if o.state.Final() && o.ended.After(ended[h]) {
			ended[h] = o.ended
		}
	}
	for h, n := range count {
		say(b.operations, float64(n), cluster, string(h.kind), string(h.state))
	}
	for h, at := range ended {
		say(b.ended, seconds(at), cluster, string(h.kind), string(h.state))
	}
	b.proofs(s, say, cluster, revision, proofs)
}

// proofs says what the proofs that backups can be restored came to.
func (b *backups) proofs(s kv.Snapshot, say say, cluster string, revision int64, all []operations.Stored) {
	formed, _ := observed.Read[observed.Formed](s, b.layout.FormedKey(cluster))
	all = slices.DeleteFunc(all, func(o operations.Stored) bool { return formed.UID != "" && o.UID != formed.UID }) // an earlier cluster's
	slices.SortStableFunc(all, func(x, y operations.Stored) int { return cmp.Compare(x.Created, y.Created) })
	o, proved := operations.Proof(all)
	if proved {
		say(b.verified, seconds(o.Ended), cluster)
		say(b.restore, o.Recovered.Seconds(), cluster)
		if o.Heartbeat != nil {
			say(b.loss, o.Heartbeat.Window, cluster)
		}
	}
	if _, failed := operations.Disproof(all); proved || failed {
		say(b.disproved, number(failed), cluster)
	}
	if after := b.staleAfter(s, cluster, revision); proved && after > 0 {
		say(b.stale, seconds(o.Ended.Add(after)), cluster)
	}
}

// staleAfter is how old a proof may be; 0: as old as it likes.
func (b *backups) staleAfter(s kv.Snapshot, cluster string, revision int64) time.Duration {
	return b.ages.Get(seen{cluster, revision}, func() time.Duration {
		docs := desired.Load(s, b.layout, cluster, "backup")
		if _, proves := docs.Backup.VerifySchedule(); docs.Invalid("backup") || !proves {
			return 0
		}
		return docs.Backup.Verify.Stale.Std()
	})
}

// known keeps words that nobody of ours has written out of labels.
func known(k operations.Kind, s operations.State) bool {
	switch s {
	case operations.Waiting, operations.Running, operations.Cancelling, operations.Done, operations.Failed, operations.Cancelled:
	default:
		return false
	}
	return slices.Contains(operations.Kinds, k)
}

func seconds(at time.Time) float64 { return float64(at.UnixNano()) / 1e9 }

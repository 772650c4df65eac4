package status

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
)

// ConcernBackup is the concern whose reports say what a repository holds.
const ConcernBackup = "backup"

// Backups is what there is to say about a cluster's backups. Nothing in it changes while
// none is made: how old one is, the reader computes.
type Backups struct {
	// Node reported it: the leader's when that has looked at its repository.
	Node string `json:"node,omitempty"`
	// Repository tells one from another; empty: no node has looked at one.
	Repository string `json:"repository,omitempty"`
	// Newest is the newest backup, Full the newest full one; nil: there is none.
	Newest *observed.Backup `json:"newest,omitempty"`
	Full   *observed.Backup `json:"full,omitempty"`
	// Kept is how many the repository lists.
	Kept int `json:"kept"`
	// Due is when the next one is due by the document; it is another time once that has
	// passed, so it is not stored. Nil: none is.
	Due *time.Time `json:"due,omitempty"`
	// Verified is the newest proof that a backup can be restored; nil: there is none.
	Verified *Verified `json:"verified,omitempty"`
	// Archiving is ok, failing or unknown, as the leader's node says.
	Archiving string `json:"archiving"`
}

// Verified is a proof that a backup can be restored, in figures.
type Verified struct {
	Label string    `json:"label"`
	Node  string    `json:"node"`
	At    time.Time `json:"at"`
	// Seconds is how long the restore took, until the database could be used.
	Seconds float64 `json:"seconds"`
	// Upto is the time of the last transaction that was recovered, Heartbeat that of the row
	// which had to be found.
	Upto      time.Time `json:"up_to,omitzero"`
	Heartbeat time.Time `json:"heartbeat,omitzero"`
	// Window is what a loss of all hosts would have cost at the heartbeat, in seconds.
	Window float64 `json:"window_seconds"`
	// Checksums: every page was as its checksum says; false: it has none.
	Checksums bool `json:"checksums"`
}

// VerifiedOf is the newest proof among operations; nil: there is none.
func VerifiedOf(ops []operations.Stored) *Verified {
	o, ok := operations.Proof(ops)
	if !ok {
		return nil
	}
	r := o.Recovered
	v := &Verified{Label: r.Label, Node: o.Phases[len(o.Phases)-1].Node, At: o.Ended, Seconds: r.Seconds(), Upto: r.At, Heartbeat: r.Heartbeat, Checksums: r.Checksums}
	if o.Heartbeat != nil {
		v.Window = o.Heartbeat.Window
	}
	return v
}

// What there is to say of archiving.
const (
	ArchivingOK      = "ok"
	ArchivingFailing = "failing"
	ArchivingUnknown = "unknown"
)

// notArchiving are the reasons for which WAL does not reach the archive.
// They are spelt here and not in package observed, which lists what somebody says.
var notArchiving = []observed.Reason{"ArchiveFailing", "ArchivingOff", "RepositoryUnreachable", "StanzaMissing"}

// Task is an operation that goes on.
type Task struct {
	ID    string           `json:"id"`
	Kind  operations.Kind  `json:"kind"`
	Type  string           `json:"type,omitempty"`
	State operations.State `json:"state"`
	Phase string           `json:"phase,omitempty"`
	Node  string           `json:"node,omitempty"`
	By    string           `json:"by,omitempty"`
	Why   string           `json:"why,omitempty"`
	// Progress moves while a node works, and is not stored (Input.Results).
	Progress *observed.Progress `json:"progress,omitempty"`
}

// Repositories are what nodes said of the repositories that they back up to, by node. A
// folder of the host is another one on each node; of an object store, the leader's word
// is the newest, and others' are left out. leader is its node; empty: not known.
func Repositories(in Input, leader string) map[string]observed.Repository {
	c := newComputer(in)
	c.read()
	return c.repositories(leader)
}

// LocalRepository reports whether a repository is a folder of its node's host, in the words
// of the agent that looked at it.
func LocalRepository(r observed.Repository) bool {
	return strings.HasPrefix(r.Where, desired.RepositoryLocal+":")
}

func (c *computer) repositories(leader string) map[string]observed.Repository {
	out := map[string]observed.Repository{}
	for node, of := range c.reports {
		if r := of[ConcernBackup].Repository; r != nil {
			out[node] = *r
		}
	}
	// Of several words about one store, the leader's, else that with the newest backup.
	best := map[string]string{}
	for _, node := range slices.Sorted(maps.Keys(out)) {
		r := out[node]
		if LocalRepository(r) {
			continue
		}
		other, said := best[r.Where]
		if !said || node == leader || other != leader && newestOf(r).After(newestOf(out[other])) {
			best[r.Where] = node
		}
	}
	maps.DeleteFunc(out, func(node string, r observed.Repository) bool {
		return !LocalRepository(r) && best[r.Where] != node
	})
	return out
}

func newestOf(r observed.Repository) time.Time {
	b, _ := r.Newest()
	return b.Stopped
}

// backups says how backups are, where some node has a plan for them or knows of one.
func (c *computer) backups() {
	planned := false
	for _, of := range c.plans {
		p, ok := of[ConcernBackup]
		planned = planned || ok && p.Removal == nil
	}
	leader := c.nodeOf(c.out.Leader)
	all := c.repositories(leader)
	if !planned && len(all) == 0 || !c.docs.Backup.On() {
		return
	}
	b := &Backups{Archiving: c.archiving(leader), Due: c.nextBackup()}
	c.out.Backups = b
	r, ok := all[leader]
	if ok {
		b.Node = leader
	} else {
		b.Archiving = ArchivingUnknown // nobody there has looked
		for _, node := range slices.Sorted(maps.Keys(all)) {
			if b.Node == "" || newestOf(all[node]).After(newestOf(r)) {
				b.Node, r = node, all[node]
			}
		}
	}
	ops, _ := operations.Load(c.Snapshot, c.Layout, c.Cluster)
	b.Verified = VerifiedOf(slices.DeleteFunc(ops, func(o operations.Stored) bool { return c.formed != nil && o.UID != c.formed.UID }))
	b.Repository, b.Kept = r.Where, len(r.Backups)
	if n, ok := r.Newest(); ok {
		b.Newest = &n
	}
	if f, ok := NewestFull(r); ok {
		b.Full = &f
	}
}

// NewestFull is the newest full backup; false: there is none.
func NewestFull(r observed.Repository) (observed.Backup, bool) {
	for _, b := range slices.Backward(r.Backups) {
		if b.Type == "full" {
			return b, true
		}
	}
	return observed.Backup{}, false
}

// nextBackup is when one of any type is due next.
func (c *computer) nextBackup() (next *time.Time) {
	for _, t := range []string{"full", "diff", "incr"} {
		when, ok := c.docs.Backup.Schedule(t)
		if !ok {
			continue
		}
		if due := when.After(c.Now); !due.IsZero() && (next == nil || due.Before(*next)) {
			next = &due
		}
	}
	return next
}

func (c *computer) archiving(leader string) string {
	r, ok := c.reports[leader][ConcernBackup]
	if !ok || !c.alive(leader) {
		return ArchivingUnknown
	}
	for _, cond := range r.Conditions {
		if cond.Bad() && slices.Contains(notArchiving, cond.Reason) {
			return ArchivingFailing
		}
	}
	return ArchivingOK
}

// tasks are the operations that go on.
func (c *computer) tasks() {
	ops, _ := operations.Load(c.Snapshot, c.Layout, c.Cluster)
	for _, o := range ops {
		if members := o.Keeps(); len(members) > 0 && o.Args.Restore != nil {
			c.out.Kept = append(c.out.Kept, Kept{Operation: o.ID, Since: o.Ended, Members: members, Folder: o.Args.Restore.Before()})
		}
		if o.State.Final() {
			continue
		}
		t := Task{ID: o.ID, Kind: o.Kind, Type: string(o.Args.Backup), State: o.State, By: o.By, Why: o.Why}
		if p, ok := o.Now(); ok {
			t.Phase, t.Node = p.Name, p.Node
			if c.Results && p.Step != "" {
				if r, ok := observed.Read[observed.StepResult](c.Snapshot, c.Layout.ResultKey(p.Node, p.Step)); ok && !r.Final() {
					t.Progress = r.Progress
				}
			}
		}
		c.out.Operations = append(c.out.Operations, t)
	}
}

package operations

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// The phases of a backup.
const (
	PhaseStanza = "stanza"
	PhaseBackup = "backup"
	// PhaseArchive brings everything written so far into the archive.
	PhaseArchive = "archive"
)

// BackupWithin is how long a backup may take, whatever it copies, before it is given up: a
// day, after which the next full one of most schedules is due.
const BackupWithin = 24 * time.Hour

// NewBackup is a backup that has been asked for and not begun.
func NewBackup(asked Asked, t plan.BackupType) Operation {
	o := asked.operation(KindBackup, BackupWithin, PhaseStanza, PhaseBackup)
	o.Args.Backup = t
	return o
}

// ArchiveWithin is how long it may take to archive what is written so far: minutes of WAL
// that piled up while the repository was away.
const ArchiveWithin = 15 * time.Minute

// NewArchive is an archiving of all that is written so far.
func NewArchive(asked Asked) Operation {
	return asked.operation(KindArchive, ArchiveWithin, PhaseArchive)
}

// Asked is what every new operation has: of which cluster, by whom, when.
type Asked struct {
	Cluster, UID, Store string
	By, Cause, Why      string
	At                  time.Time
}

func (a Asked) operation(k Kind, within time.Duration, phases ...string) Operation {
	o := Operation{
		Schema: Schema, Kind: k, ID: NewID(k, a.At), Cluster: a.Cluster, UID: a.UID, Store: a.Store,
		By: a.By, Cause: a.Cause, Why: a.Why, Asked: a.At, Deadline: a.At.Add(within), State: Waiting,
	}
	for _, name := range phases {
		o.Phases = append(o.Phases, Phase{Name: name})
	}
	return o
}

package observed

import "time"

// MaxBackups is how many backups a Repository lists, the newest; retention keeps fewer.
const MaxBackups = 64

// Repository is what a backup repository holds of one cluster, as pgBackRest tells it. It
// is read again after every backup, when the leader changes, and now and then; nothing in
// it changes by itself.
type Repository struct {
	// Where tells one repository from another: its type and place, without secrets.
	Where string `json:"where"`
	// Stanza: there is one for this database (its version and system identifier).
	Stanza bool `json:"stanza"`
	// Backups are complete ones that belong to this database, the oldest first.
	Backups []Backup `json:"backups,omitempty"`
	// FirstWAL and LastWAL bound the archive, as names of segments; empty: it has none.
	// LastWAL is as of the last look.
	FirstWAL string `json:"first_wal,omitempty"`
	LastWAL  string `json:"last_wal,omitempty"`
	// Gaps are holes in the archive that stayed, of the history that the newest timeline has, the
	// oldest first; MoreGaps is how many older ones are not listed.
	Gaps     []Gap `json:"gaps,omitempty"`
	MoreGaps int   `json:"more_gaps,omitempty"`
	// Unlisted is why the archive could not be listed at a look that told all else, so that its
	// gaps are not known; nil: it was.
	Unlisted error `json:"-"`
	// Error is why the repository could not be read at the last look; what is said beside it
	// is from the one before.
	Error string `json:"error,omitempty"`
}

// Backup is one complete backup.
type Backup struct {
	// Label is pgBackRest's name of it, such as 20261126-010000F.
	Label string `json:"label"`
	// Type is full, diff or incr.
	Type string `json:"type"`
	// Prior is the backup that it builds on; empty for a full one.
	Prior   string    `json:"prior,omitempty"`
	Started time.Time `json:"started"`
	Stopped time.Time `json:"stopped"`
	// FirstWAL and LastWAL are the segments that it needs to be consistent.
	FirstWAL string `json:"first_wal"`
	LastWAL  string `json:"last_wal"`
	// StopLSN is where it is consistent; empty by a pgBackRest that does not tell.
	StopLSN string `json:"stop_lsn,omitempty"`
	// Size is the database's, Copied what was read of it, Stored what that takes in the
	// repository; bytes.
	Size   int64 `json:"size"`
	Copied int64 `json:"copied"`
	Stored int64 `json:"stored"`
	// Step is the step that asked for it, which the backup itself says; empty: somebody else's.
	Step string `json:"step,omitempty"`
	// From is the member whose files were copied, which the backup says too; empty: not known.
	From string `json:"from,omitempty"`
	// Damaged: pages failed their checksums.
	Damaged bool `json:"damaged,omitempty"`
}

// Newest is the newest backup; false: there is none.
func (r *Repository) Newest() (Backup, bool) {
	if r == nil || len(r.Backups) == 0 {
		return Backup{}, false
	}
	return r.Backups[len(r.Backups)-1], true
}

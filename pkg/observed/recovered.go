package observed

import "time"

// Recovered is what came of restoring a backup beside a cluster and recovering it.
type Recovered struct {
	// Label is the backup that it began with, Size that of its data in bytes.
	Label string `json:"label"`
	Size  int64  `json:"size,omitempty"`
	// System is the database's system identifier, and Timeline the one that it is on after
	// its promotion.
	System   string `json:"system,omitempty"`
	Timeline int64  `json:"timeline,omitempty"`
	// LSN is where the last record ends that was replayed, At the time of the last
	// transaction in it; the zero time: there was none.
	LSN string    `json:"lsn,omitempty"`
	At  time.Time `json:"at,omitzero"`
	// Heartbeat is when the heartbeat was written that had to be found.
	Heartbeat time.Time `json:"heartbeat,omitzero"`
	// Checksums: the data have checksums of pages, and every page is as its own says.
	Checksums bool `json:"checksums,omitempty"`
	// Fetch, Replay and Check are how long it took to copy, to recover (to the moment at
	// which connections are taken) and to read every page, in seconds.
	Fetch  float64 `json:"fetch_seconds"`
	Replay float64 `json:"replay_seconds"`
	Check  float64 `json:"check_seconds,omitempty"`
	// Ended is when all that was over.
	Ended time.Time `json:"ended"`
}

// Seconds is how long a restore takes until the database could be used.
func (r Recovered) Seconds() float64 { return r.Fetch + r.Replay }

// Heartbeat is a row that was committed on the primary, and what was known of the archive then.
type Heartbeat struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
	// Window is for how long the oldest write that the archive did not have when the row was
	// written had been there, in seconds: what a loss of the primary, and of every replica,
	// would have cost at that moment. 0: it had all.
	Window float64 `json:"window_seconds"`
	// Archived is how long it took from the commit until the archive had it, in seconds.
	Archived float64 `json:"archived_seconds"`
	// LSN is where the WAL ends that was archived with it.
	LSN string `json:"lsn"`
}

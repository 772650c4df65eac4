package observed

import "time"

// Archiving is how far a primary's archive is behind; the zero value of a replica, or where
// nothing is archived.
type Archiving struct {
	// On: PostgreSQL archives.
	On bool
	// Ready is how many files wait, Waits for how long the oldest has.
	Ready int
	Waits time.Duration
	// Archived is when it last went well, Failed when it last did not; zero: never since the
	// statistics began.
	Archived, Failed time.Time
	// Segment is the one that last failed.
	Segment string
}

// ArchiveLate is how long a finished segment may wait for the archive before that counts as
// failing: each takes a fraction of a second, and what is in the way for a moment is over.
const ArchiveLate = time.Minute

// Late reports whether finished WAL waits for too long.
func (a Archiving) Late() bool { return a.On && a.Ready > 0 && a.Waits > ArchiveLate }

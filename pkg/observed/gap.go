package observed

import (
	"fmt"
	"time"
)

// MaxGaps is how many gaps a Repository lists, the newest.
const MaxGaps = 8

// Gap is WAL that a database history needs and the archive lacks: recovery from a backup of
// before it ends where it begins. Names of segments sort by timeline and then by place, so
// those along one history sort as the database wrote them.
type Gap struct {
	// First and Last are the first and the last file that is missing. It may be a timeline's
	// history, as in 00000002.history, which sorts before all segments of that timeline.
	First string `json:"first"`
	Last  string `json:"last"`
	// Segments is how many are missing; 0: nothing but histories.
	Segments int64 `json:"segments,omitempty"`
	// LSN is where WAL ends, and where recovery can't get past.
	LSN string `json:"lsn"`
	// Since and Until are when the segments beside it were archived, which is after they were
	// written: nothing that was committed after Since is before the gap. Zero: there is none.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// String names it in a sentence, as in "... to ... (3 segments)".
func (g Gap) String() string {
	switch {
	case g.First == g.Last:
		return g.First
	case g.Segments == 0:
		return g.First + " to " + g.Last
	case g.Segments == 1:
		return fmt.Sprintf("%s to %s (1 segment)", g.First, g.Last)
	}
	return fmt.Sprintf("%s to %s (%d segments)", g.First, g.Last, g.Segments)
}

// Past reports whether recovery from a backup needs nothing of the gap.
func (b Backup) Past(g Gap) bool { return b.FirstWAL > g.Last }

// Gap is the first gap that recovery from a backup comes to, and that ends it; false: it
// comes to the end of the archive. Whole reports whether it becomes consistent before.
func (r *Repository) Gap(b Backup) (g Gap, whole, found bool) {
	for _, g := range r.Gaps {
		if !b.Past(g) {
			return g, b.LastWAL < g.First, true
		}
	}
	return Gap{}, true, false
}

package scratch

import (
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/wal"
)

// archive is what an archive has that is of use after a backup.
type archive struct {
	wal.Archive
	// Segments and Histories are names as PostgreSQL asks for them, in its order.
	Segments, Histories []string
}

// list reads what "repo-ls --recurse" prints of a database's archive: what recovery from a
// backup whose first segment is first may ask for.
func list(out []byte, first string) *archive {
	a := &archive{}
	for line := range strings.Lines(string(out)) {
		path := strings.TrimSpace(line)
		if name, is := wal.Segment(path); is && name[8:] >= first[8:] && name[:8] >= first[:8] {
			a.Segments = append(a.Segments, name)
		} else if name, is := wal.History(path); is {
			a.Histories = append(a.Histories, name)
		}
	}
	slices.Sort(a.Segments)
	slices.Sort(a.Histories)
	a.Segments, a.Histories = slices.Compact(a.Segments), slices.Compact(a.Histories)
	for _, name := range slices.Concat(a.Segments, a.Histories) {
		a.Add(name, time.Time{})
	}
	return a
}

// missing is the first file that recovery asks for and the archive has not, while it has later
// segments, up to last; empty: there is none.
func (a *archive) missing(first string, history []wal.Switch, segment int64) (gap, last string) {
	if n := len(a.Segments); n > 0 {
		last = a.Segments[n-1]
	}
	if gaps := a.Gaps(wal.Query{Starts: []string{first}, History: history, SegmentSize: segment}); len(gaps) > 0 {
		gap = gaps[0].First
	}
	return gap, last
}

package pgbackrest

import (
	"fmt"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/host/postgres"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/wal"
)

// smallest is the size of a database, in bytes, below which its primary is copied in any
// case: the repository has to be read, WAL to be fetched a segment at a time, and what is
// saved is seconds. (Measured with 1 GB; docs/BACKUP.md has the figures.)
const smallest = 4 << 30

// Newcomer is what is known in the moment in which a new replica gets its data.
type Newcomer struct {
	// Always: the repository is wanted wherever it can be right.
	Always bool
	// Primary is what the member to follow says.
	Primary postgres.Upstream
	// Repository is what it holds of this database.
	Repository *observed.Repository
	// Processes is how many restore at once.
	Processes int
}

// Choose is the backup that a new replica begins with; without one, why the primary is to be
// copied. Whether its WAL is whole is another question: Whole.
//
// A base backup is one stream, as large as the database, that the primary reads and sends. A
// restore is several, compressed, and the primary has no part in it; but all WAL since the
// backup began has to be fetched and replayed, by one process. Where copying takes a stream
// the time T, two of them take T/2, and WAL of half the database's size about the other half,
// as replaying a byte is no cheaper than copying one. So up to that much WAL the repository is
// not slower, and beyond it is not asked. More processes than two move no bound: the disk of
// the new member is one.
func Choose(n Newcomer) (b observed.Backup, why string) {
	all := slices.Clone(n.Repository.Backups)
	all = slices.DeleteFunc(all, func(b observed.Backup) bool { return b.Damaged })
	if !n.Repository.Stanza || len(all) == 0 {
		return b, "the repository has no backup of this database"
	}
	b = all[len(all)-1]
	begin, err := positionOf(b.FirstWAL, n.Primary.Segment)
	if err != nil {
		return b, err.Error()
	}
	end, err := positionOf(b.LastWAL, n.Primary.Segment)
	if err != nil {
		return b, err.Error()
	}
	end.at += n.Primary.Segment
	if b.StopLSN != "" {
		if at, err := wal.ParseLSN(b.StopLSN); err == nil {
			end.at = at
		}
	}
	if !leadsTo(n.Primary, end) {
		return b, fmt.Sprintf("backup %s is of timeline %d at %s, which the primary's timeline %d has not come from", b.Label, end.timeline, wal.FormatLSN(end.at), n.Primary.Timeline)
	}
	if n.Always {
		return b, ""
	}
	if b.Size < smallest {
		return b, fmt.Sprintf("the database is %s, and copying less than %s takes the primary no time worth saving", size(uint64(b.Size)), size(smallest))
	}
	if n.Processes < 2 {
		return b, "process_max is 1, and one process restores no faster than the primary is copied"
	}
	wal := uint64(0)
	if n.Primary.Position > begin.at {
		wal = n.Primary.Position - begin.at
	}
	if most := uint64(b.Size) / 2; wal > most {
		return b, fmt.Sprintf("%s of WAL were written since backup %s of %s began; replaying more than %s takes longer than copying", size(wal), b.Label, size(uint64(b.Size)), size(most))
	}
	return b, ""
}

// leadsTo reports whether what was written up to a position of a timeline is in the past of
// the primary.
func leadsTo(u postgres.Upstream, end walPosition) bool {
	if end.timeline == u.Timeline {
		return end.at <= u.Position
	}
	for _, f := range u.History {
		if f.Timeline == end.timeline {
			return end.at <= f.LSN
		}
	}
	return false
}

// Whole says what is missing between the segment that a backup needs first and the newest one
// of the archive, given the names of all of them; empty: nothing. What comes after the newest
// one the primary still has: it removes no WAL that it has not archived. A replica that
// begins before a gap would wait at it for ever.
func Whole(first string, archived []string, segment uint64) string {
	begin, err := positionOf(first, segment)
	if err != nil {
		return err.Error()
	}
	var have []uint64
	for _, name := range archived {
		if p, err := positionOf(name, segment); err == nil && p.at >= begin.at {
			have = append(have, p.at)
		}
	}
	slices.Sort(have)
	have = slices.Compact(have) // a segment in which a timeline ended is there of both
	want := begin.at
	for _, at := range have {
		if at != want {
			break
		}
		want += segment
	}
	if len(have) > 0 && want > have[len(have)-1] {
		return ""
	}
	return fmt.Sprintf("the archive lacks the segment of WAL at %s, which comes after %s", wal.FormatLSN(want), first)
}

// walPosition is where a segment begins.
type walPosition struct {
	timeline uint32
	at       uint64
}

// positionOf reads a segment's name.
func positionOf(name string, segment uint64) (p walPosition, err error) {
	p.timeline, p.at, err = wal.Begin(name, segment)
	return p, err
}

// size is a number of bytes for people.
func size(n uint64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GB", n>>30)
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%d MB", n>>20)
}

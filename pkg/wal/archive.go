package wal

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// Archive is what an archive has. The zero value has nothing. Consecutive segments are kept as
// one, so that a million takes no more than some thousand entries.
type Archive struct {
	runs      map[logFile][]run
	histories map[uint32]bool
	low       uint32 // the greatest number that a segment has within its log file
}

// logFile is 4 GB of WAL of one timeline. How many segments that is is not known from names:
// each begins at 0 and may have fewer than 256.
type logFile struct{ timeline, number uint32 }

// run is segments of one log file without a gap.
type run struct {
	from, to    uint32
	first, last time.Time // when those at its ends were archived
}

// maxLow is the greatest number within a log file: segments have 1 MB at least.
const maxLow = 1<<32/minSegment - 1

var (
	// segment is a whole one: as pgBackRest keeps it, with a checksum behind its name, or as
	// PostgreSQL does.
	segment = regexp.MustCompile(`^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(?:-[0-9a-f]{40}(?:\.[a-z0-9]{1,4})?)?$`)
	history = regexp.MustCompile(`^([0-9A-F]{8})\.history$`)
)

// Add takes a file of the archive, by its path or name, and when it was archived. What is no
// whole segment and no history is nothing.
func (a *Archive) Add(path string, at time.Time) {
	name := base(path)
	if m := history.FindStringSubmatch(name); m != nil {
		if a.histories == nil {
			a.histories = map[uint32]bool{}
		}
		a.histories[number(m[1])] = true
		return
	}
	m := segment.FindStringSubmatch(name)
	if m == nil {
		return
	}
	f, n := logFile{number(m[1]), number(m[2])}, number(m[3])
	if f.timeline == 0 || n > maxLow {
		return
	}
	if a.runs == nil {
		a.runs = map[logFile][]run{}
	}
	a.low = max(a.low, n)
	of := a.runs[f]
	if k := len(of) - 1; k >= 0 && of[k].to+1 == n { // as they come, sorted
		of[k].to, of[k].last = n, at
		return
	}
	a.runs[f] = append(of, run{n, n, at, at})
}

func number(hex string) uint32 {
	n, _ := strconv.ParseUint(hex, 16, 32) // the expressions admit nothing else
	return uint32(n)
}

// Newest is the newest timeline of which there is anything; 0: there is nothing.
func (a *Archive) Newest() (tl uint32) {
	for f := range a.runs {
		tl = max(tl, f.timeline)
	}
	for t := range a.histories {
		tl = max(tl, t)
	}
	return tl
}

// NewestHistory is the newest timeline whose history file is there; 0: none is.
func (a *Archive) NewestHistory() (tl uint32) {
	for t := range a.histories {
		tl = max(tl, t)
	}
	return tl
}

const (
	minSegment     = 1 << 20
	maxSegment     = 1 << 30
	defaultSegment = 16 << 20
)

// segmentSize is that of a known size, and else what the names say: 16 MB unless they have
// greater numbers than that allows, or two log files and only smaller ones.
func (a *Archive) segmentSize(known int64) uint64 {
	size := uint64(defaultSegment)
	if known >= minSegment && known <= maxSegment && known&(known-1) == 0 {
		size = uint64(known)
	} else if a.fullLogs() {
		size = maxSegment
	}
	for size > minSegment && uint64(a.low) >= 1<<32/size {
		size /= 2
	}
	return size
}

// fullLogs reports a log file that was written to its end: there is a later one of the same
// timeline, and it has what comes before its beginning.
func (a *Archive) fullLogs() bool {
	for f := range a.runs {
		if next := a.runs[logFile{f.timeline, f.number + 1}]; len(next) > 0 && next[0].from == 0 {
			return true
		}
	}
	return false
}

// stretch is segments of one timeline without a gap, by their number from its beginning:
// from one up to, and without, another.
type stretch struct {
	from, to    uint64
	first, last time.Time
}

// stretches are a timeline's, in order and with what lies beside each other as one.
func (a *Archive) stretches(tl uint32, size uint64) (out []stretch) {
	perLog := 1 << 32 / size
	for f, of := range a.runs {
		if f.timeline != tl {
			continue
		}
		base := uint64(f.number) * perLog
		for _, r := range of {
			out = append(out, stretch{base + uint64(r.from), base + uint64(r.to) + 1, r.first, r.last})
		}
	}
	slices.SortFunc(out, func(x, y stretch) int { return cmp.Compare(x.from, y.from) })
	kept := out[:0]
	for _, s := range out {
		if k := len(kept) - 1; k >= 0 && s.from <= kept[k].to {
			if s.to > kept[k].to {
				kept[k].to, kept[k].last = s.to, s.last
			}
			continue
		}
		kept = append(kept, s)
	}
	return kept
}

package wal

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Query is what Gaps goes by.
type Query struct {
	// Starts are the first segments of the backups. What is before all of them nobody needs.
	Starts []string
	// History is that of the timeline Archive.NewestHistory.
	History []Switch
	// SegmentSize in bytes, a power of two; 0: not known.
	SegmentSize int64
}

// Gaps are what recovery from the oldest backup to the newest segment would miss, the oldest
// first. A backup that is on no timeline of the newest one's history begins nothing.
func (a *Archive) Gaps(q Query) (out []observed.Gap) {
	size := a.segmentSize(q.SegmentSize)
	line := a.line(q.History, size)
	first, from, ok := start(line, q.Starts, size)
	if !ok {
		return nil
	}
	w := walk{size: size, end: from}
	for i, l := range line[first:] {
		if i > 0 {
			// Recovery looks for histories one by one, those between two of the line too.
			w.lacksHistories(a.histories, line[first+i-1].timeline+1, l.timeline)
			from = l.from
		}
		for _, s := range a.stretches(l.timeline, size) {
			if s.from, s.to = max(s.from, from), min(s.to, l.to); s.from >= s.to {
				continue
			}
			w.lacks(l.timeline, from, s.from)
			w.has(s)
			from = s.to
		}
		if l.to != open {
			w.lacks(l.timeline, from, l.to)
		}
	}
	return w.found // what was missing last is only not there yet
}

// open is the end of a timeline that goes on.
const open = ^uint64(0)

// piece is what a timeline gives to a history: segments from one up to, and without, another;
// none if it was left in the segment in which it began.
type piece struct {
	timeline uint32
	from, to uint64
}

// line is the newest timeline's history. Where history files are missing, each timeline is
// taken to begin with the first segment that is there of it: where it came from is a guess,
// and that its history is missing is a gap anyway.
func (a *Archive) line(known []Switch, size uint64) (out []piece) {
	now := piece{timeline: 1}
	next := func(tl uint32, at uint64) {
		now.to = at
		out = append(out, now)
		now = piece{timeline: tl, from: at}
	}
	if h := a.NewestHistory(); h > 0 && len(known) > 0 {
		now.timeline = known[0].Timeline
		for i, s := range known {
			then := h
			if i+1 < len(known) {
				then = known[i+1].Timeline
			}
			next(then, s.LSN/size)
		}
	}
	for _, tl := range a.timelines() {
		if tl > now.timeline {
			next(tl, max(now.from, a.stretches(tl, size)[0].from))
		}
	}
	now.to = open
	return append(out, now)
}

// timelines are those that have segments, the oldest first.
func (a *Archive) timelines() (out []uint32) {
	for f := range a.runs {
		if !slices.Contains(out, f.timeline) {
			out = append(out, f.timeline)
		}
	}
	slices.Sort(out)
	return out
}

// start is the earliest place on the line at which a backup begins.
func start(line []piece, starts []string, size uint64) (at int, from uint64, ok bool) {
	for _, name := range starts {
		tl, lsn, err := Begin(name, size)
		if err != nil {
			continue
		}
		s := lsn / size
		for i, l := range line {
			if l.timeline == tl && s >= l.from && s < l.to && (!ok || i < at || i == at && s < from) {
				at, from, ok = i, s, true
			}
		}
	}
	return at, from, ok
}

// walk goes along a history.
type walk struct {
	size  uint64
	end   uint64 // the segment after the last one that was there
	last  time.Time
	gap   *observed.Gap // that has not ended yet
	found []observed.Gap
}

func (w *walk) missing(first, last string, segments int64, at uint64) {
	if w.gap == nil {
		w.gap = &observed.Gap{First: first, LSN: FormatLSN(at * w.size), Since: w.last}
	}
	w.gap.Last = last
	w.gap.Segments += segments
}

// lacks notes segments from one up to, and without, another.
func (w *walk) lacks(tl uint32, from, to uint64) {
	if from < to {
		w.missing(w.name(tl, from), w.name(tl, to-1), int64(to-from), from)
	}
}

// lacksHistories notes those that are missing of some timelines. Their numbers are whatever
// somebody called a file, so they are not counted through.
func (w *walk) lacksHistories(has map[uint32]bool, first, last uint32) {
	from, to := uint64(first), uint64(last)
	for from <= to && has[uint32(from)] {
		from++
	}
	for to > from && has[uint32(to)] {
		to--
	}
	if from <= to {
		w.missing(HistoryName(uint32(from)), HistoryName(uint32(to)), 0, w.end)
	}
}

func (w *walk) has(s stretch) {
	if w.gap != nil {
		w.gap.Until = s.first
		w.found = append(w.found, *w.gap)
		w.gap = nil
	}
	w.last, w.end = s.last, s.to
}

func (w *walk) name(tl uint32, s uint64) string {
	perLog := 1 << 32 / w.size
	return fmt.Sprintf("%08X%08X%08X", tl, s/perLog, s%perLog)
}

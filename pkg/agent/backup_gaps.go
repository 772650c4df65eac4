package agent

import (
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Segments are sent several at once, and a former primary sends what it has left when it can: what
// is missing may be on its way. A gap is said when it stayed the same for as long as that takes.
const (
	// gapOwn is how long for WAL of the timeline that this member writes. What waits here is no
	// gap at all, so it need only outlast the moment between a look at what waits and the listing.
	gapOwn = 15 * time.Second
	// gapOthers is how long for WAL of earlier timelines, which waits on another host: that of the
	// former primary sends it every leftEvery while its agent runs, and boots within minutes.
	gapOthers = 5 * time.Minute
	// gapOld is how long ago what comes after a gap was archived, by the clock of whoever keeps
	// the archive, that a gap is one at the first look: an agent that was started anew says
	// what the one before said.
	gapOld = 2 * gapOthers
)

// The archive is listed with every look into the repository, and besides when something
// happened that makes gaps. What is missing shows with the next segment that is archived.
const (
	// gapPoll is how often it is asked whether one was, while that is waited for; gapIdle
	// otherwise, for what happened. Neither asks the repository.
	gapPoll = 10 * time.Second
	gapIdle = time.Minute
	// gapPause is the pause between two looks that wait for something newer; it doubles up to
	// gapPauseMost, as while all is dropped.
	gapPause     = 10 * time.Second
	gapPauseMost = 10 * time.Minute
	// gapAfresh bounds looks for attempts that fail again and again.
	gapAfresh = 10 * time.Minute
)

// gaps is what is known of the archive's gaps beside what is reported, and whether to look.
type gaps struct {
	timeline int64 // that this member writes; 0: none
	// seen is since when each has been there, by its ends.
	seen map[string]time.Time
	// unsettled: at the last look there were some that may be on their way.
	unsettled bool

	// failed and dropped are the last ones that were heeded.
	failed  time.Time
	dropped string
	// waits: a look is due when the archive has something newer than newest, which is known
	// since a look at looked.
	waits  bool
	since  time.Time
	looked time.Time
	newest string
	pause  time.Duration
}

func (g *gaps) forget() { *g = gaps{timeline: g.timeline} }

// heed notes what makes gaps: archiving began anew (another leader, another plan, as after it was
// switched off), an attempt failed and a later one did not, WAL was dropped.
func (g *gaps) heed(leads, anew bool, dropped string, a observed.Archiving, now time.Time) {
	rested := now.Sub(g.since) >= gapAfresh
	recovered := a.Failed.After(g.failed) && a.Failed.After(g.since) && a.Archived.After(a.Failed) && rested
	drops := dropped != "" && dropped != g.dropped && (rested || !g.waits)
	switch {
	case !leads:
		g.waits = false
	case anew, recovered, drops:
		g.waits, g.since, g.looked, g.newest, g.pause = true, now, time.Time{}, "", gapPause
		g.failed, g.dropped = a.Failed, dropped
	}
}

// due reports whether the archive is to be looked at now, for what was heeded.
func (g *gaps) due(a observed.Archiving, now time.Time) bool {
	return g.waits && (g.looked.IsZero() || a.Archived.After(g.looked) && now.Sub(g.looked) >= g.pause)
}

func (g *gaps) idle() time.Duration {
	if g.waits {
		return gapPoll
	}
	return gapIdle
}

// lookedAt notes a look that began at a time and found the archive to end at a segment.
func (g *gaps) lookedAt(last string, began time.Time) {
	switch {
	case !g.waits:
	case g.looked.IsZero():
		g.looked, g.newest = began, last
	case last > g.newest:
		g.waits = false
	default:
		g.looked, g.pause = began, min(2*g.pause, gapPauseMost)
	}
}

// settle are the gaps that stayed, of those that a look found; those that were said before are
// among them for as long as they are there. again: when to look at the others again; 0: there are
// none.
func (g *gaps) settle(found, said []observed.Gap, now time.Time) (stayed []observed.Gap, again time.Duration) {
	seen := map[string]time.Time{}
	for _, gap := range found {
		ends := gap.First + " " + gap.Last
		first, known := g.seen[ends]
		if !known {
			first = now
		}
		seen[ends] = first
		patience := gapOthers
		if own := fmt.Sprintf("%08X", g.timeline); gap.First[:8] == own && gap.Last[:8] == own {
			patience = gapOwn
		}
		left := patience - now.Sub(first)
		same := func(was observed.Gap) bool { return was.First == gap.First && was.Last == gap.Last }
		switch {
		case left <= 0, !gap.Until.IsZero() && now.Sub(gap.Until) >= gapOld, slices.ContainsFunc(said, same):
			stayed = append(stayed, gap)
		case again == 0 || left < again:
			again = left
		}
	}
	g.seen, g.unsettled = seen, again > 0
	return stayed, again
}

// judgeGaps leaves in a look's answer what is to be said of gaps, and returns when to look again;
// the caller holds the cluster's mu.
func (w *backups) judgeGaps(r *observed.Repository, back bool, began time.Time) time.Duration {
	g, log := &w.gaps, w.c.log
	var said []observed.Gap
	if w.repository != nil && w.repository.Where == r.Where {
		said = w.repository.Gaps
	}
	if r.Unlisted != nil {
		log.Warn("the archive was not listed, so what it lacks is not known", zap.String("concern", backupConcern), zap.Error(r.Unlisted))
		if r.Gaps, r.Unlisted = said, nil; w.repository != nil {
			r.MoreGaps = w.repository.MoreGaps
		}
		return repositoryRetry
	}
	if back && g.timeline > 0 && !g.waits { // it was away, and who knows what became of WAL meanwhile
		g.waits, g.since, g.looked, g.pause = true, began, time.Time{}, gapPause
	}
	g.lookedAt(r.LastWAL, began)
	stayed, again := g.settle(r.Gaps, said, began)
	for _, gap := range stayed {
		if !slices.ContainsFunc(said, func(was observed.Gap) bool { return was.First == gap.First && was.Last == gap.Last }) {
			log.Error("WAL is missing from the archive", zap.String("first", gap.First), zap.String("last", gap.Last), zap.Int64("segments", gap.Segments))
		}
	}
	r.Gaps = stayed
	if again == 0 {
		return repositoryEvery + repositoryEvery
	}
	return again
}

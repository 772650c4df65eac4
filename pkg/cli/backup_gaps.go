package cli

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
)

// showGaps prints a line for each gap in a repository's archive, the oldest first.
func (a *app) showGaps(r observed.Repository) {
	open, is := operations.OpenGap(operations.Backups{Repository: &r})
	if r.MoreGaps > 0 {
		a.say("  %s in the archive, older than those below", plural(r.MoreGaps, "gap"))
	}
	for _, g := range r.Gaps {
		word := a.out.yellow("gap")
		if is && g.First >= open.First {
			word = a.out.red("gap")
		}
		a.say("  %s: the archive lacks %s; %s", word, g, a.behind(r, g))
	}
}

// behind is what a gap costs.
func (a *app) behind(r observed.Repository, g observed.Gap) string {
	i := slices.IndexFunc(r.Backups, func(b observed.Backup) bool { return b.Past(g) })
	if i < 0 {
		return fmt.Sprintf("nothing after %s can be restored", gapSince(g))
	}
	return fmt.Sprintf("nothing between %s and %s can be restored", gapSince(g), r.Backups[i].Stopped.UTC().Format(time.RFC3339))
}

// gapSince is the last moment before a gap, as far as known.
func gapSince(g observed.Gap) string {
	if g.Since.IsZero() {
		return g.LSN
	}
	return g.Since.UTC().Format(time.RFC3339)
}

// gap is whether the archive has all WAL since the newest backup. Gaps of before can't be
// mended any more, and are told.
func (e evidence) gap(own shelf) finding {
	f := finding{What: "archive", OK: true, Message: "no WAL is missing since the oldest backup"}
	g, open := operations.OpenGap(operations.Backups{Repository: &own.Repository})
	switch {
	case len(own.Backups) == 0:
		f.Message = "there is no backup that could need its WAL"
	case open:
		f.OK, f.Next = false, fmt.Sprintf("pgctrl backup %s --type full", e.status.Cluster)
		f.Message = fmt.Sprintf("it lacks %s: nothing after %s can be restored before there is another backup", g, gapSince(g))
	case len(own.Gaps) > 0:
		g = own.Gaps[len(own.Gaps)-1]
		f.Message = fmt.Sprintf("no WAL is missing since the newest backup; before it %s is (pgctrl backup list %s)", g, e.status.Cluster)
	}
	return f
}

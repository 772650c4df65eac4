package operations

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/wal"
)

// OpenGap is a gap in the archive that recovery from the newest backup comes to: what was written
// since can't be restored. One before the newest backup is history, and stays one until the
// backups of before it are expired.
func OpenGap(b Backups) (observed.Gap, bool) {
	if b.unknown() {
		return observed.Gap{}, false
	}
	return openGap(b.Repository)
}

func openGap(r *observed.Repository) (observed.Gap, bool) {
	newest, has := r.Newest()
	if !has {
		return observed.Gap{}, false
	}
	g, _, found := r.Gap(newest)
	return g, found
}

// gapWhy begins why a backup is made that a gap is the reason for.
const gapWhy = "WAL is missing from the archive: "

// GapPause is the pause between two full backups that gaps are the reason for. Where WAL is dropped
// all the time, each backup is followed by the next gap; backups are not to go on for ever.
const GapPause = time.Hour

// gap makes a full backup due at once where the archive has a gap since the newest backup. A
// repository that can't be read takes none.
func (n *Next) gap(p Policy, b Backups, now time.Time) {
	g, open := OpenGap(b)
	if !open || b.Repository.Error != "" || n.Type == plan.BackupFull {
		return
	}
	for _, o := range slices.Backward(b.Operations) {
		if o.Kind != KindBackup || o.State != Done || !strings.HasPrefix(o.Why, gapWhy) {
			continue
		}
		if again := o.Ended.Add(GapPause); now.Before(again) {
			n.At = earlier(n.At, again)
			return
		}
	}
	n.Type, n.Why, n.Since, n.Keep = plan.BackupFull, gapWhy+g.String(), now, p.keep(b)
}

// gapWords is a gap and what it costs.
func gapWords(g observed.Gap) string {
	when := ""
	switch {
	case !g.Since.IsZero() && !g.Until.IsZero():
		when = fmt.Sprintf(" (what is beside it was archived at %s and %s)", stamp(g.Since), stamp(g.Until))
	case !g.Since.IsZero():
		when = fmt.Sprintf(" (what is before it was archived at %s)", stamp(g.Since))
	}
	cost := "nothing that was written after it can be restored from the backups that there are"
	if !g.Since.IsZero() {
		cost = fmt.Sprintf("no moment after %s can be restored from the backups that there are", stamp(g.Since))
	}
	return fmt.Sprintf("the archive lacks %s%s: %s", g, when, cost)
}

// reaches reports, with an error, a backup from which recovery comes to a gap before the target.
// Where a name or a transaction is nobody knows before WAL was read.
func reaches(r *observed.Repository, b observed.Backup, t Target) error {
	g, whole, found := r.Gap(b)
	stops := found
	switch {
	case !found:
	case !whole: // it never becomes consistent
	case t.Type == TargetTime:
		stops = t.Time.After(g.Since)
	case t.Type == TargetLSN:
		at, err := wal.ParseLSN(t.Value)
		end, err2 := wal.ParseLSN(g.LSN)
		stops = err != nil || err2 != nil || at >= end
	case t.Type != TargetLatest:
		stops = false
	}
	if !stops {
		return nil
	}
	return fmt.Errorf("%w: the archive lacks %s, and recovery from backup %s ends there; the nearest that can be restored: %s",
		ErrTarget, g, b.Label, nearest(r, b, t))
}

// reaching is the newest backup before the target from which recovery comes to it. The error is
// that of the newest of them.
func reaching(r *observed.Repository, t Target) (observed.Backup, error) {
	var best error
	for _, b := range slices.Backward(r.Backups) {
		if (t.Type == TargetTime || t.Type == TargetLSN) && !endsBefore(b, t) {
			continue
		}
		err := reaches(r, b, t)
		if err == nil {
			return b, nil
		}
		if best == nil {
			best = err
		}
	}
	return observed.Backup{}, best
}

// nearest are the targets on both sides of the gap that recovery from a backup comes to.
func nearest(r *observed.Repository, b observed.Backup, t Target) string {
	var out []string
	if g, whole, _ := r.Gap(b); whole {
		out = append(out, fmt.Sprintf("that backup as it is (--immediate --backup %s)", b.Label))
		if !g.Since.IsZero() && g.Since.After(b.Stopped) {
			out = append(out, fmt.Sprintf("a moment before %s (--time)", stamp(g.Since)))
		}
	}
	for _, next := range r.Backups {
		if _, whole, _ := r.Gap(next); whole && !next.Damaged && next.Stopped.After(b.Stopped) {
			out = append(out, fmt.Sprintf("what there was at %s, when backup %s was complete", stamp(next.Stopped), next.Label))
			break
		}
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", or ")
}

// beforeName is the backup from which a name or a transaction is looked for: the oldest, since
// where they stand in WAL nobody knows before it was read. Behind a gap they are not found from
// there, so a person has to say on which side.
func beforeName(r *observed.Repository) (observed.Backup, error) {
	whole := slices.DeleteFunc(slices.Clone(r.Backups), func(b observed.Backup) bool { _, whole, _ := r.Gap(b); return !whole })
	if len(whole) == 0 {
		return observed.Backup{}, reaches(r, r.Backups[0], Target{Type: TargetImmediate})
	}
	first := whole[0]
	g, _, found := r.Gap(first)
	for _, b := range whole[1:] {
		if found && b.Past(g) {
			return observed.Backup{}, fmt.Errorf("%w: the archive lacks %s, and whether the target is before that or after is not known; expected --backup %s or a later one for before, --backup %s or a later one for after",
				ErrTarget, g, first.Label, b.Label)
		}
	}
	return first, nil
}

package operations

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/wal"
)

// TargetType is where recovery ends, in PostgreSQL's words.
type TargetType string

// The types of targets.
const (
	TargetLatest    TargetType = "latest" // the end of the archive
	TargetTime      TargetType = "time"
	TargetName      TargetType = "name" // of pg_create_restore_point
	TargetLSN       TargetType = "lsn"
	TargetXID       TargetType = "xid"
	TargetImmediate TargetType = "immediate" // as soon as the backup is consistent
)

// Target is a moment in a cluster's past.
type Target struct {
	Type  TargetType
	Value string
	// Time is Value of a TargetTime.
	Time time.Time
	// Backup is the label of the backup to begin with; empty: the one that fits best.
	Backup string
}

// ErrTarget is a target that can't be restored.
var ErrTarget = errors.New("the target can't be restored")

// Pick is the backup that the restore of a target begins with. A damaged one is not taken
// unless the target names it. The error names the nearest target that can be restored.
func Pick(r *observed.Repository, t Target, now time.Time) (observed.Backup, error) {
	none := observed.Backup{}
	if r == nil || len(r.Backups) == 0 {
		return none, fmt.Errorf("%w: the repository has no backup", ErrTarget)
	}
	if t.Type == TargetTime && t.Time.After(now) {
		return none, fmt.Errorf("%w: %s is in the future; the newest moment is now, %s", ErrTarget, stamp(t.Time), stamp(now))
	}
	if t.Backup != "" {
		return pickLabel(r, t)
	}
	b, err := pick(sound(r), t)
	if err == nil {
		return b, nil
	}
	if damaged, refused := pick(r, t); refused == nil {
		return none, fmt.Errorf("%w: only backup %s comes to it, and pages of it failed their checksums; to restore it as it is: --backup %s", ErrTarget, damaged.Label, damaged.Label)
	}
	return none, err
}

// pick is the backup that fits a target best.
func pick(r *observed.Repository, t Target) (observed.Backup, error) {
	none := observed.Backup{}
	if len(r.Backups) == 0 {
		return none, fmt.Errorf("%w: the repository has no sound backup", ErrTarget)
	}
	first, last := r.Backups[0], r.Backups[len(r.Backups)-1]
	switch t.Type {
	case TargetLatest, TargetImmediate:
		return reaching(r, t)
	case TargetTime, TargetLSN:
		if endsBefore(first, t) || endsBefore(last, t) {
			return reaching(r, t)
		}
		if t.Type == TargetTime {
			return none, fmt.Errorf("%w: %s is before the first backup was complete; the first moment that can be restored is %s",
				ErrTarget, stamp(t.Time), stamp(first.Stopped))
		}
		return none, fmt.Errorf("%w: LSN %s is before the first backup was complete; the first that can be restored is %s", ErrTarget, t.Value, endOf(first))
	}
	return beforeName(r)
}

func pickLabel(r *observed.Repository, t Target) (observed.Backup, error) {
	var labels []string
	for _, b := range r.Backups {
		if b.Label != t.Backup {
			labels = append(labels, b.Label)
			continue
		}
		if (t.Type == TargetTime || t.Type == TargetLSN) && !endsBefore(b, t) {
			return b, fmt.Errorf("%w: backup %s was complete only at %s, after the target", ErrTarget, b.Label, stamp(b.Stopped))
		}
		return b, reaches(r, b, t)
	}
	return observed.Backup{}, fmt.Errorf("%w: the repository has no backup %s; it has %s", ErrTarget, t.Backup, strings.Join(labels, ", "))
}

// endsBefore reports whether recovery from a backup can stop at the target: not before the
// backup is consistent.
func endsBefore(b observed.Backup, t Target) bool {
	if t.Type == TargetTime {
		return !b.Stopped.After(t.Time)
	}
	at, err := wal.ParseLSN(t.Value)
	end, err2 := wal.ParseLSN(endOf(b))
	return err == nil && err2 == nil && end <= at
}

// segmentSize is that of a segment of WAL, with which initdb is run here.
const segmentSize = 16 << 20

// endOf is where a backup is consistent: its LSN, or the end of its last segment.
func endOf(b observed.Backup) string {
	if b.StopLSN != "" {
		return b.StopLSN
	}
	_, at, err := wal.Begin(b.LastWAL, segmentSize)
	if err != nil {
		return ""
	}
	return wal.FormatLSN(at + segmentSize)
}

// timeForms are how people write a moment with a zone, and localForms without one.
var (
	timeForms = []string{
		time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z07", "2006-01-02 15:04Z07:00", "2006-01-02 15:04Z07",
	}
	localForms = []string{"2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04"}
)

// ParseTime reads a moment. One without a zone is in zone, and must be there exactly once;
// letters for a zone are those of zone or UTC, because others mean several.
func ParseTime(s string, zone *time.Location) (time.Time, error) {
	s = strings.TrimSpace(s)
	for _, form := range timeForms {
		if at, err := time.Parse(form, s); err == nil {
			return at, nil
		}
	}
	text, letters := s, ""
	if i := strings.LastIndexByte(s, ' '); i >= 0 && strings.Trim(s[i+1:], "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
		text, letters = strings.TrimSpace(s[:i]), s[i+1:]
	}
	if letters == "UTC" || letters == "GMT" {
		zone = time.UTC
	}
	for _, form := range localForms {
		if shown, err := time.Parse(form, text); err == nil {
			return once(s, shown, zone, letters)
		}
	}
	return time.Time{}, fmt.Errorf(`expected a moment such as "2026-03-01 12:30:00+01" or 2026-03-01T11:30:00Z, found %q`, s)
}

// once is when the clock of a zone shows that time, by the letters that it has then if any
// are given.
func once(s string, shown time.Time, zone *time.Location, letters string) (time.Time, error) {
	var found []time.Time
	offsets := map[int]bool{}
	for _, near := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		_, offset := shown.Add(near).In(zone).Zone()
		at := shown.Add(-time.Duration(offset) * time.Second).In(zone)
		name, is := at.Zone()
		if !offsets[offset] && is == offset && (letters == "" || letters == name || zone == time.UTC) {
			found = append(found, at)
		}
		offsets[offset] = true
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return time.Time{}, fmt.Errorf("%q comes twice in %s, where clocks are put back; expected its offset too: %s or %s",
			s, zone, found[0].Format("2006-01-02 15:04:05-07:00"), found[1].Format("2006-01-02 15:04:05-07:00"))
	case letters != "":
		return time.Time{}, fmt.Errorf("expected the offset of the time zone in digits, as in +01, found %s in %q, which is not what %s has then", letters, s, zone)
	}
	return time.Time{}, fmt.Errorf("%q does not exist in %s, where clocks are put forward past it", s, zone)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

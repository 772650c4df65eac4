package operations

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func walName(tl, n int) string { return fmt.Sprintf("%08X%016X", tl, n) }

// gapOf is one of timeline 1 from a segment to another, between two hours.
func gapOf(from, to int, since, until float64) observed.Gap {
	return observed.Gap{
		First: walName(1, from), Last: walName(1, to), Segments: int64(to - from + 1), LSN: fmt.Sprintf("0/%X", from<<24), Since: at(since), Until: at(until),
	}
}

// taken is a backup that needs segments n and n+1.
func taken(label, kind string, n int, hours float64) observed.Backup {
	return observed.Backup{Label: label, Type: kind, Started: at(hours), Stopped: at(hours), FirstWAL: walName(1, n), LastWAL: walName(1, n+1)}
}

// TestAGapIsDueOnce: a gap since the newest backup calls for a full one at once, one before it
// for nothing, and gap after gap for no more than one an hour.
func TestAGapIsDueOnce(t *testing.T) {
	weekly := Policy{Schedules: map[plan.BackupType]Schedule{plan.BackupFull: every(7 * 24 * time.Hour)}}
	full := taken("A", "full", 2, -1)
	forGap := func(s State, ago float64) Stored {
		o := ended(s, plan.BackupFull, ago)
		o.Why = gapWhy + "x"
		return o
	}
	for name, tc := range map[string]struct {
		gaps    []observed.Gap
		backups []observed.Backup
		ops     []Stored
		error   string
		want    plan.BackupType
		said    bool
		next    float64
	}{
		"none":                               {backups: []observed.Backup{full}},
		"since the newest":                   {gaps: []observed.Gap{gapOf(5, 6, 0, 0.1)}, backups: []observed.Backup{full}, want: plan.BackupFull, said: true},
		"in what the newest needs":           {gaps: []observed.Gap{gapOf(3, 3, 0, 0.1)}, backups: []observed.Backup{full}, want: plan.BackupFull, said: true},
		"before the newest":                  {gaps: []observed.Gap{gapOf(5, 6, 0, 0.1)}, backups: []observed.Backup{full, taken("B", "full", 8, 0.2)}},
		"an incremental one begins anew too": {gaps: []observed.Gap{gapOf(5, 6, 0, 0.1)}, backups: []observed.Backup{full, taken("B", "incr", 8, 0.2)}},
		"an older one and a new one":         {gaps: []observed.Gap{gapOf(5, 6, 0, 0.1), gapOf(12, 12, 0.3, 0.4)}, backups: []observed.Backup{full, taken("B", "full", 8, 0.2)}, want: plan.BackupFull, said: true},
		"no backup":                          {gaps: nil, want: plan.BackupFull},
		"the repository is away":             {gaps: []observed.Gap{gapOf(5, 6, 0, 0.1)}, backups: []observed.Backup{full}, error: "no route", said: true},
		"gap after gap":                      {gaps: []observed.Gap{gapOf(5, 6, 0, 0.1)}, backups: []observed.Backup{full}, ops: []Stored{forGap(Done, 0.25)}, said: true, next: 1.25},
		"an hour after the last":             {gaps: []observed.Gap{gapOf(5, 6, 0, 0.1)}, backups: []observed.Backup{full}, ops: []Stored{forGap(Done, -0.75)}, want: plan.BackupFull, said: true},
		"one that somebody asked for":        {gaps: []observed.Gap{gapOf(5, 6, 0, 0.1)}, backups: []observed.Backup{full}, ops: []Stored{ended(Done, plan.BackupFull, 0.25)}, want: plan.BackupFull, said: true},
		"one that failed is not it":          {gaps: []observed.Gap{gapOf(5, 6, 0, 0.1)}, backups: []observed.Backup{full}, ops: []Stored{forGap(Failed, 0.25)}, want: plan.BackupFull, said: true},
		"one goes on":                        {gaps: []observed.Gap{gapOf(5, 6, 0, 0.1)}, backups: []observed.Backup{full}, ops: []Stored{forGap(Running, 0.45)}, said: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := Backups{Leader: "c-1", Timeline: 1, Operations: tc.ops, Repository: &observed.Repository{Backups: tc.backups, Gaps: tc.gaps, Error: tc.error}}
			n := Due(weekly, b, at(0.5))
			if n.Type != tc.want || tc.next != 0 && !n.At.Equal(at(tc.next)) {
				t.Errorf("%q backup is due, and the next at %s: %s", n.Type, n.At, n.Why)
			}
			said := ""
			for _, c := range Conditions(weekly, b, "c", at(0.5)) {
				if c.Reason == observed.WALGap {
					said = c.Message
				}
			}
			if (said != "") != tc.said || tc.said && !strings.Contains(said, tc.gaps[len(tc.gaps)-1].First) {
				t.Errorf("said is %q", said)
			}
		})
	}
	b := Backups{Repository: &observed.Repository{Backups: []observed.Backup{full}, Gaps: []observed.Gap{gapOf(5, 6, 0, 0.1)}}}
	const want = "the archive lacks 000000010000000000000005 to 000000010000000000000006 (2 segments) (what is beside it was archived at 2026-03-01 12:00:00 UTC and 2026-03-01 12:06:00 UTC): " +
		"no moment after 2026-03-01 12:00:00 UTC can be restored from the backups that there are; a full backup, which begins anew, is due at once"
	if got := Conditions(weekly, b, "c", at(0.5))[0].Message; got != want {
		t.Errorf("said is %q", got)
	}
}

// TestPickOverAGap: what is behind a gap is restored from a backup of after it, or refused with
// what is nearest.
func TestPickOverAGap(t *testing.T) {
	a, b, c := taken("A", "full", 2, 1), taken("B", "incr", 5, 2), taken("C", "full", 12, 5)
	open := &observed.Repository{Backups: []observed.Backup{a, b}, Gaps: []observed.Gap{gapOf(8, 9, 3, 4)}}
	closed := &observed.Repository{Backups: []observed.Backup{a, b, c}, Gaps: open.Gaps}
	within := &observed.Repository{Backups: []observed.Backup{a, b, c}, Gaps: []observed.Gap{gapOf(6, 6, 3, 4)}}
	when := func(hours float64) Target { return Target{Type: TargetTime, Time: at(hours)} }
	lsn := func(s string) Target { return Target{Type: TargetLSN, Value: s} }
	latest, now, name := Target{Type: TargetLatest}, Target{Type: TargetImmediate}, Target{Type: TargetName, Value: "x"}
	from := func(t Target, label string) Target { t.Backup = label; return t }
	const asItIs = "the nearest that can be restored: that backup as it is (--immediate --backup B), or a moment before 2026-03-01 15:00:00 UTC (--time)"
	for what, tc := range map[string]struct {
		r     *observed.Repository
		t     Target
		want  string
		error string
	}{
		"latest, of before":          {open, latest, "", asItIs},
		"latest, of after":           {closed, latest, "C", ""},
		"a backup as it is":          {open, now, "B", ""},
		"a moment before it":         {open, when(2.5), "B", ""},
		"the moment when it began":   {open, when(3), "B", ""},
		"a moment in it":             {open, when(3.5), "", asItIs},
		"in it, with one after":      {closed, when(3.5), "", asItIs + ", or what there was at 2026-03-01 17:00:00 UTC, when backup C was complete"},
		"after it, before the next":  {closed, when(4.5), "", "when backup C was complete"},
		"after the next":             {closed, when(5.5), "C", ""},
		"a position before it":       {open, lsn("0/7FFFFFF"), "B", ""},
		"a position in it":           {open, lsn("0/8000000"), "", "the archive lacks 000000010000000000000008 to 000000010000000000000009 (2 segments)"},
		"a position after the next":  {closed, lsn("0/E000000"), "C", ""},
		"a name, of before":          {open, name, "A", ""},
		"a name, on either side":     {closed, name, "", "expected --backup A or a later one for before, --backup C or a later one for after"},
		"a name, and a backup":       {closed, from(name, "B"), "B", ""},
		"latest, from one of before": {closed, from(latest, "B"), "", asItIs},
		"latest, from one of after":  {closed, from(latest, "C"), "C", ""},
		"a moment, from one before":  {closed, from(when(5.5), "A"), "", "recovery from backup A ends there"},
		"what is never consistent":   {within, from(now, "B"), "", "the nearest that can be restored: what there was at 2026-03-01 17:00:00 UTC, when backup C"},
		"a moment, from what is not": {within, when(2.5), "A", ""},
		"before the first":           {open, when(0.5), "", "the first moment that can be restored is"},
	} {
		got, err := Pick(tc.r, tc.t, at(6))
		if tc.error == "" && (err != nil || got.Label != tc.want) || tc.error != "" && (!errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), tc.error)) {
			t.Errorf("%s: %s, %v; want %s%s", what, got.Label, err, tc.want, tc.error)
		}
	}
}

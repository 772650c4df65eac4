package operations

import (
	"errors"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// broken is a backup in which pages failed their checksums.
func broken(b observed.Backup) observed.Backup {
	b.Damaged = true
	return b
}

// TestADamagedBackupIsSaid until a sound one is newer.
func TestADamagedBackupIsSaid(t *testing.T) {
	a, b := taken("A", "full", 2, 1), taken("B", "incr", 5, 2)
	for name, tc := range map[string]struct {
		r    *observed.Repository
		said bool
	}{
		"nobody looked":            {nil, false},
		"it was never read":        {&observed.Repository{Error: "no route"}, false},
		"no backup":                {&observed.Repository{}, false},
		"all are sound":            {&observed.Repository{Backups: []observed.Backup{a, b}}, false},
		"the newest is damaged":    {&observed.Repository{Backups: []observed.Backup{a, broken(b)}}, true},
		"a sound one is newer":     {&observed.Repository{Backups: []observed.Backup{broken(a), b}}, false},
		"it can't be read by now":  {&observed.Repository{Backups: []observed.Backup{a, broken(b)}, Error: "no route"}, true},
		"the only one, and a full": {&observed.Repository{Backups: []observed.Backup{broken(a)}}, true},
	} {
		all := Backups{Leader: "c-1", Timeline: 1, Repository: tc.r}
		if newest, is := Damaged(all); is != tc.said || is && newest.Label != tc.r.Backups[len(tc.r.Backups)-1].Label {
			t.Errorf("%s: damaged is %s, %t", name, newest.Label, is)
		}
		if cs := Conditions(Policy{}, all, "c", at(3)); (len(cs) > 0) != tc.said || tc.said && cs[0].Reason != observed.BackupDamaged {
			t.Errorf("%s: said %v", name, cs)
		}
	}
	b.From = "c-2"
	c := Conditions(Policy{}, Backups{Repository: &observed.Repository{Backups: []observed.Backup{broken(b)}}}, "c", at(3))[0]
	const want = "pages of c-2 failed their checksums when backup B was made, which has them as they are; older backups are kept until a sound one is made"
	if c.Status != observed.False || c.Type != observed.Healthy || c.Message != want || c.Next != "pgctrl backup check c" {
		t.Errorf("said %+v", c)
	}
}

// TestPickOverDamage: a damaged backup is taken when it is named, and by nothing else.
func TestPickOverDamage(t *testing.T) {
	a, b, c := taken("A", "full", 2, 1), taken("B", "incr", 5, 2), taken("C", "full", 12, 5)
	newest := &observed.Repository{Backups: []observed.Backup{a, b, broken(c)}}
	oldest := &observed.Repository{Backups: []observed.Backup{broken(a), b, c}}
	gap := &observed.Repository{Backups: []observed.Backup{a, b, broken(c)}, Gaps: []observed.Gap{gapOf(8, 9, 3, 4)}}
	all := &observed.Repository{Backups: []observed.Backup{broken(a), broken(b)}}
	when := func(hours float64) Target { return Target{Type: TargetTime, Time: at(hours)} }
	latest, now, name := Target{Type: TargetLatest}, Target{Type: TargetImmediate}, Target{Type: TargetName, Value: "x"}
	from := func(t Target, label string) Target { t.Backup = label; return t }
	insist := func(label string) string {
		return "only backup " + label + " comes to it, and pages of it failed their checksums; to restore it as it is: --backup " + label
	}
	for what, tc := range map[string]struct {
		r     *observed.Repository
		t     Target
		want  string
		error string
	}{
		"latest":                           {newest, latest, "B", ""},
		"a backup as it is":                {newest, now, "B", ""},
		"a moment after it":                {newest, when(5.5), "B", ""},
		"a position after it":              {newest, Target{Type: TargetLSN, Value: "0/E000000"}, "B", ""},
		"a name":                           {oldest, name, "B", ""},
		"it is named":                      {newest, from(latest, "C"), "C", ""},
		"a moment, and it is named":        {newest, from(when(5.5), "C"), "C", ""},
		"a moment that only it comes to":   {oldest, when(1.5), "", insist("A")},
		"a position that only it comes to": {oldest, Target{Type: TargetLSN, Value: "0/4000000"}, "", insist("A")},
		"a moment before all":              {oldest, when(0.5), "", "the first moment that can be restored is 2026-03-01 14:00:00 UTC"},
		"a gap before it":                  {gap, latest, "", insist("C")},
		"a moment in that gap":             {gap, when(3.5), "", "recovery from backup B ends there"},
		"a gap, and it is named":           {gap, from(latest, "C"), "C", ""},
		"none is sound":                    {all, latest, "", insist("B")},
		"none is sound, for a name":        {all, name, "", insist("A")},
		"none is sound, and before all":    {all, when(0.5), "", "the repository has no sound backup"},
		"none is sound, and it is named":   {all, from(name, "A"), "A", ""},
	} {
		got, err := Pick(tc.r, tc.t, at(6))
		if tc.error == "" && (err != nil || got.Label != tc.want) || tc.error != "" && (!errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), tc.error)) {
			t.Errorf("%s: %s, %v; want %s%s", what, got.Label, err, tc.want, tc.error)
		}
	}
	if _, err := Pick(gap, when(3.5), at(6)); strings.Contains(err.Error(), "when backup C was complete") {
		t.Errorf("a damaged backup is said to be nearest: %v", err)
	}
}

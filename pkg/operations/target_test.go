package operations

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

func TestPick(t *testing.T) {
	r := &observed.Repository{Backups: []observed.Backup{
		{Label: "A", Type: "full", Stopped: at(1), LastWAL: "000000010000000000000003"},
		{Label: "B", Type: "incr", Stopped: at(2), LastWAL: "000000010000000000000006", StopLSN: "0/6000100"},
		{Label: "C", Type: "full", Stopped: at(3), LastWAL: "000000020000000100000000"},
	}}
	when := func(hours float64) Target { return Target{Type: TargetTime, Time: at(hours)} }
	for name, tc := range map[string]struct {
		t     Target
		want  string
		error string
	}{
		"latest":                        {Target{Type: TargetLatest}, "C", ""},
		"immediate":                     {Target{Type: TargetImmediate}, "C", ""},
		"a moment":                      {when(2.5), "B", ""},
		"the moment it was complete":    {when(2), "B", ""},
		"before the first":              {when(0.9), "", "the first moment that can be restored is 2026-03-01 13:00:00 UTC"},
		"the future":                    {when(5), "", "is in the future"},
		"a name may be anywhere":        {Target{Type: TargetName, Value: "x"}, "A", ""},
		"a transaction may be anywhere": {Target{Type: TargetXID, Value: "7"}, "A", ""},
		"a position":                    {Target{Type: TargetLSN, Value: "0/6000100"}, "B", ""},
		"just before it":                {Target{Type: TargetLSN, Value: "0/60000FF"}, "A", ""},
		"the end of a segment":          {Target{Type: TargetLSN, Value: "1/1000000"}, "C", ""},
		"a position before the first":   {Target{Type: TargetLSN, Value: "0/3FFFFFF"}, "", "the first that can be restored is 0/4000000"},
		"a label":                       {Target{Type: TargetLatest, Backup: "B"}, "B", ""},
		"a label that is not there":     {Target{Type: TargetLatest, Backup: "D"}, "", "has no backup D; it has A, B, C"},
		"a label after the moment":      {Target{Type: TargetTime, Time: at(1.5), Backup: "B"}, "", "was complete only at"},
	} {
		b, err := Pick(r, tc.t, at(4))
		switch {
		case tc.error == "" && (err != nil || b.Label != tc.want):
			t.Errorf("%s: %s, %v; want %s", name, b.Label, err, tc.want)
		case tc.error != "" && (!errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), tc.error)):
			t.Errorf("%s: %v; want %s", name, err, tc.error)
		}
	}
	if _, err := Pick(&observed.Repository{}, when(1), at(4)); !errors.Is(err, ErrTarget) {
		t.Errorf("an empty repository: %v", err)
	}
}

func TestParseTime(t *testing.T) {
	zone := time.FixedZone("here", 3600)
	for text, want := range map[string]string{
		"2026-03-01 12:30:00+01":       "2026-03-01T11:30:00Z",
		"2026-03-01T11:30:00Z":         "2026-03-01T11:30:00Z",
		"2026-03-01 12:30:00":          "2026-03-01T11:30:00Z",
		"2026-03-01 12:30":             "2026-03-01T11:30:00Z",
		"2026-03-01 11:30:00.25+00:00": "2026-03-01T11:30:00.25Z",
	} {
		got, err := ParseTime(text, zone)
		if err != nil || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%s: %s, %v; want %s", text, got.UTC().Format(time.RFC3339Nano), err, want)
		}
	}
	for _, text := range []string{"", "yesterday", "12:30", "2026-13-01 00:00:00"} {
		if at, err := ParseTime(text, zone); err == nil {
			t.Errorf("%q was taken for %s", text, at)
		}
	}
}

package operations

import (
	"testing"
	"time"
	_ "time/tzdata" // whatever this machine has
)

// TestParseTimeIsNeverGuessed: a moment that is not the one that was meant restores the wrong
// data without a word.
func TestParseTimeIsNeverGuessed(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"2026-11-26 12:30:00 EST",  // not this host's: Go takes it for UTC
		"2026-10-25 02:30:00",      // comes twice
		"2026-03-29 02:30:00",      // never comes
		"2026-03-29 02:30:00 CEST", // does not come either
	} {
		if at, err := ParseTime(text, berlin); err == nil {
			t.Errorf("%s is taken for %s", text, at)
		}
	}
	for text, want := range map[string]string{
		"2026-11-26 12:30:00 CET":  "2026-11-26T11:30:00Z",
		"2026-10-25 02:30:00 CEST": "2026-10-25T00:30:00Z",
		"2026-10-25 02:30:00 CET":  "2026-10-25T01:30:00Z",
		"2026-10-25 02:30:00+02":   "2026-10-25T00:30:00Z",
		"2026-10-25 03:00:00":      "2026-10-25T02:00:00Z",
		"2026-10-25 01:59:59":      "2026-10-24T23:59:59Z",
		"2026-11-26 11:30:00 UTC":  "2026-11-26T11:30:00Z",
	} {
		at, err := ParseTime(text, berlin)
		if err != nil || at.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s: %s, %v; want %s", text, at.UTC().Format(time.RFC3339), err, want)
		}
	}
}

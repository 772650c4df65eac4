package schedule

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the test must not depend on what the host has

	"pgregory.net/rapid"
)

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

// TestDue: which time was due last, and which is next, as people in the zone read them.
func TestDue(t *testing.T) {
	const berlin = "Europe/Berlin"
	for _, c := range []struct{ name, expr, zone, now, before, after string }{
		{"a night", "0 1 * * *", UTC, "2026-11-26T18:00:00Z", "2026-11-26T01:00:00Z", "2026-11-27T01:00:00Z"},
		{"this moment", "0 1 * * *", UTC, "2026-11-26T01:00:00Z", "2026-11-26T01:00:00Z", "2026-11-27T01:00:00Z"},
		{"a second before", "0 1 * * *", UTC, "2026-11-26T00:59:59Z", "2026-11-25T01:00:00Z", "2026-11-26T01:00:00Z"},
		{"a word", "@daily", berlin, "2026-11-26T18:00:00Z", "2026-11-25T23:00:00Z", "2026-11-26T23:00:00Z"},
		{"Sundays", "0 1 * * 0", UTC, "2026-11-26T18:00:00Z", "2026-11-22T01:00:00Z", "2026-11-29T01:00:00Z"},
		{"other days", "0 1 * * 1-6", UTC, "2026-11-29T18:00:00Z", "2026-11-28T01:00:00Z", "2026-11-30T01:00:00Z"},
		{"leap days", "0 0 29 2 *", UTC, "2026-11-26T18:00:00Z", "2024-02-29T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"every minute", "* * * * *", UTC, "2026-11-26T18:00:30Z", "2026-11-26T18:00:00Z", "2026-11-26T18:01:00Z"},

		// On 2026-03-29 Berlin's clocks go from 02:00 to 03:00, at 01:00 UTC.
		{"before the hour that is missing", "30 2 * * *", berlin, "2026-03-29T00:59:59Z", "2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z"},
		{"in its place", "30 2 * * *", berlin, "2026-03-29T01:00:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"},
		{"all of it at once", "*/20 * * * *", berlin, "2026-03-29T00:45:00Z", "2026-03-29T00:40:00Z", "2026-03-29T01:00:00Z"},
		{"and on from there", "*/20 * * * *", berlin, "2026-03-29T01:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:20:00Z"},

		// On 2026-10-25 they go from 03:00 to 02:00, at 01:00 UTC.
		{"the first of two", "30 2 * * *", berlin, "2026-10-25T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		{"and not the second", "30 2 * * *", berlin, "2026-10-25T01:45:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		{"before the first", "30 2 * * *", berlin, "2026-10-24T22:00:00Z", "2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z"},
		{"hours in the repeated one", "0 * * * *", berlin, "2026-10-25T01:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"},

		// Midnight of 2018-11-04 was missing in São Paulo.
		{"no midnight", "0 0 * * *", "America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"},
	} {
		s, err := Parse(c.expr, c.zone)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := s.Before(at(c.now)); !ok || !got.Equal(at(c.before)) {
			t.Errorf("%s: due before %s at %s (%v), want %s", c.name, c.now, got, ok, c.before)
		}
		if got := s.After(at(c.now)); !got.Equal(at(c.after)) {
			t.Errorf("%s: due after %s at %s, want %s", c.name, c.now, got, c.after)
		}
	}
}

// TestNeverWithinReach: 2100 has no leap day, so before 2104 none was within five years.
func TestNeverWithinReach(t *testing.T) {
	s, err := Parse("0 0 29 2 *", UTC)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := s.Before(at("2103-01-01T00:00:00Z")); ok {
		t.Errorf("due at %s", got)
	}
	if got := s.After(at("2103-01-01T00:00:00Z")); !got.Equal(at("2104-02-29T00:00:00Z")) {
		t.Errorf("next at %s", got)
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ expr, zone, want string }{
		{"", UTC, "found nothing"},
		{"0 1 * *", UTC, "expected five fields"},
		{"0 0 1 * * *", UTC, "expected five fields"},
		{"0 25 * * *", UTC, "above maximum (23)"},
		{"0 1 * * 7", UTC, "above maximum (6)"},
		{"@every 1h", UTC, "counts from whenever"},
		{"@nightly", UTC, "@daily"},
		{"TZ=", UTC, "place of its own"},
		{"CRON_TZ=Europe/Berlin 0 1 * * *", UTC, "place of its own"},
		{"0 0 30 2 *", UTC, "never comes"},
		{"0 1 * * *", "Berlin", "IANA name"},
		{"0 1 * * *", "", "IANA name"},
		{"0 1 * * *", "Local", "IANA name"},
		{"0 1 * * *", "../zoneinfo/UTC", "IANA name"},
	} {
		if _, err := Parse(c.expr, c.zone); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q in %q: %v, want %q", c.expr, c.zone, err, c.want)
		}
	}
}

// TestOneAfterAnother: After leads from each due time to the next, Before finds each of
// them again from any moment until the next, and nothing is due twice.
func TestOneAfterAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		expr := rapid.SampledFrom([]string{"30 2 * * *", "*/7 * * * *", "15 1-3 * * *", "0 0 * * 0", "59 23 31 * *", "0 12 1 1 *", "@hourly"}).Draw(t, "expr")
		zone := rapid.SampledFrom([]string{UTC, "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"}).Draw(t, "zone")
		s, err := Parse(expr, zone)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Unix(rapid.Int64Range(1262304000, 1798761600).Draw(t, "now"), 0) // 2010 to 2026
		last := s.After(now)
		if before, ok := s.Before(now); ok && before.After(now) || !last.After(now) {
			t.Fatalf("before %s it was due at %s, after it is at %s", now, before, last)
		}
		for range 5 {
			next := s.After(last)
			if !next.After(last) {
				t.Fatalf("after %s it is due at %s", last, next)
			}
			between := last.Add(time.Duration(rapid.Int64Range(0, int64(next.Sub(last))-1).Draw(t, "between")))
			if got, ok := s.Before(between); !ok || !got.Equal(last) {
				t.Fatalf("before %s it was due at %s (%v), want %s", between, got, ok, last)
			}
			last = next
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"0 1 * * *", "@daily", "TZ=", "*/0 * * * *", "1-5/2,7 ? jan-mar * sun"} {
		f.Add(s)
	}
	now := at("2026-11-26T18:00:00Z")
	f.Fuzz(func(t *testing.T, expr string) {
		s, err := Parse(expr, "Europe/Berlin")
		if err != nil {
			return
		}
		if before, ok := s.Before(now); ok && before.After(now) {
			t.Errorf("%q was due at %s", expr, before)
		}
	})
}

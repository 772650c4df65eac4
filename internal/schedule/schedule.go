// Package schedule reads cron expressions with a time zone and says when they are due.
//
// A day has a time of it once, also where clocks are put forward or back. What falls into
// the hour that does not exist is due the moment that hour would have begun, and what
// falls into the hour that comes twice is due in the first of the two. So a nightly backup
// is taken every night and never twice in one; what is due several times in an hour is due
// once for all that the missing one held, and not again in the repeated one.
package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/pgctrl/pgctrl/internal/memo"
)

// UTC is the zone of whoever names none.
const UTC = "UTC"

// Schedule is when something is due.
type Schedule struct {
	expr string
	spec cron.Schedule
	zone *time.Location
}

// words are the expressions that are one word, as the library has them.
const words = "@yearly, @monthly, @weekly, @daily, @hourly"

// Parse reads five fields (minute, hour, day of the month, month, day of the week) or one
// of the words, in the time zone of that IANA name.
func Parse(expr, zone string) (Schedule, error) {
	at, err := Zone(zone)
	if err != nil {
		return Schedule{}, err
	}
	expr = strings.Join(strings.Fields(expr), " ")
	const want = `expected five fields (minute, hour, day, month, day of the week) such as "0 1 * * *", or one of ` + words
	switch {
	case expr == "":
		return Schedule{}, errors.New(want + ", found nothing")
	case strings.HasPrefix(expr, "@every"):
		return Schedule{}, fmt.Errorf("%s, found %q, which counts from whenever a server starts", want, expr)
	case strings.Contains(expr, "="):
		return Schedule{}, fmt.Errorf("%s, found %q; the time zone has a place of its own", want, expr)
	}
	spec, err := cron.ParseStandard(expr)
	if err != nil {
		return Schedule{}, fmt.Errorf("%s, found %q (%w)", want, expr, err)
	}
	// A fixed time, so that the answer is the same every year; the next 29 February is in
	// three years.
	if spec.Next(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return Schedule{}, fmt.Errorf("expected a date that there is, found %q, which never comes", expr)
	}
	return Schedule{expr: expr, spec: spec, zone: at}, nil
}

// zones are those that were asked for last: each is a file that the library reads again.
var zones = memo.New[string, zone](64)

type zone struct {
	*time.Location
	err error
}

// Zone finds a time zone by its IANA name.
func Zone(name string) (*time.Location, error) {
	z := zones.Get(name, func() zone {
		at, err := time.LoadLocation(name)
		if err != nil || name == "" || name == "Local" { // Local is whatever the host has
			return zone{err: fmt.Errorf("expected a time zone by its IANA name such as Europe/Berlin, or UTC, found %q", name)}
		}
		return zone{Location: at}
	})
	return z.Location, z.err
}

// reach is how far back Before looks; the library looks as far ahead.
const reach = 5

// Before is the newest time at or before now at which it was due; false: it was not
// within five years.
func (s Schedule) Before(now time.Time) (time.Time, bool) {
	w, ok := s.newest(now)
	return s.instant(w), ok
}

// After is the first time after now at which it is due; the zero time: not within five
// years.
func (s Schedule) After(now time.Time) time.Time {
	w, ok := s.newest(now)
	if !ok {
		w = s.wall(now).AddDate(0, 0, -1) // a zone's clock is put forward or back by less
	}
	for {
		w = s.spec.Next(w)
		if at := s.instant(w); w.IsZero() || at.After(now) {
			return at
		}
	}
}

// String is the expression and its zone.
func (s Schedule) String() string { return s.expr + " " + s.zone.String() }

// newest is the newest due time on the zone's clock whose instant is not after now. What
// is due later on the clock is never due earlier, so it is found by halving.
func (s Schedule) newest(now time.Time) (time.Time, bool) {
	due := func(from time.Time) (time.Time, bool) {
		w := s.spec.Next(from)
		return w, !w.IsZero() && !s.instant(w).After(now)
	}
	// With the margin nothing that is due by now is later than high.
	low, high := s.wall(now).AddDate(-reach, 0, 0), s.wall(now).AddDate(0, 0, 1)
	found, ok := due(low)
	if !ok {
		return time.Time{}, false
	}
	for low = found; high.Sub(low) > time.Minute; {
		mid := low.Add(high.Sub(low) / 2)
		if w, is := due(mid); is {
			low = w
		} else {
			high = mid
		}
	}
	return low, true
}

// wall is what the zone's clock shows, as if it were UTC's: on such a clock no hour is
// missing and none comes twice.
func (s Schedule) wall(t time.Time) time.Time {
	t = t.In(s.zone)
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// instant is when the zone's clock first shows w, or would have shown it.
func (s Schedule) instant(w time.Time) time.Time {
	if w.IsZero() {
		return w
	}
	t := time.Date(w.Year(), w.Month(), w.Day(), w.Hour(), w.Minute(), w.Second(), w.Nanosecond(), s.zone)
	start, end := t.ZoneBounds()
	switch shown := s.wall(t); {
	case shown.After(w): // the clock was put forward past it
		return start.UTC()
	case shown.Before(w):
		return end.UTC()
	case start.IsZero():
		return t.UTC()
	}
	_, now := t.Zone()
	_, before := start.Add(-time.Second).Zone()
	if first := t.Add(time.Duration(now-before) * time.Second); first.Before(start) && s.wall(first).Equal(w) {
		return first.UTC()
	}
	return t.UTC()
}

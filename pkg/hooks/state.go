package hooks

import (
	"encoding/json"
	"time"

	"github.com/pgctrl/pgctrl/pkg/events"
)

// Cursor is the last event that was handled.
type Cursor struct {
	// Revision is the mod revision of its key.
	Revision int64 `json:"revision"`
	// Event is its ID with the cluster; empty: none of that revision.
	Event string `json:"event,omitempty"`
}

// Reasons of a hook that does not do what its document says.
const (
	Failing = "Failing" // its receiver does not take events
	Loop    = "Loop"    // hooks cause events for one another
)

// State is how far a hook is: /pgctrl/deliveries/<cluster>/<hook>/state. It is written when
// something was delivered or failed, and never while nothing happens.
type State struct {
	Schema  int    `json:"schema"`
	Hook    string `json:"hook"`
	Cluster string `json:"cluster"`
	// Created is the create revision of the document: another one of that name begins anew.
	Created int64  `json:"created"`
	Cursor  Cursor `json:"cursor"`
	// Delivered, Dead and Dropped count: delivered, given up, and dead letters that made room.
	Delivered   int64      `json:"delivered"`
	DeliveredAt *time.Time `json:"delivered_at,omitempty"`
	Dead        int64      `json:"dead,omitempty"`
	Dropped     int64      `json:"dropped,omitempty"`
	// FailingSince is when the first attempt failed that none succeeded after; the rest is of
	// the event that is being tried.
	FailingSince *time.Time `json:"failing_since,omitempty"`
	Event        string     `json:"event,omitempty"`
	Attempt      int        `json:"attempt,omitempty"`
	NextTry      *time.Time `json:"next_try,omitempty"`
	Error        string     `json:"error,omitempty"`
	// Reason is Failing, Loop or empty.
	Reason string `json:"reason,omitempty"`
	// Missed is the last time that the hook was too late for events.
	Missed *Missed `json:"missed,omitempty"`
	// LastTest is the answer to pgctrl hook test.
	LastTest *Test `json:"last_test,omitempty"`
}

// Missed says that events were gone before the hook had them: between After, the last one that was
// handled, and Through, up to which they are gone. Which of them it wanted nobody knows.
type Missed struct {
	At      time.Time `json:"at"`
	After   Cursor    `json:"after"`
	Through int64     `json:"through"`
}

// Test is how a test went.
type Test struct {
	ID     string    `json:"id"`
	At     time.Time `json:"at"`
	TookMS int64     `json:"took_ms"`
	// Error is empty when the receiver took it.
	Error string `json:"error,omitempty"`
}

// Letter is an event that was given up: /pgctrl/deliveries/<cluster>/<hook>/dead/<event>.
type Letter struct {
	Schema  int             `json:"schema"`
	Hook    string          `json:"hook"`
	Cluster string          `json:"cluster"`
	Event   json.RawMessage `json:"event"`
	// Attempts were made; Error is how the last one ended.
	Attempts int       `json:"attempts"`
	Error    string    `json:"error"`
	Since    time.Time `json:"since"`
	At       time.Time `json:"at"`
}

// Again asks for an event to be delivered once more, or for a test:
// /pgctrl/deliveries/<cluster>/<hook>/again/<event>. Exactly one attempt is made: who asks
// looks at the answer.
type Again struct {
	Schema int             `json:"schema"`
	Event  json.RawMessage `json:"event"`
	// Attempts were made before.
	Attempts int       `json:"attempts,omitempty"`
	Since    time.Time `json:"since"`
	By       string    `json:"by,omitempty"`
	// Test: the answer goes into State.LastTest, and no dead letter is kept.
	Test bool `json:"test,omitempty"`
}

// Fresh is the state of a hook that has just been created: it gets what happens from now on.
func Fresh(cluster, hook string, created int64) State {
	return State{Schema: Schema, Hook: hook, Cluster: cluster, Created: created, Cursor: Cursor{Revision: created}}
}

// Took is the state after the event was delivered.
func (s State) Took(now time.Time, at Cursor) State {
	s = s.passed(at)
	s.Delivered, s.DeliveredAt = s.Delivered+1, &now
	s.FailingSince, s.Error, s.Reason = nil, "", ""
	return s
}

// Passed is the state after an event that the hook does not want.
func (s State) Passed(at Cursor, looping bool) State {
	s = s.passed(at)
	if looping {
		s.Reason = Loop
	}
	return s
}

func (s State) passed(at Cursor) State {
	s.Cursor = at
	s.Event, s.Attempt, s.NextTry = "", 0, nil
	return s
}

// Lost is the state when all events up to a revision may be gone. While a hook does not get
// further than those it is one loss that grows.
func (s State) Lost(now time.Time, through int64) State {
	at := s.Cursor
	switch m := s.Missed; {
	case through < at.Revision || through == at.Revision && at.Event != "":
	case m == nil || at.Revision > m.Through:
		s.Missed = &Missed{At: now, After: at, Through: through}
	case through > m.Through:
		s.Missed = &Missed{At: m.At, After: m.After, Through: through}
	}
	return s
}

// Failed is the state after an attempt that failed, and whether the event is given up: when it
// was tried for as long as it may, counted from when it happened or, for what waited, from when
// the receiver failed. After a long outage nothing is waited for twice, so what waited is over
// as soon as it was tried once.
func (s State) Failed(now time.Time, e events.Event, cause string, wait, retryFor time.Duration) (next State, dead bool) {
	if s.FailingSince == nil || s.FailingSince.After(now) { // by the clock of another server
		s.FailingSince = &now
	}
	s.Event, s.Attempt, s.Error = ID(e), s.Attempt+1, cause
	if s.Reason == "" {
		s.Reason = Failing
	}
	since := *s.FailingSince
	if e.Seen.After(since) && e.Seen.Before(now) {
		since = e.Seen
	}
	end := since.Add(retryFor)
	if !now.Before(end) {
		return s, true
	}
	at := now.Add(wait)
	if at.After(end) {
		at = end // the last one, when the time is over
	}
	s.NextTry = &at
	return s, false
}

// GaveUp is the state after the event became a dead letter, for which others made room.
func (s State) GaveUp(at Cursor, dropped int) State {
	s = s.passed(at)
	s.Dead, s.Dropped = s.Dead+1, s.Dropped+int64(dropped)
	return s
}

// Worth reports whether a failed attempt is worth a write: the first one, every other cause, and
// ever fewer of the rest. A receiver that is down for a day is not a write a minute.
func (s State) Worth(before State) bool {
	return before.FailingSince == nil || before.Error != s.Error || s.Attempt&(s.Attempt-1) == 0
}

// Numbers of trying again.
const (
	firstWait = time.Second
	mostWait  = time.Minute
	// MostRetryAfter is the longest that a receiver may ask for.
	MostRetryAfter = time.Minute
	// MaxDead is how many dead letters are kept for a hook.
	MaxDead = 200
)

// Wait is how long to wait after the nth attempt: a second, doubled each time up to a minute,
// less a part of up to a half by jitter (0 to 1), so that hooks of one receiver do not come back
// in step.
func Wait(attempt int, jitter float64) time.Duration {
	d := mostWait
	if attempt < 7 {
		d = min(mostWait, firstWait<<max(0, attempt-1))
	}
	return d - time.Duration(jitter*float64(d)/2)
}

// Package beat has a process do what it does again and again at the same instants.
//
// Waking an idle process costs more than most of what it wakes for: 0.1 to 0.2 ms of
// a core in a Go program (measured), as much as asking PostgreSQL a question. Ten
// things with a period of a second each wake it ten times in a second when each
// counts from its own last time, and once when all keep to one beat.
package beat

import "time"

// Beat is a rhythm; the zero value beats with the wall clock. Those of several hosts
// differ because their processes began at different times, so they don't all ask etcd
// at once.
type Beat struct{ start time.Time }

// New is a rhythm that begins now. It keeps to the monotonic clock: by one that is
// slewed, a timer would end just before each beat, and again at it.
func New(now time.Time) Beat { return Beat{now} }

// Next is how long it is from now until the next beat of a period: never longer than
// the period, so what waits for it is no later than if it counted from now.
func (b Beat) Next(now time.Time, every time.Duration) time.Duration {
	past := time.Duration(now.UnixNano())
	if !b.start.IsZero() {
		past = now.Sub(b.start)
	}
	if past %= every; past < 0 {
		past += every
	}
	return every - past
}

// Package jitter is the one place where pauses are made uneven, so that programs
// that failed together do not try again together. A simulation that must give the
// same answer twice switches it off; nothing else does.
package jitter

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
)

var off atomic.Bool

// Off makes every pause its average, for the whole process. For simulations.
func Off() { off.Store(true) }

// N is a duration from 0 up to d, which must be positive; half of d when jitter
// is off.
func N(d time.Duration) time.Duration {
	if off.Load() {
		return d / 2
	}
	return rand.N(d)
}

// Factor is how far a backoff strays from its interval, as a fraction of it.
func Factor() float64 {
	if off.Load() {
		return 0
	}
	return backoff.DefaultRandomizationFactor
}

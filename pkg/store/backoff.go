package store

import (
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/pgctrl/pgctrl/internal/jitter"
)

// newBackoff grows from first to most, with jitter, and never gives up: the
// library's own default stops after 15 minutes.
func newBackoff(first, most time.Duration) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(first),
		backoff.WithMaxInterval(most),
		backoff.WithMultiplier(2),
		backoff.WithMaxElapsedTime(0),
		backoff.WithRandomizationFactor(jitter.Factor()),
	)
}

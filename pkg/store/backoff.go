package store

import (
	"context"
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

// pause waits and reports whether it was not cut short.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

package agent

import (
	"context"
	"time"
)

// again does once, and again after the time that it asks for or when somebody wakes it,
// until ctx ends.
func again(ctx context.Context, wake <-chan struct{}, once func(context.Context) time.Duration) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-timer.C:
		}
		timer.Reset(once(ctx))
	}
}

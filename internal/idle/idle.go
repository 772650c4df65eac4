// Package idle is how goroutines wait and are woken.
package idle

import (
	"context"
	"time"
)

// For waits, and reports false when ctx ended first.
func For(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Poke wakes whoever waits on ch, which has room for one. Whoever wakes looks at what there is, so
// a poke that finds one waiting already is answered by that.
func Poke(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

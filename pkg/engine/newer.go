package engine

import (
	"context"
	"errors"
	"time"

	"github.com/pgctrl/pgctrl/pkg/version"
)

// errOlder ends a campaign because a newer program came meanwhile.
var errOlder = errors.New("a newer pgctrl has written to this etcd")

// campaignOnce waits for leadership and leads. A newer program that introduces itself
// while this one waits ends the waiting: what that one wrote may mean what this one
// can't know. One that leads already goes on; its successor will be the newer one.
func (e *Engine) campaignOnce(ctx context.Context) error {
	waiting, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var beside companions
	ordered := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(ordered)
		beside.wait()
		stop(context.Cause(ctx))
	})
	defer func() {
		if !unhook() {
			<-ordered
		}
	}()
	won := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-won:
				return
			case <-waiting.Done():
				return
			case <-time.After(newerEvery):
			}
			if e.outdated() {
				stop(errOlder)
				return
			}
		}
	}()
	l, err := e.o.Client.Campaign(waiting, e.o.Layout.ElectionKey(), e.o.ID, e.o.TTL)
	close(won)
	<-watched
	switch {
	case errors.Is(context.Cause(waiting), errOlder) && l == nil:
		return nil // back to the start, which says so
	case err != nil:
		return err
	}
	// The mirror may have been behind the one who won and introduced itself before.
	if e.bulk.Sync(l.Context()) == nil && !e.outdated() {
		beside.start(ctx, l, e.o.Beside)
		e.lead(l)
	}
	e.resign(ctx, l)
	beside.running.Wait()
	return nil
}

// newerEvery is how often a server that waits for leadership looks whether it may.
const newerEvery = 250 * time.Millisecond

func (e *Engine) outdated() bool { return version.Older(e.o.Version, e.newest()) }

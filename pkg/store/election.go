package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
)

const (
	// DefaultElectionTTL is the time a dead leader holds up the next one.
	DefaultElectionTTL = 5 * time.Second
	// electionMargin is how long before its lease can expire a leader stops by
	// itself. etcd looks for expired leases every 0.5 s and a process may be slow to
	// notice its own timer; 1.5 s covers both.
	electionMargin = 1500 * time.Millisecond
)

// Why leadership ended; context.Cause of Leadership.Context.
var (
	ErrNotRenewed = errors.New("leadership could not be renewed in time")
	ErrDeposed    = errors.New("leadership was taken away: the election key is not ours any more")
	ErrResigned   = errors.New("leadership was given up")
)

// Leadership is the right to act for everybody, for as long as Context lives.
type Leadership struct {
	client   *Client
	key      string
	epoch    int64
	lease    *held
	deadline atomic.Pointer[time.Time]
	ctx      context.Context
	end      context.CancelCauseFunc
	over     chan struct{} // closed when the lease was given back
}

// Campaign waits until this process leads, or ctx ends. Nothing but a transaction
// that created the key, under a lease that is still good, makes a leader: the
// client library's own election can report success to somebody whose key is long
// gone (etcd #19597). No lease is held while waiting.
//
// Leadership ends with ctx too.
func (c *Client) Campaign(ctx context.Context, key, id string, ttl time.Duration) (*Leadership, error) {
	if ttl <= 0 {
		ttl = DefaultElectionTTL
	}
	if ttl <= electionMargin {
		return nil, fmt.Errorf("campaign for %s: lease of %s is not longer than the margin of %s", key, ttl, electionMargin)
	}
	wait := newBackoff(100*time.Millisecond, 2*time.Second)
	for {
		l, err := c.tryCampaign(ctx, key, id, ttl)
		if l != nil {
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("campaign for %s: %w", key, context.Cause(ctx))
		}
		if err == nil {
			wait.Reset() // somebody else leads, and we waited for the key to go
			continue
		}
		c.log.Warn("campaign failed; trying again", zap.String("key", key), zap.Error(err))
		if !idle.For(ctx, wait.NextBackOff()) {
			return nil, fmt.Errorf("campaign for %s: %w", key, context.Cause(ctx))
		}
	}
}

// tryCampaign takes the key if nobody has it, else waits until it is gone.
func (c *Client) tryCampaign(ctx context.Context, key, id string, ttl time.Duration) (*Leadership, error) {
	e, taken, err := c.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	if taken {
		return nil, c.awaitGone(ctx, key, e.ModRevision, ttl)
	}
	l, err := c.take(ctx, key, id, ttl)
	if errors.Is(err, ErrTaken) {
		return nil, nil
	}
	return l, err
}

// Take takes a key for this process under a lease of its own, or says at once that
// somebody has it (ErrTaken). What it gives is the right to act, as in Campaign: it ends
// with ctx, with the key, and when the lease can't be renewed in time. A process that
// dies gives the key back within ttl.
func (c *Client) Take(ctx context.Context, key, value string, ttl time.Duration) (*Leadership, error) {
	if ttl <= electionMargin {
		return nil, fmt.Errorf("take %s: lease of %s is not longer than the margin of %s", key, ttl, electionMargin)
	}
	_, taken, err := c.Get(ctx, key)
	switch {
	case err != nil:
		return nil, err
	case taken:
		return nil, fmt.Errorf("take %s: %w", key, ErrTaken)
	}
	return c.take(ctx, key, value, ttl)
}

// take makes the key under a new lease; ErrTaken when somebody was first, or when it
// took so long that the lease may be over already.
func (c *Client) take(ctx context.Context, key, value string, ttl time.Duration) (*Leadership, error) {
	lease, err := c.grant(ctx, ttl)
	if err != nil {
		return nil, err
	}
	epoch, err := c.Commit(ctx, []Guard{CreateIs(key, 0)}, []Op{PutLeased(key, []byte(value), int64(lease.id))})
	if err == nil && time.Now().Before(lease.sentAt.Add(lease.ttl-electionMargin)) {
		return c.lead(ctx, key, epoch, lease), nil
	}
	// Lost the race, or won it too late to know that we still lead, or don't know:
	// without its lease the key is gone in every case.
	if rerr := lease.release(ctx); rerr != nil && err == nil {
		err = rerr
	}
	if err == nil || errors.Is(err, ErrConflict) {
		return nil, fmt.Errorf("take %s: %w", key, ErrTaken)
	}
	return nil, err
}

// awaitGone returns when the key may be free: it was deleted, or a TTL went by, so
// that a watch gone mute delays a takeover and does not prevent it.
func (c *Client) awaitGone(ctx context.Context, key string, rev int64, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), ttl)
	defer cancel()
	responses := c.watcher.Watch(ctx, key, clientv3.WithRev(rev+1))
	for {
		select {
		case resp, ok := <-responses:
			if !ok {
				return errClosed
			}
			if err := resp.Err(); err != nil {
				return err
			}
			for _, ev := range resp.Events {
				if ev.Type == clientv3.EventTypeDelete {
					return nil
				}
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// lead starts what keeps and ends leadership.
func (c *Client) lead(ctx context.Context, key string, epoch int64, lease *held) *Leadership {
	l := &Leadership{client: c, key: key, epoch: epoch, lease: lease, over: make(chan struct{})}
	l.ctx, l.end = context.WithCancelCause(ctx)
	l.extend()
	lost := make(chan struct{})
	go func() {
		defer close(lost)
		l.watch()
	}()
	go func() {
		defer close(l.over)
		l.keep()
		<-lost
		if err := lease.release(ctx); err != nil {
			c.log.Warn("election key not removed; it ends with its lease", zap.String("key", key), zap.Error(err))
		}
	}()
	return l
}

// Context dies before the lease can expire, and at once when the key is lost.
// Everything that only the leader may do derives from it.
func (l *Leadership) Context() context.Context { return l.ctx }

// Held reports whether leadership holds at this instant, by this process's own
// clock. A process that was stopped and goes on may see its context still alive
// for a moment; this can't be late.
func (l *Leadership) Held() bool {
	return l.ctx.Err() == nil && time.Now().Before(*l.deadline.Load())
}

// Guard makes a Commit fail once anybody else has led.
func (l *Leadership) Guard() Guard { return CreateIs(l.key, l.epoch) }

// Epoch is the create revision of the election key: it only ever grows.
func (l *Leadership) Epoch() int64 { return l.epoch }

// Resign ends leadership and waits until the key is given back or ctx ends.
func (l *Leadership) Resign(ctx context.Context) error {
	l.end(ErrResigned)
	select {
	case <-l.over:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("resign from %s: %w", l.key, context.Cause(ctx))
	}
}

func (l *Leadership) extend() time.Time {
	d := l.lease.sentAt.Add(l.lease.ttl - electionMargin)
	l.deadline.Store(&d)
	return d
}

// keep renews the lease until leadership ends. The timer is the fence: it fires
// whatever the network, the library or etcd believe.
func (l *Leadership) keep() {
	fence := time.AfterFunc(time.Until(*l.deadline.Load()), func() { l.end(ErrNotRenewed) })
	defer fence.Stop()
	// Four renewals fit before the fence, so one lost packet ends nothing.
	every := l.lease.ttl / 5
	for next := every; idle.For(l.ctx, next); {
		err := l.lease.renew(l.ctx, every)
		switch {
		case errors.Is(err, errLeaseLost):
			l.end(ErrDeposed)
			return
		case err != nil:
			l.client.log.Warn("leadership not renewed", zap.Int64("epoch", l.epoch), zap.Error(err))
			next = every / 8
		default:
			fence.Reset(time.Until(l.extend()))
			next = every
		}
	}
}

// watch ends leadership when the key is deleted or replaced under a living lease.
func (l *Leadership) watch() {
	ctx := clientv3.WithRequireLeader(l.ctx)
	rev := l.epoch + 1
	for l.ctx.Err() == nil {
		responses := l.client.watcher.Watch(ctx, l.key, clientv3.WithRev(rev))
		for open := true; open; {
			select {
			case resp, ok := <-responses:
				open = ok && resp.Err() == nil
				if resp.CompactRevision > rev {
					rev = resp.CompactRevision // what is left of history; Commit's guard covers the rest
				}
				for _, ev := range resp.Events {
					if ev.Type == clientv3.EventTypeDelete || ev.Kv.CreateRevision != l.epoch {
						l.end(ErrDeposed)
					}
				}
			case <-l.ctx.Done():
				return
			}
		}
		if !idle.For(l.ctx, 500*time.Millisecond) {
			return
		}
	}
}

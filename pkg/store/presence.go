package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/beat"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// ErrTaken means that somebody else holds the key and may not be displaced.
var ErrTaken = errors.New("key is held by another")

// Presence is a key that exists as long as its keeper does.
type Presence struct {
	Key string
	// Value is asked at every renewal and poke; the key is written only when it
	// changed. Nil means that the key should not exist for now.
	Value func() []byte
	TTL   time.Duration
	// Beat is when the lease is renewed, about three times in a TTL.
	Beat beat.Beat
	// Poke, when set, says that Value has something new.
	Poke <-chan struct{}
	// Kept, when set, is called whenever the key is found or made to be ours as it should be.
	Kept func()
	// Mine decides whether a key found under another lease may be taken over; an
	// agent started again takes its own name back at once. Nil: always.
	Mine func(found kv.KV) bool
	// Wrote, when set, hears what came of each write, and of each new lease, which
	// etcd refuses as it refuses writes. Renewals say nothing of that kind.
	Wrote func(error)
}

// KeepKey keeps key under a lease of its own until ctx ends, and removes it then.
// See Keep.
func (c *Client) KeepKey(ctx context.Context, key string, value func() []byte, ttl time.Duration) error {
	return c.Keep(ctx, Presence{Key: key, Value: value, TTL: ttl})
}

// Keep keeps p until ctx ends, then removes the key and returns nil. Presence
// lives in lease keep-alives: an unchanged value is not written again. A lost
// lease is granted anew, a key removed or overwritten by hand is put back within
// about a TTL. The only error is ErrTaken.
func (c *Client) Keep(ctx context.Context, p Presence) error {
	k := &keeper{client: c, p: p, log: c.log.With(zap.String("key", p.Key))}
	defer k.leave(ctx)
	wait := newBackoff(100*time.Millisecond, 2*time.Second)
	for {
		err := k.turn(ctx)
		next := p.TTL / 3
		if whole := next.Truncate(time.Second); whole > 0 {
			next = p.Beat.Next(time.Now(), whole)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrTaken):
			return err
		case errors.Is(err, errLeaseLost):
			k.lease, next = nil, wait.NextBackOff()
		case err != nil:
			next = min(next, wait.NextBackOff())
			k.log.Warn("presence not kept", zap.Error(err))
		default:
			wait.Reset()
		}
		if !k.sleep(ctx, next) {
			return nil
		}
	}
}

// keeper is the state of one Keep.
type keeper struct {
	client *Client
	p      Presence
	log    *zap.Logger

	lease   *held
	written []byte    // what is in etcd under our lease; nil: nothing
	mod     int64     // the revision of that write
	checked time.Time // when the key itself was last looked at
}

// turn does what is due: a lease, its renewal, a look at the key, a write.
func (k *keeper) turn(ctx context.Context) error {
	if k.lease == nil {
		var err error
		k.lease, err = k.client.grant(ctx, k.p.TTL)
		k.wrote(err)
		if err != nil {
			return err
		}
		k.written, k.checked = nil, time.Time{}
	} else if time.Since(k.lease.sentAt) >= k.p.TTL/4 {
		if err := k.lease.renew(ctx, k.p.TTL/3); err != nil {
			return err
		}
	}
	if time.Since(k.checked) >= k.p.TTL {
		if err := k.look(ctx); err != nil {
			return err
		}
	}
	err := k.write(ctx)
	if err == nil && k.written != nil && k.p.Kept != nil {
		k.p.Kept()
	}
	return err
}

// look reads the key, because somebody may have removed or overwritten it while
// our lease is in good health.
func (k *keeper) look(ctx context.Context) error {
	e, ok, err := k.client.Get(ctx, k.p.Key)
	if err != nil {
		return err
	}
	k.checked, k.written, k.mod = time.Now(), nil, 0
	if !ok {
		return nil
	}
	k.mod = e.ModRevision
	if e.Lease == int64(k.lease.id) {
		k.written = append([]byte{}, e.Value...) // not nil, even when empty
		return nil
	}
	if k.p.Mine != nil && !k.p.Mine(e) {
		return fmt.Errorf("keep %s: %w", k.p.Key, ErrTaken)
	}
	return nil
}

// write makes the key what Value says. It is guarded by what look found, so that
// two keepers of one name can't overwrite one another unseen.
func (k *keeper) write(ctx context.Context) error {
	want := k.p.Value()
	var op Op
	switch {
	case want == nil && k.written == nil:
		return nil
	case want == nil:
		op = Delete(k.p.Key)
	case k.written != nil && bytes.Equal(want, k.written):
		return nil
	default:
		op = PutLeased(k.p.Key, want, int64(k.lease.id))
	}
	rev, err := k.client.Commit(ctx, []Guard{ModIs(k.p.Key, k.mod)}, []Op{op})
	k.wrote(err)
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return errLeaseLost
	case err != nil:
		k.checked = time.Time{} // look again: it may have happened, or another was first
		return err
	}
	k.written, k.mod = want, rev
	if want == nil {
		k.mod = 0
	}
	return nil
}

func (k *keeper) wrote(err error) {
	if k.p.Wrote != nil {
		k.p.Wrote(err)
	}
}

// sleep waits for the next renewal or a poke, and reports whether ctx goes on.
func (k *keeper) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-k.p.Poke:
	case <-ctx.Done():
		return false
	}
	return true
}

func (k *keeper) leave(ctx context.Context) {
	if k.lease == nil {
		return
	}
	if err := k.lease.release(ctx); err != nil {
		k.log.Warn("presence not removed; it ends with its lease", zap.Error(err))
	}
}

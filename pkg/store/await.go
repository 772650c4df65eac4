package store

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// awaitLook is how often Await reads the key whatever its watch says: one that has gone mute
// delays it and no more.
const awaitLook = 5 * time.Second

// Await calls done with a key as it is, nil while it does not exist, and with each later state,
// until done says so or ctx ends. It reads the key once more where it may have missed a state, so
// done may be called twice with one. etcd that does not answer is waited for.
func (c *Client) Await(ctx context.Context, key string, done func(e *kv.KV) bool) error {
	for {
		found, rev, err := c.List(ctx, key)
		switch {
		case err != nil:
			if !idle.For(ctx, 500*time.Millisecond) {
				return context.Cause(ctx)
			}
			continue
		case len(found) == 0 && done(nil), len(found) > 0 && done(&found[0]):
			return nil
		}
		if c.awaitFrom(ctx, key, rev+1, done) {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// awaitFrom is Await on one watch, for awaitLook.
func (c *Client) awaitFrom(ctx context.Context, key string, rev int64, done func(*kv.KV) bool) bool {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), awaitLook)
	defer cancel()
	responses := c.watcher.Watch(ctx, key, clientv3.WithRev(rev))
	for {
		select {
		case resp, ok := <-responses:
			if !ok || resp.Err() != nil {
				idle.For(ctx, 500*time.Millisecond)
				return false
			}
			for _, ev := range resp.Events {
				var now *kv.KV
				if ev.Type != clientv3.EventTypeDelete {
					e := fromEtcd(ev.Kv)
					now = &e
				}
				if done(now) {
					return true
				}
			}
		case <-ctx.Done():
			return false
		}
	}
}

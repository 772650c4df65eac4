package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"

	"github.com/pgctrl/pgctrl/pkg/kv"
)

// Why a watch is given up.
var (
	errSilent   = errors.New("no proof of freshness in time")
	errClosed   = errors.New("watch ended without a reason")
	errDiverged = errors.New("mirror differs from etcd")
	errBack     = errors.New("etcd went back in time")
)

// streamKey is the metadata by which the client library tells streams apart:
// watches with equal outgoing metadata share one.
const streamKey = "pgctrl-stream"

// follower is one session's watch: the goroutine that runs follow owns it, and
// with it the mirror's view.
type follower struct {
	m       *Mirror
	heard   chan heard
	proofs  chan freshness
	given   chan freshness // the newest round's answer
	differs chan int
	// seen[i] is the last event of prefix i. It is not reached[i], which progress
	// notices advance too: an event between the two means that the notice was
	// wrong (etcd #15220), and is applied, not dropped.
	seen    []int64
	pending []freshness // answered, but not yet reached
	silent  *time.Timer
}

// heard is one response of the watch on prefix i; closed when there are no more.
type heard struct {
	i      int
	resp   clientv3.WatchResponse
	closed bool
}

// follow continues the mirror's view from its revision on, until something
// breaks. It returns why.
func (m *Mirror) follow(ctx context.Context) error {
	watchCtx, stopWatching := context.WithCancel(m.watchContext(ctx))
	helperCtx, stopHelpers := context.WithCancel(watchCtx)
	f := &follower{
		m: m, heard: make(chan heard), proofs: make(chan freshness), given: make(chan freshness, 1), differs: make(chan int),
		seen:   append([]int64(nil), m.now.Load().reached...),
		silent: time.NewTimer(m.o.StaleAfter),
	}
	var watches, helpers sync.WaitGroup
	// Helpers stop first: a progress request on a stream without watches would
	// make the library open a new stream that nobody closes.
	defer watches.Wait()
	defer stopWatching()
	defer helpers.Wait()
	defer stopHelpers()
	defer f.silent.Stop()

	created := make(chan struct{}, len(m.o.Prefixes))
	for i := range m.o.Prefixes {
		watches.Go(func() { f.watch(watchCtx, i, created) })
	}
	helpers.Go(func() { f.probe(helperCtx, created) })
	helpers.Go(func() { f.compare(helperCtx) })
	return f.loop(ctx)
}

// watchContext names the stream. A stream that went silent gets a new name: the
// old one may be deadlocked, and a new watch on it would hang as well.
func (m *Mirror) watchContext(ctx context.Context) context.Context {
	ctx = clientv3.WithRequireLeader(ctx)
	if m.o.Stream == "" && m.generation == 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, streamKey, m.o.Stream+"#"+strconv.Itoa(m.generation))
}

// watch carries what is written under one prefix to the loop, and says once that etcd knows the watch.
func (f *follower) watch(ctx context.Context, i int, created chan<- struct{}) {
	announced := false
	f.m.client.carry(ctx, i, f.m.o.Prefixes[i], f.seen[i]+1, func(h heard) {
		if h.resp.Created && !announced {
			announced = true
			created <- struct{}{}
		}
		select {
		case f.heard <- h:
		case <-ctx.Done():
		}
	}, clientv3.WithCreatedNotify())
}

// carry hands on the responses of a watch on a prefix, the i-th of somebody's, until it is over or
// ctx ends. Nobody works on them there: the library buffers without bound for a reader that is slow.
func (c *Client) carry(ctx context.Context, i int, prefix string, from int64, on func(heard), opts ...clientv3.OpOption) {
	opts = append(opts, clientv3.WithRev(from), clientv3.WithFragment(), clientv3.WithProgressNotify())
	if end := rangeEnd(prefix); end != "" {
		opts = append(opts, clientv3.WithRange(end))
	}
	responses := c.watcher.Watch(ctx, prefix, opts...)
	for ctx.Err() == nil {
		h := heard{i: i}
		select {
		case resp, ok := <-responses:
			h.resp, h.closed = resp, !ok
		case <-ctx.Done():
			// Not left to the library: a hung stream never closes the channel.
			return
		}
		on(h)
		if h.closed {
			return
		}
	}
}

func (f *follower) loop(ctx context.Context) error {
	for {
		select {
		case h := <-f.heard:
			if err := f.take(h); err != nil {
				return fmt.Errorf("watch %s: %w", f.m.o.Prefixes[h.i], err)
			}
		case p := <-f.proofs:
			if p.rev < p.had {
				// Asked after the view was there, etcd is not: it was put back from a
				// snapshot. The watch waits for revisions that are long in coming, so
				// everything is read again, and whoever uses it judges.
				return fmt.Errorf("%w: it is at revision %d and was seen at %d", errBack, p.rev, p.had)
			}
			f.pending = append(f.pending, p)
		case n := <-f.differs:
			return fmt.Errorf("%w in %d keys", errDiverged, n)
		case <-f.silent.C:
			at, rev := f.m.Fresh()
			return fmt.Errorf("%w: last asked %s ago at revision %d", errSilent, time.Since(at).Round(time.Millisecond), rev)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		f.settle()
	}
}

// take applies one response, whole: what one transaction wrote under a prefix
// becomes visible at once.
func (f *follower) take(h heard) error {
	switch r := &h.resp; {
	case h.closed:
		return errClosed
	case r.Err() != nil:
		return r.Err()
	case r.Canceled:
		return errClosed
	case r.Created:
	case len(r.Events) == 0:
		f.m.now.Store(f.m.now.Load().upTo(h.i, r.Header.GetRevision()))
	default:
		f.apply(h.i, r.Events)
	}
	return nil
}

// apply takes the events of prefix i into the view and announces what matters.
// The revision reached is the last event's; the header may be ahead of it.
func (f *follower) apply(i int, events []*clientv3.Event) {
	m, now := f.m, f.m.now.Load()
	last := events[len(events)-1].Kv.ModRevision
	if last <= f.seen[i] {
		return
	}
	if last <= now.reached[i] {
		m.log.Warn("event is older than etcd's progress notice", zap.Int64("revision", last), zap.Int64("notice", now.reached[i]))
	}
	next := now.upTo(i, last)
	changes := make([]Change, 0, len(events))
	for _, ev := range events {
		rev := ev.Kv.ModRevision
		if rev <= f.seen[i] {
			continue // etcd has sent events twice (#17247)
		}
		key := string(ev.Kv.Key)
		old, _ := next.keys.Get(key)
		var new *kv.KV
		if ev.Type == clientv3.EventTypeDelete {
			m.remove(next, key)
		} else {
			kept := m.o.Keep(fromEtcd(ev.Kv))
			new = &kept
			m.set(next, new)
		}
		if m.matters(old, new) {
			changes = append(changes, Change{Key: key, Old: old, New: new})
		}
	}
	f.seen[i] = last
	m.now.Store(next)
	m.announce(last, changes)
}

// settle turns answered questions into proofs once the view has reached them.
func (f *follower) settle() {
	rev := f.m.now.Load().rev
	for i := len(f.pending) - 1; i >= 0; i-- {
		if p := f.pending[i]; p.rev <= rev {
			f.m.prove(p)
			f.pending = append(f.pending[:0], f.pending[i+1:]...)
			f.silent.Reset(f.m.o.StaleAfter - time.Since(p.at))
			return
		}
	}
}

package store

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/internal/jitter"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// probe proves freshness again and again. The proof is a linearizable read of
// etcd's revision: its answer belongs to this question and no other, so a process
// that was stopped for a minute can't take an old answer, still in its socket's
// buffer, for a new one. Progress notices have no such tie; they only tell how far
// the watch is, which is what the answer is compared with. The mirrors of a client
// ask together, see rounds.
func (f *follower) probe(ctx context.Context, created <-chan struct{}) {
	// Before every watch is known to etcd a progress notice could be ahead of one
	// of them.
	for range f.m.o.Prefixes {
		select {
		case <-created:
		case <-ctx.Done():
			return
		}
	}
	defer f.m.client.rounds.join(f)()
	every := f.m.o.ProbeEvery
	timer := time.NewTimer(f.m.o.Beat.Next(time.Now(), every))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			timer.Reset(f.m.o.Beat.Next(time.Now(), every))
			f.round(ctx, every/2)
		case <-f.m.ask:
			f.round(ctx, 0)
		case p := <-f.given:
			select {
			case f.proofs <- p:
			case <-ctx.Done():
				return
			}
			f.hurry(ctx, p.rev)
		case <-ctx.Done():
			return
		}
	}
}

// hurry has etcd say how far the watches are, until the view has reached rev or the
// next proof is due. It takes asking more than once: etcd silently drops the
// question while any watch of the stream is not up to date, as in the first tenth
// of a second of each.
func (f *follower) hurry(ctx context.Context, rev int64) {
	ctx, cancel := context.WithTimeout(ctx, f.m.o.ProbeEvery)
	defer cancel()
	for wait := 5 * time.Millisecond; f.m.now.Load().rev < rev; wait *= 2 {
		if err := f.m.client.watcher.RequestProgress(ctx); err != nil {
			f.m.log.Debug("progress not asked for", zap.Error(err))
			return
		}
		if !idle.For(ctx, wait) {
			return
		}
	}
}

// compare reads everything now and then and counts what the mirror has
// differently: etcd's own testers found watches that lost events (#18089, #19179,
// #20221), and a mirror can't notice that by itself.
func (f *follower) compare(ctx context.Context) {
	for {
		every := f.m.o.CompareEvery
		if !idle.For(ctx, every/2+jitter.N(every)) {
			return
		}
		n, err := f.m.compareOnce(ctx)
		switch {
		case errors.Is(err, rpctypes.ErrCompacted):
			// The view's revision was compacted away before it was read; next time.
		case err != nil:
			f.m.log.Debug("mirror not compared", zap.Error(err))
		case n > 0:
			f.m.divergences.Add(int64(n))
			select {
			case f.differs <- n:
			case <-ctx.Done():
			}
			return
		}
	}
}

// compareOnce reads each prefix at exactly the revision the view has reached for
// it, so the two must be equal. It returns how many keys are not.
func (m *Mirror) compareOnce(ctx context.Context) (int, error) {
	now := m.now.Load()
	different, seen := 0, 0
	for i, p := range now.prefixes {
		_, err := m.client.eachAt(ctx, p, now.reached[i], func(e kv.KV) {
			seen++
			if have, ok := now.keys.Get(e.Key); !ok || !same(*have, m.o.Keep(e)) {
				different++
				m.log.Error("mirror differs from etcd", zap.String("key", e.Key), zap.Int64("revision", e.ModRevision))
			}
		})
		if err != nil {
			return 0, err
		}
	}
	// What the mirror has too much, it has no counterpart for.
	return different + max(0, now.keys.Len()-seen), nil
}

func same(a, b kv.KV) bool {
	return a.ModRevision == b.ModRevision && a.CreateRevision == b.CreateRevision && string(a.Value) == string(b.Value)
}

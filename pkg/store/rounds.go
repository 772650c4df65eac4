package store

import (
	"context"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"
)

// rounds has one question to etcd prove the freshness of every mirror of a client:
// the answer is etcd's revision, and that is the same for all.
type rounds struct {
	mu    sync.Mutex
	of    map[*follower]bool
	asked time.Time // when the last round began
}

// join adds a follower whose watches etcd knows; leave takes it out.
func (r *rounds) join(f *follower) (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[*follower]bool{}
	}
	r.of[f] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.of, f)
	}
}

// begin starts a round and returns what each follower's proof begins with. With due
// set there is none if another began less than that ago: it was for all as well.
func (r *rounds) begin(due time.Duration) map[*follower]freshness {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if due > 0 && now.Sub(r.asked) < due {
		return nil
	}
	r.asked = now
	out := make(map[*follower]freshness, len(r.of))
	for f := range maps.Keys(r.of) {
		out[f] = freshness{at: now, had: f.m.now.Load().rev}
	}
	return out
}

// round asks once for everybody.
func (f *follower) round(ctx context.Context, due time.Duration) {
	all := f.m.client.rounds.begin(due)
	if len(all) == 0 {
		return
	}
	rev, err := f.m.client.revision(ctx, f.m.o.Prefixes[0])
	if err != nil {
		f.m.log.Debug("freshness not proven", zap.Error(err))
		return
	}
	for g, p := range all {
		p.rev = rev
		select {
		case <-g.given: // what it has not looked at yet is older
		default:
		}
		select {
		case g.given <- p:
		default: // another round was faster
		}
	}
}

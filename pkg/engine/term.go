package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// stuckAfter is how long one step may take before the process counts as broken.
// Planning takes milliseconds and a write has a deadline of five seconds.
const stuckAfter = time.Minute

// term is one leadership: its queue, its workers, and what they remember. Nothing
// of it outlives it, so a new term can't act on what an old one knew.
type term struct {
	e          *Engine
	leadership *store.Leadership
	queue      *Queue
	committer  *committer
	log        *zap.Logger

	mu         sync.Mutex
	written    map[Key]mark
	conditions map[Key][]observed.Condition
	running    map[Key]time.Time
}

// mark is a key's last write, with a written etcd key of each family. Until the
// mirror has it, planning again would plan against what was before, and conflict
// with ourselves.
type mark struct {
	keys map[keys.Family]string
	rev  int64
}

// lead plans for as long as the leadership lives.
func (e *Engine) lead(l *store.Leadership) {
	ctx := l.Context()
	t := &term{
		e: e, leadership: l, queue: NewQueue(),
		log:     e.log.With(zap.Int64("epoch", l.Epoch())),
		written: map[Key]mark{}, conditions: map[Key][]observed.Condition{}, running: map[Key]time.Time{},
	}
	t.log.Info("leading")
	defer func() { t.log.Info("not leading any more", zap.NamedError("because", context.Cause(ctx))) }()
	// What the leader before wrote last must be seen before anything is planned.
	for _, m := range []*store.Mirror{e.bulk, e.fast} {
		if m.Sync(ctx) != nil {
			return
		}
	}
	e.term.Store(t)
	defer e.term.Store(nil)
	e.mu.Lock()
	e.queue = t.queue
	e.everything()
	e.mu.Unlock()

	t.committer = newCommitter(ctx, e.o.Client, l)
	defer t.committer.close()
	var workers sync.WaitGroup
	for range e.o.Workers {
		workers.Go(func() { t.work(ctx) })
	}
	for idle.For(ctx, e.o.ResyncEvery) {
		e.mu.Lock()
		e.everything()
		e.mu.Unlock()
	}
	e.mu.Lock()
	e.queue = nil
	e.mu.Unlock()
	t.queue.Close()
	workers.Wait()
}

// work takes keys until the term ends. One that was taken when the view of etcd is
// old waits for a new one: nothing is planned from an old view (R6).
func (t *term) work(ctx context.Context) {
	at := &seat{of: t.e.seats}
	defer at.leave()
	for {
		at.take()
		k, class, ok := t.queue.Get()
		if !ok {
			return
		}
		for t.e.Ready() != nil {
			if !idle.For(ctx, 50*time.Millisecond) {
				return
			}
		}
		if !t.leadership.Held() {
			return
		}
		t.queue.Done(k, t.step(ctx, k, class, at))
	}
}

// step reconciles one key and says how it goes on. It is the boundary at which
// whatever happened is logged and counted, once.
func (t *term) step(ctx context.Context, k Key, class Class, at *seat) Next {
	t.begin(k)
	defer t.end(k)
	started := time.Now()
	out, err := t.reconcile(ctx, k, at)
	m := t.e.metrics
	m.seconds.WithLabelValues(k.Controller).Observe(time.Since(started).Seconds())
	m.reconciles.WithLabelValues(k.Controller, out.result).Inc()
	log := t.log.With(zap.String("controller", k.Controller), zap.String("key", k.Cluster), zap.Int64("revision", out.revision))
	var panicked *Panic
	switch {
	case errors.As(err, &panicked):
		m.panics.Inc()
		log.Error("controller panicked; this key backs off", zap.Error(err), zap.ByteString("stack", panicked.Stack))
	case out.result == resultUndeclared:
		m.panics.Inc()
		log.Error("controller read what it has not declared; this key backs off", zap.Error(err))
	case out.result == resultConflict:
		log.Debug("somebody else wrote first; looking again", zap.Error(err))
	case err != nil && ctx.Err() == nil:
		log.Warn("not planned; trying again", zap.Error(err))
	case out.wrote > 0:
		log.Info("planned", zap.Int("keys", out.wrote), zap.Stringer("class", class), zap.Duration("took", time.Since(started)))
	}
	if err != nil {
		return Next{Failed: true}
	}
	if out.result == resultWaiting {
		return Next{}
	}
	t.note(log, k, out.conditions)
	return Next{After: out.after}
}

// note logs conditions when they changed.
func (t *term) note(log *zap.Logger, k Key, now []observed.Condition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.conditions[k]
	for _, c := range now {
		if c.Bad() && !contains(before, c) {
			log.Info("condition", zap.String("condition", c.String()), zap.String("cause", c.Key))
		}
	}
	if len(now) == 0 {
		delete(t.conditions, k)
		return
	}
	t.conditions[k] = now
}

func contains(list []observed.Condition, c observed.Condition) bool {
	for _, x := range list {
		if x == c {
			return true
		}
	}
	return false
}

func (t *term) begin(k Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running[k] = time.Now()
}

func (t *term) end(k Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.running, k)
}

// stuck reports a step that takes too long to be working.
func (t *term) stuck() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, since := range t.running {
		if d := time.Since(since); d > stuckAfter {
			return fmt.Errorf("controller %s has worked on %s for %s", k.Controller, k.Cluster, d.Round(time.Second))
		}
	}
	return nil
}

// behind reports whether the mirror has yet to see the key's own last write. Its
// arrival is an event that queues the key again.
func (t *term) behind(k Key) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, ok := t.written[k]
	if !ok {
		return false
	}
	for _, key := range m.keys {
		if t.e.reached(key) < m.rev {
			return true
		}
	}
	delete(t.written, k)
	return false
}

// wrote remembers and counts what was written at rev.
func (t *term) wrote(k Key, writes []write, rev int64) {
	m := mark{keys: map[keys.Family]string{}, rev: rev}
	for _, w := range writes {
		m.keys[w.family] = w.key
		t.e.metrics.writes.WithLabelValues(string(w.family)).Inc()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.written[k] = m
}

func (e *Engine) reached(key string) int64 {
	for _, f := range e.atlas {
		if _, ok := f.tail(key); ok {
			return e.mirrorOf(f).Reached(key)
		}
	}
	return 0
}

// input is what a controller is told.
func (t *term) input(c *controller, cluster string, w world, whole map[string]kv.KV) controllers.Input {
	return controllers.Input{
		Cluster: cluster, Layout: t.e.o.Layout, Now: time.Now(),
		Snapshot: &declared{world: w, atlas: t.e.atlas, controller: c.Name(), cluster: cluster, readings: c.reads, whole: whole},
	}
}

// Package arbiter asks hooks whether something may be done that somebody is about to do to a
// cluster, as long as its server leads. Package verdicts decides what answers mean.
//
// A question is a record in etcd, written by whoever wants to act and waits. Each has a goroutine
// here, which alone writes the record, and each of its hooks another: one that is slow or broken
// costs its own question its deadline, and others nothing as long as fewer than atOnce are open.
// Every write is guarded by leadership and by the record's revision, so a server that has lost it,
// or a question that its asker has decided, ends it at once. Another server that takes over asks
// again those hooks that had not said their last word.
//
// Deadlines are counted by this server's clock from when it saw the question: who asks counts by
// its own and gives up by itself, so hosts whose clocks differ change no answer.
//
// Nothing is written while nobody asks (R8): old records go when there is a new one.
package arbiter

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/hookrun"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/verdicts"
)

// Programs runs the programs of hooks; a *hookrun.Runner does.
type Programs interface {
	Run(ctx context.Context, o hookrun.Order) (hookrun.Outcome, error)
}

// Options are all that an arbiter needs. Client and Layout are required.
type Options struct {
	Client  *store.Client
	Layout  keys.Layout
	Version string
	// Programs has programs run under a leadership; by default agents do.
	Programs func(*store.Leadership) Programs
	Log      *zap.Logger
	// Wait is how long to wait after the nth attempt that failed; verdicts.Wait by default.
	Wait func(try int) time.Duration
}

// atOnce is how many questions are asked at once. Each is a person or a script that waits.
const atOnce = 32

// troubled is how long to wait when etcd does not answer.
const troubled = 500 * time.Millisecond

// Arbiter asks.
type Arbiter struct{ Options }

// New prepares an arbiter.
func New(o Options) *Arbiter {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Wait == nil {
		o.Wait = verdicts.Wait
	}
	if o.Programs == nil {
		o.Programs = func(l *store.Leadership) Programs { return hookrun.New(o.Client, o.Layout, l, o.Log) }
	}
	return &Arbiter{o}
}

// term is one leadership.
type term struct {
	*Arbiter
	leadership *store.Leadership
	programs   Programs
	slots      chan struct{}
	wake       chan struct{}
	group      sync.WaitGroup

	mu   sync.Mutex
	open map[name]context.CancelFunc
}

// name tells a record from another one that has the same key later.
type name struct {
	key     string
	created int64
}

// Lead asks until ctx ends, which it does with the leadership at the latest. Nothing of it runs
// any more when it has returned.
func (a *Arbiter) Lead(ctx context.Context, l *store.Leadership) {
	t := &term{
		Arbiter: a, leadership: l, programs: a.Programs(l), slots: make(chan struct{}, atOnce),
		wake: make(chan struct{}, 1), open: map[name]context.CancelFunc{},
	}
	ctx, cancel := context.WithCancel(ctx)
	defer t.group.Wait()
	defer cancel()
	m := store.NewMirror(a.Client, store.MirrorOptions{Name: "verdicts", Prefixes: []string{a.Layout.Prefix(keys.Verdicts)}, Log: a.Log})
	m.OnChange(func(_ int64, cs []store.Change) {
		for _, c := range cs {
			t.change(ctx, c)
		}
		idle.Poke(t.wake)
	})
	t.group.Go(func() { t.clear(ctx, m) })
	_ = m.Run(ctx) // it ends with its context and returns nothing worth saying
}

// change begins with a question that is new, and ends one that is over. One that was begun is
// remembered until its end is seen: what its goroutine wrote comes by here later than it.
func (t *term) change(ctx context.Context, c store.Change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.Old != nil && (c.New == nil || c.New.CreateRevision != c.Old.CreateRevision) {
		t.forget(*c.Old)
	}
	if c.New == nil {
		return
	}
	v, err := observed.Decode[verdicts.Verdict](*c.New)
	if err != nil || v.Schema != verdicts.Schema || v.State.Final() {
		t.forget(*c.New) // not ours to answer
		return
	}
	n := name{c.New.Key, c.New.CreateRevision}
	if t.open[n] != nil {
		return
	}
	ctx, t.open[n] = context.WithCancel(ctx)
	s := &session{term: t, key: c.New.Key, created: c.New.CreateRevision, revision: c.New.ModRevision, question: v, verdict: v, late: c.Initial && v.Abandoned(time.Now())}
	t.group.Go(func() { s.run(ctx) })
}

// forget ends a question's goroutine. The caller holds mu.
func (t *term) forget(e kv.KV) {
	n := name{e.Key, e.CreateRevision}
	if cancel := t.open[n]; cancel != nil {
		cancel()
		delete(t.open, n)
	}
}

// clear deletes the records that nobody needs any more: at the beginning, and when there was a
// reason to look.
func (t *term) clear(ctx context.Context, m *store.Mirror) {
	for {
		select {
		case <-t.wake:
		case <-ctx.Done():
			return
		}
		for _, e := range m.Snapshot().Range(t.Layout.Prefix(keys.Verdicts)) {
			v, err := observed.Decode[verdicts.Verdict](e)
			if err != nil || v.Schema > verdicts.Schema || !v.Outlived(time.Now()) || t.asking(e) {
				continue
			}
			_, err = t.Client.Commit(ctx, []store.Guard{t.leadership.Guard(), store.ModIs(e.Key, e.ModRevision)}, []store.Op{store.Delete(e.Key)})
			if err != nil && ctx.Err() == nil {
				t.Log.Debug("a verdict that is over stays for now", zap.String("key", e.Key), zap.Error(err))
			}
		}
	}
}

// asking reports that somebody may wait for it, whatever its clock says.
func (t *term) asking(e kv.KV) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[name{e.Key, e.CreateRevision}] != nil
}

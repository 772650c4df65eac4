package delivery

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// Commander has a command hook's program run on a node. It returns when the program has ended
// well, or why not; ctx ends when the attempt has lasted as long as it may.
type Commander interface {
	Run(ctx context.Context, o Order) error
}

// Order is one run of a program.
type Order struct {
	// Hook is the name of the hook, and Scope the cluster that it belongs to or keys.Fleet.
	Hook, Scope string
	// Cluster and ID are the event's; Cluster may be keys.Fleet, which has no primary.
	Cluster, ID, Kind string
	// Attempt counts how often the event was given to the hook, from 1.
	Attempt int
	// On is a node, or desired.CommandOnPrimary.
	On        string
	Program   string
	Arguments []string
	// Input is what the program gets on standard input: the same body as a webhook's.
	Input   []byte
	Timeout time.Duration
}

// Options say how events are delivered. Client and Layout are required.
type Options struct {
	Client  *store.Client
	Layout  keys.Layout
	Version string
	// Commander runs commands; without one they fail.
	Commander Commander
	Log       *zap.Logger
	// Wait is how long to wait after the nth attempt; hooks.Wait by default.
	Wait func(attempt int) time.Duration
}

// Numbers of the driver.
const (
	// pageSize is how many events are in memory for a hook. It is more than one transaction
	// can write, so a page always has all of at least one.
	pageSize = store.MaxOps + 32
	// writeEvery is how often it is written at most how far a hook is, while events flow.
	writeEvery = 200 * time.Millisecond
	// lookEvery is how often a hook looks without having heard of anything.
	lookEvery = time.Minute
	// passedAtMost is how many events that a hook does not want are passed without a write, and
	// unsavedAtMost for how long. It is far less than what is kept, so that a server that takes
	// over does not believe that some of them are missing.
	passedAtMost  = 200
	unsavedAtMost = 24 * time.Hour
	// roomEvery is how often etcd is asked for its size while events are given up.
	roomEvery = 30 * time.Second
	// troubled is how long to wait when etcd does not answer.
	troubled = time.Second
)

// Deliverer runs the hooks.
type Deliverer struct {
	Options
	term  func() []store.Guard
	mu    sync.Mutex
	works map[string]*work // by the key of the hook's document
	group sync.WaitGroup
	size  struct {
		sync.Mutex
		asked   time.Time
		filling bool
	}
}

// Term is the right to act for everybody; store.Leadership is one.
type Term interface {
	Context() context.Context
	Guard() store.Guard
}

// New prepares a deliverer.
func New(o Options) *Deliverer {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Wait == nil {
		o.Wait = func(attempt int) time.Duration { return hooks.Wait(attempt, rand.Float64()) }
	}
	return &Deliverer{Options: o, works: map[string]*work{}}
}

// Run delivers for as long as the term lasts. Nothing of it runs any more when it has returned.
// It is called once.
func (d *Deliverer) Run(t Term) {
	ctx, cancel := context.WithCancel(t.Context())
	defer d.group.Wait()
	defer cancel()
	guard := t.Guard()
	d.term = func() []store.Guard { return []store.Guard{guard} }
	m := store.NewMirror(d.Client, store.MirrorOptions{
		Name: "hooks", Prefixes: []string{d.Layout.Prefix(keys.Hooks), d.Layout.Prefix(keys.Desired)}, Log: d.Log,
		Keep: func(e kv.KV) kv.KV {
			if !d.isHook(e.Key) {
				e.Value = nil // others hold all documents; this is about hooks
			}
			return e
		},
	})
	m.OnChange(func(_ int64, cs []store.Change) {
		for _, c := range cs {
			if d.isHook(c.Key) {
				d.change(ctx, c)
			}
		}
	})
	d.group.Go(func() { d.Client.Hear(ctx, d.Layout.Prefix(keys.Events), d.wake) })
	d.group.Go(func() { d.Client.Hear(ctx, d.Layout.Prefix(keys.Deliveries), d.wakeAgain) })
	_ = m.Run(ctx) // it ends with its context and returns nothing worth saying
}

func (d *Deliverer) isHook(key string) bool {
	if strings.HasPrefix(key, d.Layout.Prefix(keys.Hooks)) {
		return true
	}
	ref, err := d.Layout.Parse(key)
	kind, name := ref.Document()
	return err == nil && ref.Family == keys.Desired && kind == "hooks" && name != ""
}

// change puts a hook's document in force: at once, with the cursor that it has.
func (d *Deliverer) change(ctx context.Context, c store.Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var before <-chan struct{}
	if w := d.works[c.Key]; w != nil {
		w.cancel()
		before = w.done // the next one begins where this one ends
		delete(d.works, c.Key)
	}
	if c.New == nil {
		return
	}
	h, _ := desired.ReadHook(d.Layout, *c.New)
	if h == nil || !h.Enabled {
		return // status shows what is wrong; events wait in etcd until it is put right
	}
	w := newWork(d, h)
	ctx, w.cancel = context.WithCancel(ctx)
	d.works[c.Key] = w
	d.group.Go(func() {
		defer close(w.done)
		defer w.cancel()
		if before != nil {
			<-before
		}
		w.run(ctx)
	})
}

// wake tells the hooks that may want them of events that were written.
func (d *Deliverer) wake(es []kv.KV) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.works {
		mine := under(es, w.events)
		if es == nil || len(mine) > 0 {
			w.hear(mine, es == nil)
			idle.Poke(w.news)
		}
	}
}

// wakeAgain tells the hooks that are asked to deliver something once more.
func (d *Deliverer) wakeAgain(es []kv.KV) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.works {
		if es == nil || len(under(es, w.again)) > 0 {
			idle.Poke(w.asked)
		}
	}
}

func under(es []kv.KV, prefix string) (out []kv.KV) {
	for _, e := range es {
		if strings.HasPrefix(e.Key, prefix) {
			out = append(out, e)
		}
	}
	return out
}

// filling reports that etcd's database is over half of its quota, as far as it was known lately.
func (d *Deliverer) filling(ctx context.Context) bool {
	d.size.Lock()
	defer d.size.Unlock()
	if time.Since(d.size.asked) > roomEvery {
		if h, err := d.Client.Health(ctx); err == nil {
			d.size.filling, d.size.asked = h.NoSpace || observed.Filling(h.Size, h.Quota), time.Now()
		}
	}
	return d.size.filling
}

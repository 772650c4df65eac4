package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// Options say what an engine runs. Client, Controllers and ID are required.
type Options struct {
	Client      *store.Client
	Layout      keys.Layout
	Controllers []controllers.Controller
	// Concerned narrows controllers.Access.Fleet: which other clusters a change of one
	// cluster's documents may concern. before are those documents as they were. With nil
	// every cluster looks again at every change.
	Concerned func(s kv.Snapshot, l keys.Layout, cluster string, before []kv.KV) []string
	Log       *zap.Logger
	// Registry receives the metrics; nil keeps them to itself.
	Registry prometheus.Registerer
	// Beside run beside the controllers for as long as this engine leads. Each returns soon after
	// its context has ended, which an order to stop does a moment before leadership does.
	Beside []func(ctx context.Context, l *store.Leadership)
	// ID is the leader's name in etcd, and Version this program's: an engine older
	// than the newest that wrote to this etcd does not campaign.
	ID, Version string

	// Workers is how many keys are worked on at once; 64 when zero. A plan is computed
	// in microseconds and a write takes a millisecond, so most of them wait; writes
	// that wait together share a transaction.
	Workers int
	// TTL is the election's lease; store.DefaultElectionTTL when zero.
	TTL time.Duration
	// FreshFor is how old the mirrors' proof may be while anything is planned; 3 s
	// when zero, the age at which an agent stops trusting its view.
	FreshFor time.Duration
	// ProbeEvery is how often the mirrors prove to be fresh; 1 s when zero.
	ProbeEvery time.Duration
	// ResyncEvery is how often every key is looked at although nothing changed; it
	// should never find anything. 10 min when zero.
	ResyncEvery time.Duration
}

func (o Options) withDefaults() Options {
	if o.Layout == (keys.Layout{}) {
		o.Layout = keys.Default
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Workers <= 0 {
		o.Workers = 64
	}
	if o.FreshFor <= 0 {
		o.FreshFor = 3 * time.Second
	}
	if o.ResyncEvery <= 0 {
		o.ResyncEvery = 10 * time.Minute
	}
	return o
}

// Engine runs controllers over etcd.
type Engine struct {
	o           Options
	log         *zap.Logger
	atlas       atlas
	controllers []*controller
	byName      map[string]*controller
	interests   map[keys.Family][]interest
	bulk, fast  *store.Mirror
	metrics     *metrics
	seats       seats
	term        atomic.Pointer[term] // nil while not leading
	ended       atomic.Bool

	mu       sync.Mutex
	queue    *Queue // nil while not leading
	clusters map[string]int
}

// controller is a Controller with its declarations looked up.
type controller struct {
	controllers.Controller
	reads, writes []reading
	// shared: it has one key, for what clusters on a node share.
	shared bool
}

// New checks the declarations and prepares an engine.
func New(o Options) (*Engine, error) {
	o = o.withDefaults()
	e := &Engine{
		o: o, log: o.Log, atlas: newAtlas(o.Layout), byName: map[string]*controller{},
		interests: map[keys.Family][]interest{}, clusters: map[string]int{},
		seats: newSeats(),
	}
	if err := checkDeclarations(e.atlas, o.Controllers); err != nil {
		return nil, fmt.Errorf("set up engine: %w", err)
	}
	for _, c := range o.Controllers {
		in, out := c.Inputs(), c.Outputs()
		full := &controller{Controller: c, reads: e.atlas.readings(in, out), writes: e.atlas.readings(out), shared: controllers.IsShared(c)}
		e.controllers = append(e.controllers, full)
		e.byName[c.Name()] = full
		// Outputs wake too: a plan changed or deleted by hand is put right.
		for _, r := range full.reads {
			for _, a := range r.by {
				own := slices.ContainsFunc(out, func(o controllers.Access) bool { return o.Family == r.name && o.Part == a.part })
				e.interests[r.name] = append(e.interests[r.name], interest{c.Name(), a, own})
			}
		}
	}
	e.newMirrors()
	e.metrics = newMetrics(e)
	if o.Registry != nil {
		if err := e.metrics.register(o.Registry); err != nil {
			return nil, fmt.Errorf("set up engine: %w", err)
		}
	}
	return e, nil
}

// Seen is what this engine sees of documents, plans, reports and status, whether it leads
// or not. Secrets are in it without their values.
func (e *Engine) Seen() kv.Snapshot { return e.bulk.Snapshot() }

// Run keeps the mirrors warm, campaigns, and plans while it leads, until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	defer e.ended.Store(true)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return e.bulk.Run(ctx) })
	g.Go(func() error { return e.fast.Run(ctx) })
	g.Go(func() error { return e.campaign(ctx) })
	return g.Wait()
}

// campaign leads whenever it can. It returns when ctx ends.
func (e *Engine) campaign(ctx context.Context) error {
	for _, m := range []*store.Mirror{e.bulk, e.fast} {
		select {
		case <-m.Ready():
		case <-ctx.Done():
			return nil
		}
	}
	told := ""
	for {
		if newest := e.newest(); version.Older(e.o.Version, newest) {
			if told != newest {
				e.log.Warn("a newer pgctrl has written to this etcd; not campaigning", zap.String("newest", newest), zap.String("version", e.o.Version))
				told = newest
			}
			if !idle.For(ctx, time.Second) {
				return nil
			}
			continue
		}
		if err := e.campaignOnce(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("run engine: %w", err)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// resign gives the key back before Run returns, because the caller then closes the
// client, and the next leader would have to wait for the lease to expire.
func (e *Engine) resign(ctx context.Context, l *store.Leadership) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := l.Resign(ctx); err != nil {
		e.log.Warn("leadership not given back; it ends with its lease", zap.Error(err))
	}
}

// newest is the newest program version that wrote to this etcd.
func (e *Engine) newest() string {
	s, _ := observed.Read[observed.Store](e.bulk.Snapshot(), e.o.Layout.StoreKey())
	return s.Newest
}

// Leading reports whether this engine leads, and its epoch.
func (e *Engine) Leading() (epoch int64, ok bool) {
	t := e.term.Load()
	if t == nil || !t.leadership.Held() {
		return 0, false
	}
	return t.leadership.Epoch(), true
}

// ErrNotReady means that the engine's view of etcd is incomplete or old.
var ErrNotReady = errors.New("view of etcd is not ready")

// Ready reports whether the view of etcd is complete and fresh; nil means yes.
// Nothing is planned otherwise (R6).
func (e *Engine) Ready() error {
	if err := e.usable("bulk", e.bulk); err != nil {
		return err
	}
	return e.usable("fast", e.fast)
}

func (e *Engine) usable(name string, m *store.Mirror) error {
	select {
	case <-m.Ready():
	default:
		return fmt.Errorf("%w: mirror %s has no complete list yet", ErrNotReady, name)
	}
	if at, rev := m.Fresh(); time.Since(at) > e.o.FreshFor {
		return fmt.Errorf("%w: mirror %s was proven fresh %s ago, at revision %d",
			ErrNotReady, name, time.Since(at).Round(time.Millisecond), rev)
	}
	return nil
}

// Healthy reports whether the engine works at all; a process whose engine does not
// is to be restarted. Waiting for etcd or for leadership is healthy.
func (e *Engine) Healthy() error {
	if e.ended.Load() {
		return errors.New("engine has ended")
	}
	if t := e.term.Load(); t != nil {
		return t.stuck()
	}
	return nil
}

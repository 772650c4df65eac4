package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// Agent makes one node what its plans say and follows the leader of every cluster
// the node has a plan for.
type Agent struct {
	o       Options
	log     *zap.Logger
	metrics *metrics
	keeper  keeper
	reports *reporter
	started time.Time

	machine  string
	programs atomic.Pointer[map[string]string]

	client    atomic.Pointer[store.Client] // nil until etcd was reached
	admitted  chan struct{}                // closed once this agent speaks for its node
	usurped   atomic.Bool                  // another machine has the node's name
	present   atomic.Bool                  // the presence key is in etcd
	full      atomic.Bool                  // etcd refuses writes
	restock   chan struct{}                // makes the presence record anew
	plans     atomic.Pointer[store.Mirror]
	listed    chan struct{}                        // closed once etcd was asked for this node's plans
	overrides *overrides                           // what a person holds by hand
	presence  context.Context                      // ends after the connection to etcd, with the keys that say this agent is here
	vouching  sync.WaitGroup                       // who keeps such keys besides the presence itself
	store     *guard                               // whether the etcd at hand is the one that was trusted
	notes     atomic.Pointer[[]observed.Condition] // about the host itself
	looking   atomic.Bool                          // somebody looks at the host
	noted     noted                                // whoever looks has it
	hooks     *hooks                               // operators' programs

	mu       sync.Mutex
	clusters map[string]*cluster
	start    func(*cluster) // runs a new cluster; nil before Run
	beats    map[string]time.Time
	lastErr  string // why etcd was not reached, or the name refused
}

// New checks the options and loads what an earlier run kept. It touches nothing
// on the host.
func New(o Options) (*Agent, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	machine, err := o.Host.Inventory.MachineID()
	if err != nil {
		return nil, fmt.Errorf("start agent: %w", err)
	}
	a := &Agent{
		o: o, log: o.Log.With(zap.String("node", o.Node)), metrics: newMetrics(o.Registry),
		keeper: keeper{dir: o.StateDir}, started: time.Now(), machine: machine,
		admitted: make(chan struct{}), restock: make(chan struct{}, 1), listed: make(chan struct{}), clusters: map[string]*cluster{}, beats: map[string]time.Time{}, noted: noted{},
	}
	a.reports, a.hooks = newReporter(a), newHooks(a)
	if err := o.Registry.Register(newGauges(a)); err != nil {
		return nil, fmt.Errorf("start agent: %w", err)
	}
	all, err := a.keeper.all()
	if err != nil {
		a.log.Warn("a kept plan can't be used; etcd has it", zap.Error(err))
	}
	a.overrides = newOverrides(o.OverrideFile, a.log, time.Now())
	a.store = newGuard(o.StateDir, keptStore(all), a.log)
	for name, concerns := range all {
		c := newCluster(a, name)
		c.restore(concerns)
		a.clusters[name] = c
	}
	return a, nil
}

// Run works until ctx ends. It returns an error only when it could not start;
// what goes wrong later is reported and tried again. When ctx ends everything on
// the host stays as it is (DESIGN section 7): routes are no longer asserted and
// HAProxy's checks go on by themselves.
func (a *Agent) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	presence, leave := context.WithCancel(context.WithoutCancel(ctx))
	a.presence = presence
	a.mu.Lock()
	a.start = func(c *cluster) {
		part, stop := context.WithCancel(ctx)
		c.stop = stop
		wg.Go(func() { c.run(part) })
	}
	for _, name := range slices.Sorted(maps.Keys(a.clusters)) {
		a.start(a.clusters[name])
	}
	a.mu.Unlock()
	wg.Go(func() { a.reports.run(ctx) })
	wg.Go(func() { a.hooks.run(ctx) })
	wg.Go(func() { a.watchStore(ctx) })
	var gone sync.WaitGroup
	wg.Go(func() { a.join(ctx, presence, &gone) })
	<-ctx.Done()
	wg.Wait()
	// The connection goes before the presence key can be removed: a restart takes
	// less than its lease, and a key that comes and goes would be NodeAbsent for
	// every upgrade. An agent that stays away is absent when the lease has run out.
	if c := a.client.Load(); c != nil {
		_ = c.Close() // nothing is in flight any more
	}
	leave()
	gone.Wait()
	a.vouching.Wait()
	return nil
}

// join reaches etcd, makes sure that the node's name is this machine's, and then
// begins to follow.
func (a *Agent) join(ctx, presence context.Context, gone *sync.WaitGroup) {
	client, ok := a.connect(ctx)
	if !ok || !a.admit(ctx, client) || !a.knowStore(ctx, client) {
		return
	}
	close(a.admitted)
	gone.Go(func() { a.announce(ctx, presence, client) })
	a.followPlans(ctx, client)
}

// followPlans mirrors this node's plans, the store's identity and the node's own
// presence.
func (a *Agent) followPlans(ctx context.Context, client *store.Client) {
	l := a.o.Layout
	m := store.NewMirror(client, store.MirrorOptions{
		Name: "plans", Prefixes: []string{l.NodePlans(a.o.Node), l.NodeSteps(a.o.Node), l.StoreKey(), l.AliveKey(a.o.Node)}, Stream: "bulk", Beat: a.o.Beat, Log: a.log,
		Project: eachRevision(l.NodePlans(a.o.Node)),
	})
	m.OnChange(func(rev int64, cs []store.Change) {
		// Which etcd this is comes before any plan of it.
		for _, c := range cs {
			switch c.Key {
			case l.StoreKey():
				a.storeChanged(c)
			case l.AliveKey(a.o.Node):
				a.present.Store(c.New != nil && a.mine(*c.New))
			}
		}
		for _, c := range cs {
			a.planChanged(c)
		}
	})
	a.plans.Store(m)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-m.Ready(): // and every cluster has its plans
			close(a.listed)
		case <-ctx.Done():
		}
	})
	if err := m.Run(ctx); err != nil {
		a.log.Error("mirror of plans ended", zap.Error(err))
	}
	wg.Wait()
}

// waitForPlans waits until etcd was asked for this node's plans, so that no older plan
// from disk takes the place of a newer one in force; for PlansWithin of the agent's life,
// because without etcd the kept ones are the best there are. False: ctx ended.
func (a *Agent) waitForPlans(ctx context.Context) bool {
	timer := time.NewTimer(time.Until(a.started.Add(PlansWithin)))
	defer timer.Stop()
	select {
	case <-a.listed:
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// waitsForPlans reports whether waitForPlans would.
func (a *Agent) waitsForPlans(now time.Time) bool {
	select {
	case <-a.listed:
		return false
	default:
		return now.Sub(a.started) < PlansWithin
	}
}

// eachRevision makes a plan that is written again with the same bytes news: whoever
// wrote it waits for an answer to that revision.
func eachRevision(plans string) func(kv.KV) []byte {
	return func(e kv.KV) []byte {
		if !strings.HasPrefix(e.Key, plans) {
			return e.Value
		}
		return strconv.AppendInt(nil, e.ModRevision, 10)
	}
}

// planChanged hands a plan to its cluster; a cluster seen for the first time
// begins here. It runs on the mirror's goroutine, so it only notes.
func (a *Agent) planChanged(ch store.Change) {
	ref, err := a.o.Layout.Parse(ch.Key)
	switch {
	case err != nil:
		a.log.Warn("key in no known place", zap.String("key", ch.Key), zap.Error(err))
	case ref.Family == keys.Steps:
		a.stepAsked(ch)
	case ref.Family == keys.Plan:
		for !a.clusterFor(ref.Cluster, ch.New != nil).received(ref.Concern, ch) {
			continue // it ended in this very moment; the next one is a new one
		}
	}
}

// clusterFor returns the cluster; an unknown one is created and, while the agent
// runs, started. With create false an unknown one is returned idle and forgotten:
// the deletion of a plan nobody has needs no cluster.
func (a *Agent) clusterFor(name string, create bool) *cluster {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.clusters[name]; ok {
		return c
	}
	c := newCluster(a, name)
	if create {
		a.clusters[name] = c
		if a.start != nil {
			a.start(c)
		}
	}
	return c
}

// all returns the clusters by name.
func (a *Agent) all() []*cluster {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]*cluster, 0, len(a.clusters))
	for _, name := range slices.Sorted(maps.Keys(a.clusters)) {
		out = append(out, a.clusters[name])
	}
	return out
}

// admittedClient waits until the agent may speak for its node.
func (a *Agent) admittedClient(ctx context.Context) (*store.Client, bool) {
	select {
	case <-a.admitted:
		return a.client.Load(), true
	case <-ctx.Done():
		return nil, false
	}
}

// stuckAfter is how long a cluster's route goroutine may be silent before the
// agent counts as hung: it beats every AssertEvery and no act of its takes longer
// than a few AssertTimeouts.
const stuckAfter = 15 * time.Second

func (a *Agent) beat(cluster string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.beats[cluster] = time.Now()
}

// Healthy reports whether the agent itself works, whatever etcd or the host do;
// systemd's watchdog is fed while it is nil.
func (a *Agent) Healthy() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, at := range a.beats {
		if a.clusters[name] == nil {
			continue // it ended; its last beat may have come after that
		}
		if silent := time.Since(at); silent > stuckAfter {
			return fmt.Errorf("routes of cluster %s have not been looked at for %s", name, silent.Round(time.Second))
		}
	}
	return nil
}

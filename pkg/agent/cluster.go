package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// cluster is everything the agent does for one cluster. Its goroutines share mu
// and nothing else; doc.go says who waits for whom.
type cluster struct {
	a       *Agent
	name    string
	log     *zap.Logger
	secrets *secrets
	drivers Drivers

	mu       sync.Mutex
	state    state
	mirror   *store.Mirror // nil until etcd was reached
	proofs   proofs
	concerns map[string]*concern
	arrived  map[string]kv.KV // plans received and not yet looked at
	gone     map[string]bool  // plan keys that were deleted
	// info is the cluster as the newest accepted plan describes it.
	info    plan.Cluster
	stop    func() // ends the goroutines; nil before Run
	ended   bool   // nothing of the cluster is left here; guarded by mu
	infoRev int64
	uid     string
	store   string // incarnation of the accepted plans
	// generation is the guard's at which state was begun; refollow begins a new one.
	generation int
	refollow   context.CancelFunc
	watcher    PostgresWatcher
	// replication is how this node's member follows, a value of observed.FactReplication.
	replication string
	// recoveryTimeline is the value of observed.FactRecoveryTimeline; 0: not reported.
	recoveryTimeline int64
	// turn is this node's turn to repair; nil: it has none. The worker's own, as is life,
	// which ends with the worker and not with one act of it.
	turn *turn
	life context.Context
	// led is what is known of this node's member as a primary.
	led ledOn
	// altered names what ALTER SYSTEM set on this node's member.
	altered   string
	heldRoute *Override // as the routes last found it; nil: none
	freeze    *freeze   // the file, as the worker last found it; nil: there is none
	events    *events   // what may have drifted
	// why is what stands in the way of a confirmation; asserted what routes are held.
	why      *observed.Condition
	asserted map[string]assertion
	facts    map[string]string
	// unsaid: a report waits for a fresh view of etcd.
	unsaid bool
	// eventAt is when the oldest event arrived that routes have not acted on.
	eventAt time.Time

	// contestedAt is when a HAProxy of this node last got no answer about the primary,
	// proof what was found out about it since.
	contestedAt time.Time
	proof       plan.Proof

	vip *vip
	sql *sqlWork
	// logins is which of our own roles this node's PostgreSQL lets in.
	logins  *logins
	backups *backups
	streams *streams

	pool pooler

	moves *moves

	steps chan kv.KV // asked for and not looked at yet
	// doing are the steps that are done beside others; closed: that one was withdrawn.
	doing map[string]chan struct{}

	// confirmLoop's own: the pause after a write that failed on this basis.
	notBefore time.Time
	failedOn  basis

	wakeRoutes, wakeConfirm, wakeWork, wakeLocal, wakeProof, wakeLed, wakePool chan struct{}
}

func newCluster(a *Agent, name string) *cluster {
	c := &cluster{
		a: a, name: name, log: a.log.With(zap.String("cluster", name)),
		secrets:     &secrets{layout: a.o.Layout, cluster: name},
		concerns:    map[string]*concern{},
		arrived:     map[string]kv.KV{},
		gone:        map[string]bool{},
		asserted:    map[string]assertion{},
		facts:       map[string]string{},
		events:      newEvents(),
		steps:       make(chan kv.KV, 16),
		doing:       map[string]chan struct{}{},
		wakeRoutes:  make(chan struct{}, 1),
		wakeConfirm: make(chan struct{}, 1),
		wakeWork:    make(chan struct{}, 1),
		wakeLocal:   make(chan struct{}, 1),
		wakeProof:   make(chan struct{}, 1),
		wakeLed:     make(chan struct{}, 1),
		wakePool:    make(chan struct{}, 1),
	}
	var err error
	if c.led, err = a.keeper.loadLed(name); err != nil {
		c.log.Error("which timeline this node's member led is not known any more", zap.Error(err))
	}
	c.vip, c.sql, c.logins, c.backups = newVIP(c), newSQLWork(c), newLogins(c), newBackups(c)
	c.streams, c.moves = newStreams(c), newMoves(c)
	c.drivers = a.o.Host.Drivers(name, c.secrets.lookup)
	if !c.shared() {
		a.metrics.begin(name)
	}
	return c
}

// shared: it is no cluster but what the clusters on this node share, which has plans to
// apply and nobody to follow.
func (c *cluster) shared() bool { return c.name == keys.NodeCluster }

// poke wakes whoever waits on ch. One slot is enough: whoever wakes reads the
// newest state, so a wake-up that finds the slot full is already answered.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// run starts the cluster's goroutines and returns when all have ended.
func (c *cluster) run(ctx context.Context) {
	var wg sync.WaitGroup
	if c.shared() {
		wg.Go(func() { c.follow(ctx) })
		c.workLoop(ctx)
		wg.Wait()
		return
	}
	for _, f := range []func(context.Context){c.routeLoop, c.confirmLoop, c.proofLoop, c.watchPostgres, c.watchPooler, c.keepLed, c.workLoop, c.stepLoop, c.vip.run, c.sql.run, c.logins.run, c.backups.run, c.streams.run, c.moves.run, c.follow} {
		wg.Go(func() { f(ctx) })
	}
	wg.Wait()
}

// follow mirrors the cluster's keys once this agent may speak for its node. With
// every store that a person accepted it begins anew: epochs are ordered within one.
func (c *cluster) follow(ctx context.Context) {
	client, ok := c.a.admittedClient(ctx)
	for ok && ctx.Err() == nil {
		part, stop := context.WithCancel(ctx)
		rec, generation := c.a.store.store()
		c.mu.Lock()
		if generation != c.generation {
			c.moves.stamps = nil // their epochs are of another store
		}
		c.state, c.mirror = state{store: rec.Incarnation}, nil
		c.generation, c.refollow = generation, stop
		c.mu.Unlock()
		c.followOne(part, client)
		stop()
	}
}

// followOne mirrors the keys of one store until ctx ends.
func (c *cluster) followOne(ctx context.Context, client *store.Client) {
	m := store.NewMirror(client, store.MirrorOptions{
		Name: "follow " + c.name, Prefixes: follow(c.a.o.Layout, c.name),
		Stream: "fast", Project: project(c.a.o.Layout), Beat: c.a.o.Beat, Log: c.log,
	})
	m.OnChange(c.changed)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-m.Ready():
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		c.mirror, c.state.view.Known, c.state.knownAt = m, true, time.Now()
		c.moves.nobodyLocked()
		c.mu.Unlock()
		c.log.Info("following the leader", zap.Int64("revision", m.Snapshot().Revision()))
		c.wakeAll()
	})
	if err := m.Run(ctx); err != nil {
		c.log.Error("mirror ended", zap.Error(err))
	}
	wg.Wait()
}

// changed is the mirror's callback: from here to the assert goroutine it is one
// fold under the lock and one channel slot, nothing that waits.
func (c *cluster) changed(rev int64, cs []store.Change) {
	now := time.Now()
	c.mu.Lock()
	before, known := c.state.view.Leader, c.state.view.Known
	c.state.view.UID = c.uid
	n := c.state.fold(c.a.o.Layout, rev, cs, now)
	back := c.state.back
	after := c.state.view.Leader
	if n.leader && c.eventAt.IsZero() {
		c.eventAt = now
	}
	c.mu.Unlock()
	if back {
		c.a.store.wentBack(fmt.Sprintf("etcd went back in time: keys of cluster %s are older than they were", c.name))
	}
	if n.any() || n.vip {
		poke(c.vip.wake)
	}
	if n.any() {
		poke(c.wakeRoutes)
		poke(c.wakeConfirm)
		poke(c.wakeWork)
		poke(c.streams.wake)
	}
	if n.leader {
		poke(c.sql.wake)
		poke(c.logins.wake)
		poke(c.backups.wake)
	}
	c.sawMoves(n.moves, !known, now)
	if before.Epoch != after.Epoch {
		c.log.Info("leader key", zap.String("leader", after.Member), zap.Int64("epoch", int64(after.Epoch)), zap.String("before", before.Member))
	}
	for _, err := range n.bad {
		c.log.Warn("key can't be read; its last good value stays", zap.Error(err), zap.Int64("revision", rev))
	}
}

func (c *cluster) wakeAll() {
	poke(c.sql.wake)
	poke(c.backups.wake)
	poke(c.vip.wake)
	poke(c.wakeRoutes)
	poke(c.wakeConfirm)
	poke(c.wakeWork)
}

// lookLocked returns what is known at this moment. The copy is the caller's.
func (c *cluster) lookLocked() state {
	if c.mirror != nil {
		at, rev := c.mirror.Fresh()
		if was := c.state.back; c.state.proven(at, rev) && !was {
			c.a.store.wentBack(fmt.Sprintf("etcd went back in time: it is at revision %d and was seen at %d", rev, c.state.revision))
		}
		c.a.store.proven(at, rev)
		c.state.view.FreshAt = at
		if !at.IsZero() && stepped(at, time.Now()) {
			c.state.view.FreshAt = time.Time{}
		}
	}
	c.provenLocked()
	s := c.state
	s.view = c.withOwnPooler(s.view)
	rec, _ := c.a.store.store()
	s.view.Store, s.view.UID = rec.Incarnation, c.uid
	if rec.Incarnation != "" && rec.Stands(c.store) {
		s.view.Store = c.store // the plans in force stay so until there are newer ones
	}
	s.back = s.back || c.mirror != nil && !c.a.store.trusts(c.generation)
	if s.back {
		s.view.FreshAt = time.Time{} // nothing this etcd says can be ordered any more
	}
	return s
}

// foreign reports that the etcd at hand is another one than the plans came from,
// and nobody said that it stands in that one's place.
func (c *cluster) foreign() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.foreignLocked()
}

func (c *cluster) foreignLocked() bool {
	rec, _ := c.a.store.store()
	return rec.Incarnation != "" && c.store != "" && !rec.Stands(c.store)
}

// fresh is the test of R3's lease: may the agent overrule HAProxy's checks?
func fresh(v plan.View, now time.Time) bool {
	return v.Known && now.Sub(v.FreshAt) <= plan.FreshFor
}

package agent

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/jitter"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// Pauses after a primary record that could not be written. A conflict means that
// the mirror is about to hear something newer; anything else is etcd.
const (
	conflictPause = 50 * time.Millisecond
	errorPause    = 200 * time.Millisecond
	// confirmTick is the longest a decision rests although nothing happened.
	confirmTick = 5 * time.Second
)

// watchPostgres asks this node's own PostgreSQL for as long as there is one, and
// starts over when the plan moves it to another port.
func (c *cluster) watchPostgres(ctx context.Context) {
	for ctx.Err() == nil {
		own, ok := c.own()
		if !ok {
			select {
			case <-ctx.Done():
			case <-c.wakeLocal: // a plan says where this node's member listens
			}
			continue
		}
		w := c.a.o.Host.Postgres(c.name, own)
		c.mu.Lock()
		c.watcher = w
		c.mu.Unlock()
		part, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() {
			w.Run(part, func() {
				c.poolerAlone(w)
				poke(c.vip.wake)
				poke(c.wakeConfirm)
				poke(c.backups.wake)
				poke(c.streams.wake)
			})
		})
		for now, ok := own, true; ok && now.Port == own.Port && ctx.Err() == nil; now, ok = c.own() {
			select {
			case <-ctx.Done():
			case <-c.wakeLocal:
			}
		}
		stop()
		wg.Wait()
	}
}

func (c *cluster) own() (plan.Member, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.info.Own()
}

// confirmLoop decides whenever PostgreSQL or etcd has something new to say. Its
// only wait is the write to etcd itself: between "PostgreSQL takes writes" and that
// write there is one channel slot and nothing that could be in the way. Asking the
// leader's Patroni, which may take long, is a goroutine of its own.
func (c *cluster) confirmLoop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var probing sync.WaitGroup
	defer probing.Wait()
	asking := make(chan struct{}, 1)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wakeConfirm:
		case <-timer.C:
		}
		act := c.confirm(ctx)
		if act.Probe != nil {
			select {
			case asking <- struct{}{}:
				probing.Go(func() {
					c.probe(ctx, *act.Probe)
					<-asking
					poke(c.wakeConfirm)
				})
			default: // asked already; the answer wakes this loop
			}
		}
		wait := c.a.o.Beat.Next(time.Now(), confirmTick)
		switch {
		case act.Fast && act.After > 0:
			wait = act.After
		case act.After > 0:
			// The stagger of decideConfirm orders the agents; the jitter breaks ties
			// between those whose clocks or plans disagree.
			wait = act.After + jitter.N(20*time.Millisecond)
		}
		timer.Reset(wait)
	}
}

// basis is what a write is guarded by. One that failed is tried again at once when
// the mirror brings another basis, and after a pause on the same one.
type basis struct {
	epoch   plan.Epoch
	primary int64
}

// confirm decides and acts once. Only confirmLoop calls it.
func (c *cluster) confirm(ctx context.Context) action {
	c.mu.Lock()
	if c.watcher != nil {
		c.proofs.Local = c.watcher.Last()
	}
	s, info, p, watcher, foreign := c.lookLocked(), c.info, c.proofs, c.watcher, c.foreignLocked()
	before, timeline, altered := c.replication, c.recoveryTimeline, c.altered
	c.replication, c.recoveryTimeline = replication(p.Local, s.view.Leader.Member == info.Member), p.Local.RecoveryTimeline
	if p.Local.Reachable {
		c.altered = p.Local.Altered
	}
	changed := c.replication != before || c.recoveryTimeline != timeline || c.altered != altered
	c.mu.Unlock()
	if changed {
		poke(c.wakeWork) // the report says so
	}
	now := time.Now()
	if foreign || c.a.usurped.Load() {
		return action{}
	}
	defer c.noteLed(s, p.Local)
	c.sawWritable(s, info, p.Local, now)
	act := decideConfirm(c.a.o.Node, info, s, p, now)
	if watcher != nil {
		watcher.Fast(act.Fast)
	}
	c.setWhy(act.Why)
	if act.Write == nil {
		return act
	}
	on := basis{act.Epoch, act.PrimaryRev}
	if wait := c.notBefore.Sub(now); wait > 0 && on == c.failedOn {
		act.After = wait
		return act
	}
	if pause := c.writePrimary(ctx, act, p.Local.At); pause > 0 {
		c.notBefore, c.failedOn = time.Now().Add(pause), on
		act.After = pause
	}
	return act
}

// replication is what a report says of how the member follows. A PostgreSQL that
// was asked and does not answer waits: the first thing a new replica's agent sees
// must not pass for "nothing known against it".
func replication(local PostgresState, leads bool) string {
	switch {
	case leads, local.At.IsZero(), local.Reachable && !local.InRecovery:
		return ""
	case local.Streaming:
		return observed.ReplicationStreaming
	}
	return observed.ReplicationWaiting
}

// writePrimary writes the record under its guards and returns how long to wait
// before another attempt; 0 when it is done.
func (c *cluster) writePrimary(ctx context.Context, act action, asked time.Time) time.Duration {
	client := c.a.client.Load()
	if client == nil {
		return errorPause
	}
	l := c.a.o.Layout
	leader, primary := l.Leader(c.name), l.PrimaryKey(c.name)
	guards := []store.Guard{
		store.ValueIs(leader, []byte(act.LeaderIs)),
		store.ModIs(leader, int64(act.Epoch)),
		store.ModIs(primary, act.PrimaryRev),
	}
	if act.Leaderless {
		guards = []store.Guard{store.ModIs(leader, 0), store.ModIs(primary, act.PrimaryRev)}
	}
	rev, err := client.Commit(ctx, guards, []store.Op{store.Put(primary, observed.Encode(*act.Write))})
	c.a.wrote(err)
	log := c.log.With(zap.String("key", primary), zap.String("member", act.Write.Member),
		zap.Int64("epoch", act.Write.Epoch), zap.Int64("sequence", act.Write.Sequence), zap.Bool("writable", act.Write.Writable))
	switch {
	case errors.Is(err, store.ErrConflict):
		log.Debug("confirmation overtaken", zap.Error(err)) // somebody else was first: normal
		return conflictPause
	case errors.Is(err, store.ErrNoSpace):
		return time.Second
	case err != nil:
		if ctx.Err() == nil {
			log.Warn("confirmation not written", zap.Error(err))
		}
		return errorPause
	}
	now := time.Now()
	c.mu.Lock()
	moves := c.state.wrote(*act.Write, rev)
	if c.eventAt.IsZero() {
		c.eventAt = now
	}
	c.mu.Unlock()
	poke(c.vip.wake)
	poke(c.wakeRoutes)
	poke(c.sql.wake)
	poke(c.wakeWork)
	c.sawMoves(moves, false, now)
	kind := "own"
	switch {
	case !act.Write.Writable:
		kind = "withdraw"
	case act.Write.Node != c.a.o.Node:
		kind = "other"
	default:
		c.a.metrics.confirmTime.WithLabelValues(c.name).Observe(now.Sub(asked).Seconds())
	}
	c.a.metrics.confirms.WithLabelValues(c.name, kind).Inc()
	log.Info("primary record written", zap.Int64("revision", rev), zap.String("kind", kind))
	return 0
}

// probe asks the leader's Patroni in place of the leader's agent.
func (c *cluster) probe(ctx context.Context, m plan.Member) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, ProbeTimeout)
	defer cancel()
	st, err := c.a.o.Host.Peers.Status(ctx, m)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proofs.Remote, c.proofs.RemoteMember, c.proofs.RemoteAt, c.proofs.RemoteErr = st, m.Name, asked, err
}

// setWhy records what stands in the way of a confirmation and says it once.
func (c *cluster) setWhy(why *observed.Condition) {
	c.mu.Lock()
	same := reflect.DeepEqual(c.why, why)
	c.why = why
	c.mu.Unlock()
	if same {
		return
	}
	poke(c.wakeWork)
	if why != nil {
		c.log.Warn("primary not confirmed", zap.String("reason", string(why.Reason)), zap.String("message", why.Message))
	}
}

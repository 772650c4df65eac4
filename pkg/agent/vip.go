package agent

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// vipConcern is the concern whose plan has the virtual address.
const vipConcern = "vip"

const (
	// actWithin is how old a decision may be when it is acted on: an agent that was
	// stopped between the two decides again. A late addition is taken back by the driver.
	actWithin = 250 * time.Millisecond
	// dropRetry is the pause after an address that could not be removed; the kernel
	// drops it by itself meanwhile.
	dropRetry = 200 * time.Millisecond
)

// vip follows the leader with the cluster's virtual address. Its loop is the only one
// that adds, refreshes and removes it; plan.Hold decides. What is asked of others
// (Patroni, etcd, the network) is asked by goroutines of their own, so nothing that
// answers late stands between a confirmation and the address.
type vip struct {
	c    *cluster
	wake chan struct{}
	// another: the plan has another address now, or none.
	another chan struct{}
	// wakeLease asks for a reading of the leader key's lease now.
	wakeLease chan struct{}
	// wakeNetwork asks the network who has the address now.
	wakeNetwork chan struct{}
	look        atomic.Bool // the kernel said that something changed
	writes      sync.WaitGroup

	// The cluster's mu guards the rest.
	want    *plan.Address
	known   plan.Holding // proofs and the host, as far as this goroutine's helpers know
	local   plan.LocalProof
	seen    time.Time // when Patroni last reached etcd, by the wall clock
	touched time.Time // last refresh
	looked  time.Time
	// given is the mod revision of the record that this agent gave up, whether or not
	// the write arrived.
	given        int64
	writing      bool
	notBefore    time.Time
	confirmedAt  time.Time // since when the address should have been taken
	clock        clock
	because      string
	why, problem *observed.Condition // of the decision; of the driver
	conflict     *observed.Condition
	byHand       *Override // what a person holds, as it was last decided with; nil: nothing
}

func newVIP(c *cluster) *vip {
	return &vip{
		c: c, wake: make(chan struct{}, 1), another: make(chan struct{}, 1),
		wakeLease: make(chan struct{}, 1), wakeNetwork: make(chan struct{}, 1),
	}
}

// follow sets the address to follow the leader with; nil: none.
func (v *vip) follow(a *plan.Address) {
	v.c.mu.Lock()
	v.followLocked(a)
	v.c.mu.Unlock()
}

func (v *vip) followLocked(a *plan.Address) {
	v.want = a
	poke(v.another)
}

// forget stops following the leader with the address. It is an error for as long as
// the address is on this host: the loop takes it off.
func (v *vip) forget(ctx context.Context, a plan.Address) error {
	v.follow(nil)
	held, err := v.c.a.o.Host.Addresses.Held(ctx, a)
	if err == nil && held {
		err = fmt.Errorf("%s is still on this host", a.Address)
	}
	return err
}

// inForce takes note of a plan that is in force as a whole. The caller holds mu, or is
// alone with the cluster.
func (v *vip) inForce(concern string, p plan.Plan) {
	if concern != vipConcern {
		return
	}
	if a, ok := plan.AddressOf(p); ok {
		v.followLocked(&a)
	} else {
		v.followLocked(nil)
	}
}

func (v *vip) wanted() *plan.Address {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	return v.want
}

// diff says whether the agent follows the leader with this address.
func (v *vip) diff(a plan.Address) plan.Diff {
	if now := v.wanted(); now == nil || *now != a {
		return plan.Diff{"the leader is not followed with it"}
	}
	return nil
}

// run follows one address after another until ctx ends, which leaves the address where
// it is: the kernel keeps it for as long as an upgrade takes, and not for longer.
func (v *vip) run(ctx context.Context) {
	for ctx.Err() == nil {
		a := v.wanted()
		if a == nil {
			select {
			case <-ctx.Done():
			case <-v.another:
			}
			continue
		}
		v.begin()
		part, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() {
			v.c.a.o.Host.Addresses.Watch(part, *a, func(bool) {
				v.look.Store(true)
				poke(v.wake)
			})
		})
		for _, f := range []func(context.Context, plan.Address){v.askPatroni, v.readLease, v.readNetwork, v.probe} {
			wg.Go(func() { f(part, *a) })
		}
		v.loop(part, *a)
		stop()
		wg.Wait()
		v.writes.Wait()
		if ctx.Err() == nil {
			v.end(ctx, *a)
		}
	}
}

func (v *vip) begin() {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	now := time.Now()
	v.known = plan.Holding{Began: now}
	v.local, v.touched, v.looked, v.confirmedAt = plan.LocalProof{}, time.Time{}, time.Time{}, time.Time{}
	v.because, v.why, v.problem, v.conflict, v.byHand, v.clock = "", nil, nil, nil, nil, newClock()
	v.look.Store(true)
}

// end removes an address that is followed no longer.
func (v *vip) end(ctx context.Context, a plan.Address) {
	for ctx.Err() == nil {
		removed, err := v.c.a.o.Host.Addresses.Drop(ctx, a)
		if err == nil {
			v.c.mu.Lock()
			v.hereLocked(a, false, false, time.Now())
			v.c.mu.Unlock()
			v.c.log.Info("virtual address is not followed any more", zap.String("address", a.Address), zap.Bool("was here", removed))
			return
		}
		v.c.log.Warn("virtual address not removed", zap.String("address", a.Address), zap.Error(err))
		idle.For(ctx, dropRetry)
	}
}

func (v *vip) loop(ctx context.Context, a plan.Address) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return // SIGTERM keeps everything
		case <-v.another:
			if now := v.wanted(); now == nil || *now != a {
				return
			}
		case <-v.wake:
		case <-timer.C:
		}
		timer.Reset(v.once(ctx, a))
	}
}

// once looks, decides and acts, and says when to do it again.
func (v *vip) once(ctx context.Context, a plan.Address) time.Duration {
	if !v.lookAtHost(ctx, a) {
		return dropRetry // without knowing what the host has nothing can be decided
	}
	now := time.Now()
	hand := v.hand(now)
	v.c.mu.Lock()
	h, unsaid := v.holdingLocked(a, now, hand.asHand())
	touched := v.touched
	v.c.mu.Unlock()
	d := plan.Hold(h, now)
	v.decided(h, d)
	v.handDecided(hand, d)
	if h.View.Leader.Member == h.Member && h.Lease.AskedAt.Before(h.LeaderAt) || h.Lease.AskedAt.Before(h.SteppedAt) {
		poke(v.wakeLease)
	}
	rhythm := v.c.a.o.Beat
	next := d.After
	if next >= plan.RefreshEvery {
		next = rhythm.Next(now, next)
	}
	due := touched.Add(rhythm.Next(touched, plan.RefreshEvery))
	switch {
	case d.Drop:
		if !v.drop(ctx, a, d) {
			return dropRetry
		}
	case d.Acquire, d.Keep && !now.Before(due):
		if !v.touch(ctx, a, d, now) {
			return min(next, dropRetry)
		}
	case d.Keep:
		next = min(next, due.Sub(now))
	case !h.OnHost:
		v.forgive()
	}
	if d.Announce {
		v.announce(ctx, a)
	}
	switch {
	case d.WriteHeld, d.WriteReleased:
		next = min(next, v.write(ctx, a, d.WriteHeld))
	case unsaid && !h.OnHost:
		next = min(next, v.write(ctx, a, false)) // the first try may not have arrived
	}
	return max(next, 0)
}

// touch adds or refreshes the address.
func (v *vip) touch(ctx context.Context, a plan.Address, d plan.HoldDecision, decided time.Time) bool {
	deadline := decided.Add(actWithin)
	if time.Now().After(deadline) {
		poke(v.wake) // the world may be another one
		return true
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	added, err := v.c.a.o.Host.Addresses.Hold(ctx, a, plan.AddressLifetime)
	now := time.Now()
	c := v.c
	if err != nil {
		v.failed(err)
		v.look.Store(true)
		return false
	}
	c.mu.Lock()
	since := v.confirmedAt
	v.touched, v.problem, v.confirmedAt = decided, nil, time.Time{}
	if added {
		v.known.AddedAt, v.known.Announced = now, 0
	}
	v.hereLocked(a, true, false, now)
	c.mu.Unlock()
	if !added {
		return true
	}
	v.announce(ctx, a)
	poke(v.wake) // the next announcement is due soon
	c.a.metrics.vipActs.WithLabelValues(c.name, "add").Inc()
	if !since.IsZero() {
		c.a.metrics.vipSeconds.WithLabelValues(c.name).Observe(now.Sub(since).Seconds())
	}
	c.log.Info("virtual address added", zap.String("address", a.Address), zap.String("because", d.Because))
	return true
}

// drop removes the address; it is gone when it returns true.
func (v *vip) drop(ctx context.Context, a plan.Address, d plan.HoldDecision) bool {
	// Letting go is not bounded by what the decision's time was.
	removed, err := v.c.a.o.Host.Addresses.Drop(ctx, a)
	if err != nil {
		v.failed(err)
		return false
	}
	now := time.Now()
	v.c.mu.Lock()
	v.problem = nil
	v.known.AddedAt = time.Time{}
	v.hereLocked(a, false, false, now)
	v.c.mu.Unlock()
	if removed {
		v.c.a.metrics.vipActs.WithLabelValues(v.c.name, "remove").Inc()
		v.c.log.Info("virtual address removed", zap.String("address", a.Address), zap.String("because", d.Because))
	}
	return true
}

func (v *vip) announce(ctx context.Context, a plan.Address) {
	if err := v.c.a.o.Host.Addresses.Announce(ctx, a); err != nil && ctx.Err() == nil {
		v.c.log.Warn("virtual address not announced", zap.String("address", a.Address), zap.Error(err))
	}
	v.c.mu.Lock()
	v.known.Announced++
	v.c.mu.Unlock()
}

// forgive forgets what the driver could not do with an address that is neither here
// nor wanted any more.
func (v *vip) forgive() {
	v.c.mu.Lock()
	had := v.problem != nil
	v.problem = nil
	v.c.mu.Unlock()
	if had {
		poke(v.c.wakeWork) // the report says so
	}
}

// failed notes what the driver could not do.
func (v *vip) failed(err error) {
	cond := plan.Condition(err)
	v.c.mu.Lock()
	news := v.problem == nil || *v.problem != cond
	v.problem = &cond
	v.c.mu.Unlock()
	if news {
		poke(v.c.wakeWork)
		v.c.log.Warn("virtual address", zap.Error(err))
	}
}

package agent

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// assertion is what a unit's routes were last held at.
type assertion struct {
	targets plan.Targets // nil once it lapsed
	last    plan.Targets // the same, also after that, for people
	epoch   plan.Epoch
	at      time.Time
	err     error
	why     []observed.Condition
}

// routeLoop is the only goroutine that talks to this cluster's HAProxy about
// routes. It wakes on every leader or primary event and every AssertEvery, reads
// the newest view and asserts it: a view that came and went while HAProxy was
// being told is skipped, the latest wins.
func (c *cluster) routeLoop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return // SIGTERM keeps everything: what was asserted stays, checks go on
		case <-c.wakeRoutes:
		case <-timer.C:
		}
		c.a.beat(c.name)
		timer.Reset(c.assertRoutes(ctx))
		c.lookForThaw()
	}
}

// routed is one unit with routes, and the plan it is part of.
type routed struct {
	concern string
	plan    plan.Plan
	reset   bool  // HAProxy was started or reloaded since: everything is an edge
	frozen  bool  // what people set by hand is theirs
	epoch   int64 // that routes go by; 0: a person's word
}

// assertRoutes asserts every route of the cluster once and says when to do it again.
func (c *cluster) assertRoutes(ctx context.Context) time.Duration {
	now := time.Now()
	c.mu.Lock()
	s, eventAt, work := c.lookLocked(), c.eventAt, c.routedLocked()
	c.eventAt = time.Time{}
	say := c.unsaid && fresh(s.view, now)
	c.unsaid = c.unsaid && !say
	c.mu.Unlock()
	if say {
		poke(c.wakeWork)
	}
	o, held := c.a.overrides.get(OverrideRoute, c.name, now)
	unsure := !fresh(s.view, now) || c.foreign() || c.a.usurped.Load()
	if c.noteHeld(o, held); !held && (unsure || c.a.waitsForPlans(now)) {
		c.lapse()
		return c.a.o.Beat.Next(now, AssertEvery)
	}
	for _, w := range work {
		if !unsure {
			w.epoch = int64(s.view.Last.Epoch)
		}
		units, why := c.routesOf(w.plan, s.view, now)
		for _, u := range units {
			u.HandsOff = w.frozen
			c.assertUnit(ctx, u, w, s.view, why, eventAt)
			c.repairedByRouter(w.concern, u.Unit)
			c.contest(u.Unit, now)
		}
	}
	now = time.Now()
	return nextAssert(s.view, now, c.a.o.Beat.Next(now, AssertEvery))
}

// noteHeld has the report say when a person began to hold routes, and when that
// ended.
func (c *cluster) noteHeld(o Override, held bool) {
	c.mu.Lock()
	before := c.heldRoute
	c.heldRoute = nil
	if held {
		c.heldRoute = &o
	}
	news := (before == nil) != !held || held && *before != o
	c.mu.Unlock()
	if news {
		poke(c.wakeWork)
	}
}

// lapse stops asserting: "health down" is a lease, and not re-issued it ends. What
// HAProxy's checks make of it meanwhile is unknown, so the next assertion is an edge.
func (c *cluster) lapse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for unit, last := range c.asserted {
		last.targets = nil
		c.asserted[unit] = last
	}
}

// nextAssert is the next beat, or earlier when a leader named and not confirmed is
// about to have been so for UnconfirmedFor.
func nextAssert(v plan.View, now time.Time, beat time.Duration) time.Duration {
	if v.Leader.Member == "" || v.Confirmed() {
		return beat
	}
	if left := v.Leader.Since.Add(plan.UnconfirmedFor).Sub(now); left > 0 && left < beat {
		return left
	}
	return beat
}

func (c *cluster) routedLocked() []routed {
	var out []routed
	for _, name := range slices.Sorted(maps.Keys(c.concerns)) {
		con := c.concerns[name]
		if con.loaded == nil && con.restored == nil {
			continue // its HAProxy was never started
		}
		for _, r := range con.inForce().Resources {
			if u, ok := r.(plan.Unit); ok && len(u.Routes) > 0 {
				out = append(out, routed{concern: name, plan: con.inForce(), reset: con.reset, frozen: c.freeze != nil || con.freeze != nil})
				con.reset = false
				break
			}
		}
	}
	return out
}

// assertUnit tells one HAProxy. An edge is anything that the last successful
// assertion did not say.
func (c *cluster) assertUnit(ctx context.Context, u plan.Unit, w routed, v plan.View, why []observed.Condition, eventAt time.Time) {
	c.mu.Lock()
	last := c.asserted[u.Unit]
	c.mu.Unlock()
	edge := w.reset || last.err != nil || last.targets == nil || !last.targets.Same(u.Targets)
	bounded, cancel := context.WithTimeout(ctx, AssertTimeout)
	defer cancel()
	moves, err := c.a.o.Host.Router.Assert(bounded, u, edge)
	now := time.Now()
	m := c.a.metrics
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.asserts.WithLabelValues(c.name, result).Inc()
	m.moves.WithLabelValues(c.name).Add(float64(moves))
	if err == nil && edge && !eventAt.IsZero() {
		m.moveSeconds.WithLabelValues(c.name).Observe(now.Sub(eventAt).Seconds())
	}
	unit, epoch := zap.String("unit", u.Unit), zap.Int64("epoch", int64(v.Leader.Epoch))
	switch {
	case err != nil && last.err == nil && ctx.Err() == nil:
		c.log.Warn("routes not asserted; HAProxy's checks decide", unit, epoch, zap.Error(err))
	case err == nil && edge:
		c.log.Info("routes asserted", unit, epoch, zap.Int("moves", moves), zap.String("leader", v.Leader.Member), zap.Bool("confirmed", v.Confirmed()))
	}
	c.mu.Lock()
	c.asserted[u.Unit] = assertion{targets: u.Targets, last: u.Targets, epoch: v.Leader.Epoch, at: now, err: err, why: why}
	var changed bool
	var moved []stamp
	if err == nil {
		changed, moved = updateFacts(c.facts, u)
	}
	c.mu.Unlock()
	c.routesMoved(moved, w.epoch, now)
	if changed || (err != nil) != (last.err != nil) {
		poke(c.wakeWork) // the report says where clients go
	}
}

// updateFacts records which servers each backend sends clients to, and says
// whether that changed and what of it is a move. Servers left as they are keep what was said of them, so
// the facts change on real moves only.
func updateFacts(facts map[string]string, u plan.Unit) (changed bool, moved []stamp) {
	for _, backend := range u.Targets.Backends() {
		servers, key := u.Targets[backend], "route."+backend
		old, known := facts[key]
		before := strings.Split(old, ",")
		var up []string
		left := false // as they are: at first nobody knows how that is
		for _, name := range slices.Sorted(maps.Keys(servers)) {
			t := servers[name]
			leave := t.Held == plan.Leave && t.Start == plan.Leave
			left = left || leave
			if t.Held.HoldsUp() || t.Held == plan.Leave && t.Start == plan.Up || leave && slices.Contains(before, name) {
				up = append(up, name)
			}
		}
		now := strings.Join(up, ",")
		if known && old == now {
			continue
		}
		facts[key], changed = now, true
		if known || !left {
			moved = append(moved, stamp{observed.Move{What: observed.MoveRoute, Name: backend, From: old, To: now}, !known})
		}
	}
	return changed, moved
}

package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// secretRetry is how soon a secret that was absent is looked for again: the server
// mints it in the same second in which it writes the first plan.
const secretRetry = time.Second

// workLoop applies the cluster's plans, one concern after another. It wakes on a
// new plan, on news about the leader (some resources wait for it), when something
// may have drifted, when a retry is due, and every DriftEvery to compare the host
// with what was applied.
func (c *cluster) workLoop(ctx context.Context) {
	defer c.events.end()
	c.life = ctx
	if !c.a.waitForPlans(ctx) {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wakeWork:
			if wait := c.settling(time.Now()); wait > 0 {
				c.followLeader(ctx)
				timer.Reset(wait)
				due = time.Now().Add(wait)
				continue
			}
		case <-c.events.wake:
			now := time.Now()
			if at := now.Add(max(c.events.wait(now), c.settling(now))); at.Before(due) {
				due = at
				timer.Reset(at.Sub(now))
			}
			continue
		case <-timer.C:
		}
		next := c.pass(ctx)
		due = time.Now().Add(next)
		timer.Reset(next)
	}
}

// settling says how long the work waits for a move of the leader to be over.
// Comparing the host and reporting what moved, on every node at once and with
// what the reports set off on the server, takes CPU in the very moment in which
// all clients log in to the new primary.
func (c *cluster) settling(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asserted) == 0 || c.state.view.Leader.Member == "" {
		return 0 // nothing is routed here yet, or nobody leads
	}
	return c.state.view.Leader.Since.Add(SettleAfterMove).Sub(now)
}

// pass brings every concern as far as it goes now and says when to come again.
func (c *cluster) pass(ctx context.Context) time.Duration {
	if c.a.usurped.Load() {
		return DriftEvery
	}
	c.events.begin(time.Now())
	c.take()
	if c.forgetRemoved(ctx) {
		return DriftEvery // nothing of the cluster is here any more
	}
	c.mu.Lock()
	names := slices.SortedFunc(maps.Keys(c.concerns), byOrder)
	c.mu.Unlock()
	next := DriftEvery
	for _, name := range names {
		if ctx.Err() != nil {
			return next
		}
		next = min(next, c.converge(ctx, name))
	}
	c.freezePooler()
	c.watch(ctx)
	return min(next, c.turnOver(time.Now()))
}

// converge resolves one concern's plan, applies what applies now, and reports.
func (c *cluster) converge(ctx context.Context, name string) time.Duration {
	c.mu.Lock()
	con, s := c.concerns[name], c.lookLocked()
	p, rev := con.plan, con.rev
	c.mu.Unlock()
	now := time.Now()
	var conds []observed.Condition
	ok := false
	next := DriftEvery
	frozen := c.frozenConcern(con, p, now)
	c.mu.Lock()
	con.thawing(frozen != nil, now)
	c.mu.Unlock()
	if frozen != nil {
		conds, next = append(conds, frozen.note(c.name, c.a.o.Node)), min(next, frozen.left(now))
	} else if con.unsaved {
		c.keepPlan(con, kept{Revision: rev, Plan: p}, false)
	}
	if con.notKept != nil {
		conds = append(conds, *con.notKept)
	}
	if rev > 0 && p.Removal != nil {
		return c.retire(ctx, con, p, rev, s, frozen, conds)
	}
	if rev > 0 {
		apply, drop, why := c.resolve(p, s.view, now)
		if changed := c.a.store.changed(); changed != nil {
			why, drop = append([]observed.Condition{*changed}, why...), nil
		}
		conds, ok = append(conds, why...), !anyBad(why, observed.Applied)
		// A missing secret does not stop here: what was loaded with it before can be
		// kept so without it, and the driver knows.
		if cond := c.secretsFor(ctx, con, p); cond != nil {
			conds, ok, next = append(conds, *cond), false, secretRetry
		}
		// What is dropped would do harm if it stayed: it follows the leader, frozen or not.
		for _, r := range drop {
			if err := c.remove(ctx, r, s.view.Leader.Epoch); err != nil {
				conds, ok = append(conds, plan.Condition(err)), false
			}
		}
		for _, r := range apply {
			if _, is := r.(plan.SQL); is {
				cond, answered := c.sql.answer(p)
				if !answered && now.Sub(con.received) < sqlAnswer {
					return sqlAnswer // its end wakes this loop
				}
				ok = ok && !cond.Bad() && c.sql.clean()
				conds = append(conds, cond)
				continue
			}
			if plan.Absent(r) {
				if frozen != nil {
					continue
				}
				if err := c.remove(ctx, r, s.view.Leader.Epoch); err != nil {
					conds, ok = append(conds, plan.Condition(err)), false
				}
				c.forgetApplied(con, r)
				continue
			}
			if frozen != nil {
				if c.followFrozen(ctx, con, r, s.view.Leader.Epoch) {
					c.named(con, r, s, time.Now())
				}
				if cond := c.compareOnly(ctx, con, r, frozen); cond.Bad() {
					conds, ok = append(conds, cond), false
				}
				continue
			}
			cond, wait := c.applyOne(ctx, con, knowingly(r, s.view, now), s.view.Leader.Epoch)
			if cond.Bad() {
				conds, ok, next = append(conds, cond), false, min(next, wait)
				break // resources are ordered: what follows builds on this one
			}
			c.named(con, r, s, time.Now())
		}
	}
	c.settle(con, p, rev, ok)
	returns, left := c.fighting(con, time.Now())
	c.submit(con, append(conds, returns...), s, now)
	c.keepWritten(con)
	return min(next, left, leaderNext(s, now))
}

// forgetApplied forgets that a resource was ever there: wanted again, it is no drift.
func (c *cluster) forgetApplied(con *concern, r plan.Resource) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(con.applied, r.ID())
	if u, ok := r.(plan.Unit); ok {
		delete(con.prepared, u.Unit)
	}
}

// knowingly takes the targets off a unit when the view is too old to have any: a
// HAProxy that runs keeps its routes over the reload, instead of starting with
// every read-write server down until a check has passed twice.
func knowingly(r plan.Resource, v plan.View, now time.Time) plan.Resource {
	if u, ok := r.(plan.Unit); ok && !fresh(v, now) {
		u.Targets = nil
		return u
	}
	return r
}

// secretsFor fetches what the plan's files need, and says what is missing.
func (c *cluster) secretsFor(ctx context.Context, con *concern, p plan.Plan) *observed.Condition {
	err := c.secrets.ensure(ctx, c.secretSource(), p.Secrets)
	if err == nil {
		if con.waiting {
			c.mu.Lock()
			con.waiting = false
			clear(con.failing) // tried at once, not after the pause of an attempt without it
			c.mu.Unlock()
		}
		return nil
	}
	cond := waiting(err)
	if !con.waiting && ctx.Err() == nil {
		c.log.Warn("secret not available", zap.String("concern", con.name), zap.Error(err))
	}
	con.waiting = true
	return &cond
}

func (c *cluster) secretSource() getter {
	if client := c.a.client.Load(); client != nil {
		return client
	}
	return nil
}

func waiting(err error) observed.Condition {
	cond := observed.Condition{Type: observed.Applied, Status: observed.False, Reason: observed.WaitingForSecret, Message: err.Error()}
	if !errors.Is(err, errNoSecret) {
		cond.Status = observed.Unknown // etcd could not be asked
	}
	return cond
}

func anyBad(cs []observed.Condition, t observed.Type) bool {
	return slices.ContainsFunc(cs, func(c observed.Condition) bool { return c.Type == t && c.Bad() })
}

// settle records that the plan as a whole is in force.
func (c *cluster) settle(con *concern, p plan.Plan, rev int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !ok || con.rev != rev || c.freeze != nil && con.name == vipConcern && len(p.Resources) == 0 {
		return
	}
	if con.name == backupConcern && (con.loaded == nil || !con.received.IsZero()) {
		poke(c.backups.wake)
	}
	con.loaded = &p
	con.thaws = c.freeze != nil || con.freeze != nil
	c.vip.inForce(con.name, p)
	if !con.received.IsZero() {
		took := time.Since(con.received)
		con.received = time.Time{}
		c.a.metrics.converge.WithLabelValues(con.name).Observe(took.Seconds())
		c.log.Info("plan in force", zap.String("concern", con.name), zap.Int64("revision", rev), zap.Duration("took", took))
	}
}

// applyOne makes one resource so. It returns what became of it, and when to try
// again when that is bad.
func (c *cluster) applyOne(ctx context.Context, con *concern, r plan.Resource, at plan.Epoch) (observed.Condition, time.Duration) {
	hash := plan.Hash(plan.Resources{r}, con.plan.Secrets)
	id := r.ID()
	failed := con.failing[id]
	if failed != nil && failed.hash == hash {
		if wait := time.Until(failed.retryAt); wait > 0 {
			return failed.cond, wait
		}
	}
	ctx, cancel := context.WithTimeout(ctx, ApplyTimeout)
	defer cancel()
	diff, err := c.diff(ctx, r)
	if err == nil && !diff.Empty() {
		c.noteDrift(con, id, hash, diff)
		if cond, wait := c.holdBack(con, id, hash, time.Now()); wait > 0 {
			return cond, wait
		}
		if cond, wait := c.waitsForTurn(con, r, diff); wait > 0 {
			return cond, wait
		}
		err = c.apply(ctx, con, r, at)
		c.turnUsed(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.repaired(con, id)
		if con.name == backupConcern && con.applied[id] != hash {
			poke(c.backups.wake) // it goes by the file, whatever becomes of what follows
		}
		con.applied[id] = hash
		con.wrote(r, hash)
		delete(con.failing, id)
		return plan.Condition(nil), 0
	}
	if failed == nil || failed.hash != hash {
		failed = &failure{hash: hash, wait: newBackoff(500*time.Millisecond, RetryCap)}
		con.failing[id] = failed
	}
	cond := plan.Condition(err)
	cond.Message = id + ": " + cond.Message
	var refusal *plan.Refusal
	if errors.As(err, &refusal) && refusal.Document != "" {
		cond.Key = c.a.o.Layout.ClusterDoc(c.name, refusal.Document)
		if refusal.Next == "" {
			cond.Next = fmt.Sprintf("pgctrl get %s %s", c.name, refusal.Document)
		}
	}
	wait := failed.wait.NextBackOff()
	if cond != failed.cond && !errors.Is(err, context.Canceled) {
		c.log.Warn("resource not applied", zap.String("concern", con.name), zap.String("resource", id),
			zap.Int64("revision", con.rev), zap.Int64("epoch", int64(at)), zap.Error(err))
	}
	failed.cond, failed.retryAt = cond, time.Now().Add(wait)
	return cond, wait
}

// noteDrift counts a host that is no longer what this process made it, and each
// other way in which it comes to differ before that is repaired.
func (c *cluster) noteDrift(con *concern, id, hash string, diff plan.Diff) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, already := con.drifted[id]
	if con.applied[id] != hash && d.hash != hash || already && d.what == diff.String() {
		return // not applied yet, so a change and no drift; or known
	}
	c.driftedLocked(con, id, hash, diff)
	c.log.Warn("host drifted; repairing", zap.String("concern", con.name), zap.String("resource", id), zap.Strings("diff", diff))
}

func (c *cluster) driftedLocked(con *concern, id, hash string, diff plan.Diff) {
	con.undrift(id)
	con.drifted[id] = drifted{what: diff.String(), hash: hash}
	con.fight(drift{id, diff.String()}).noticed(time.Now(), c.events.seen(id), diff.String())
	delete(con.applied, id)
	c.a.metrics.drift.WithLabelValues(con.name, id).Inc()
}

// undrift forgets drift that no repair of ours ended.
func (con *concern) undrift(id string) {
	if d, ok := con.drifted[id]; ok {
		con.fight(drift{id, d.what}).since = time.Time{}
		delete(con.drifted, id)
	}
}

// repaired notes for the report that drift was undone (R9). The caller holds mu.
func (c *cluster) repaired(con *concern, id string) {
	d, ok := con.drifted[id]
	if !ok {
		return
	}
	delete(con.drifted, id)
	f := con.fight(drift{id, d.what})
	took := f.repaired(time.Now())
	c.a.metrics.repairTime.WithLabelValues(con.name).Observe(took.Seconds())
	con.noteRepair(id, d.what, f)
}

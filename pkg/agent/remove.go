package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// A concern leaves the host in three steps, each answered before the next:
//
//  1. its plan becomes a removal. The agent undoes what applying made, last concern
//     first, and reports Applied with reason Removed;
//  2. the controller deletes the plan's key;
//  3. the agent forgets the plan on disk and deletes its report. With the last
//     concern it stops following the cluster.
//
// A plan's key that vanishes in any other state means keep (R6).

// retire undoes a concern's resources as far as it may now, and reports.
func (c *cluster) retire(ctx context.Context, con *concern, p plan.Plan, rev int64, s state, frozen *freeze, conds []observed.Condition) time.Duration {
	now := time.Now()
	next := DriftEvery
	if con.removed == "" {
		cond, wait := c.retireNow(ctx, con, p, s, frozen, now)
		if cond.Bad() {
			conds, next = append(conds, cond), min(next, wait)
		}
	}
	if con.removed != "" {
		c.settle(con, p, rev, true)
	}
	c.submit(con, conds, s, now)
	return next
}

// retireNow removes what may be removed; a good condition means all of it.
func (c *cluster) retireNow(ctx context.Context, con *concern, p plan.Plan, s state, frozen *freeze, now time.Time) (observed.Condition, time.Duration) {
	wait := func(r observed.Reason, msg string) (observed.Condition, time.Duration) {
		return observed.Condition{Type: observed.Applied, Status: observed.False, Reason: r, Message: msg}, time.Second
	}
	if changed := c.a.store.changed(); changed != nil {
		return *changed, DriftEvery
	}
	_, drop, why := plan.Resolve(p, s.view, now)
	for _, cond := range why {
		if cond.Bad() {
			return cond, time.Second
		}
	}
	if frozen != nil {
		cond, _ := wait(observed.Frozen, fmt.Sprintf("it is to be removed and is left as it is %s", frozen.lasts()))
		cond.Next = frozen.next(c.name, c.a.o.Node)
		return cond, DriftEvery
	}
	if first := c.before(con.name); first != "" {
		return wait(observed.Removing, first+" is removed first")
	}
	var did []string
	for _, r := range drop {
		if cond, pause := c.removeOne(ctx, con, r, s.view.Leader.Epoch); cond.Bad() {
			return cond, pause
		}
		switch r := r.(type) {
		case plan.Unit:
			what := " stopped and disabled, its files removed"
			if r.Adopted {
				what = " runs on without the files of pgctrl"
			}
			did = append(did, r.Unit+what)
		case plan.Address:
			did = append(did, r.Address+" taken down")
		case plan.Watched:
			did = append(did, r.File+" removed")
		case plan.SQL:
			did = append(did, "roles and databases are looked after no more")
		}
	}
	said := strings.Join(did, ", ")
	if data := p.Removal.Data; data != "" && c.a.o.Host.SetAside != nil {
		where, err := c.a.o.Host.SetAside(ctx, data, p.UID)
		if err != nil {
			cond := plan.Condition(err)
			cond.Message = "set aside " + data + ": " + cond.Message
			return cond, 5 * time.Second
		}
		if where != "" {
			said += "; its data are kept in " + where
		}
	}
	c.log.Warn("removed", zap.String("concern", con.name), zap.Int64("revision", con.rev), zap.String("what", said))
	c.mu.Lock()
	con.removed = said
	for _, r := range drop {
		if u, ok := r.(plan.Unit); ok {
			delete(c.asserted, u.Unit)
			delete(con.prepared, u.Unit)
		}
	}
	clear(con.applied)
	c.mu.Unlock()
	if err := c.a.keeper.save(c.name, con.name, kept{Revision: con.rev, Plan: p, Removed: said}); err != nil {
		// A start that does not find it would remove once more, which finds nothing to do.
		c.log.Error("removal not noted on disk", zap.String("concern", con.name), zap.Error(err))
	}
	return plan.Condition(nil), 0
}

// before is a concern of the cluster that is removed earlier than the named one and
// is not gone yet: the reverse of the order of applying.
func (c *cluster) before(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for other, con := range c.concerns {
		if con.plan.Removal != nil && con.removed == "" && byOrder(other, name) > 0 {
			out = append(out, other)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return slices.MaxFunc(out, byOrder)
}

// removeOne undoes one resource; after a failure it waits longer and longer.
func (c *cluster) removeOne(ctx context.Context, con *concern, r plan.Resource, at plan.Epoch) (observed.Condition, time.Duration) {
	id := "remove " + r.ID()
	failed := con.failing[id]
	if failed != nil {
		if wait := time.Until(failed.retryAt); wait > 0 {
			return failed.cond, wait
		}
	}
	err := c.remove(ctx, r, at)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		delete(con.failing, id)
		return plan.Condition(nil), 0
	}
	if failed == nil {
		failed = &failure{wait: newBackoff(500*time.Millisecond, RetryCap)}
		con.failing[id] = failed
	}
	cond := plan.Condition(err)
	cond.Message = id + ": " + cond.Message
	if cond != failed.cond && !errors.Is(err, context.Canceled) {
		c.log.Warn("resource not removed", zap.String("concern", con.name), zap.String("resource", r.ID()), zap.Error(err))
	}
	wait := failed.wait.NextBackOff()
	failed.cond, failed.retryAt = cond, time.Now().Add(wait)
	return cond, wait
}

// forgetRemoved forgets concerns that were removed and whose plans' keys are gone
// since, deletes their reports, and ends the cluster with the last one; it reports
// whether it did.
func (c *cluster) forgetRemoved(ctx context.Context) (ended bool) {
	c.mu.Lock()
	var gone []string
	for name, con := range c.concerns {
		if con.removed != "" && (c.gone[name] || con.kept && c.a.planAbsent(c.name, name)) {
			gone = append(gone, name)
		}
	}
	last := len(gone) == len(c.concerns) && len(c.arrived) == 0
	c.mu.Unlock()
	client := c.a.client.Load()
	if len(gone) == 0 || client == nil {
		return false
	}
	if last {
		if err := c.moves.forget(ctx, client); err != nil {
			c.log.Warn("record of moves of what was removed not deleted; trying again", zap.Error(err))
			return false
		}
	}
	for _, name := range gone {
		key := c.a.o.Layout.ObservedKey(c.a.o.Node, c.name, name)
		c.a.reports.forget(key)
		if _, err := client.Commit(ctx, nil, []store.Op{store.Delete(key)}); err != nil {
			c.log.Warn("report of what was removed not deleted; trying again", zap.String("key", key), zap.Error(err))
			return false
		}
		if err := c.a.keeper.forget(c.name, name); err != nil {
			c.log.Error("removed plan stays on disk", zap.Error(err))
		}
		c.mu.Lock()
		delete(c.concerns, name)
		delete(c.gone, name)
		c.mu.Unlock()
		c.log.Info("removed plan forgotten", zap.String("concern", name))
	}
	return c.a.end(c)
}

// planAbsent reports that etcd has been heard on this node's plans and has none
// for the concern.
func (a *Agent) planAbsent(cluster, concern string) bool {
	m := a.plans.Load()
	if m == nil {
		return false
	}
	select {
	case <-m.Ready():
	default:
		return false
	}
	_, there := m.Snapshot().Get(a.o.Layout.PlanKey(a.o.Node, cluster, concern))
	return !there
}

// end stops following a cluster that has nothing on this host. A plan that came in
// the meantime keeps it.
func (a *Agent) end(c *cluster) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.concerns) > 0 || len(c.arrived) > 0 || a.clusters[c.name] != c {
		return false
	}
	c.ended = true
	delete(a.clusters, c.name)
	delete(a.beats, c.name)
	if c.stop != nil {
		c.stop()
	}
	if err := a.keeper.forgetLed(c.name); err != nil {
		c.log.Error("what is left of the cluster stays on disk", zap.Error(err))
	}
	c.log.Info("nothing of the cluster is left here; no longer following it")
	return true
}

// bornAgain makes way for a new cluster under the name of one that was removed from
// this host: what is known of the old one's leader and primary must not speak for
// the new one. The plans that came are handed to the successor.
func (c *cluster) bornAgain(es []kv.KV, byKey map[string]string) bool {
	c.mu.Lock()
	uid, names := c.uid, []string{}
	again := len(c.concerns) > 0
	for name, con := range c.concerns {
		again = again && con.removed != ""
		names = append(names, name)
	}
	c.mu.Unlock()
	if !again || !slices.ContainsFunc(es, func(e kv.KV) bool {
		p, err := plan.Decode(e.Value)
		return err == nil && p.UID != uid && p.Cluster.Name == c.name
	}) {
		return false
	}
	for _, name := range names {
		if err := c.a.keeper.forget(c.name, name); err != nil {
			c.log.Error("removed plan stays on disk", zap.Error(err))
		}
	}
	c.mu.Lock()
	clear(c.concerns)
	clear(c.arrived)
	c.uid, c.store = "", ""
	c.mu.Unlock()
	if !c.a.end(c) {
		return false
	}
	for _, e := range es {
		c.a.clusterFor(c.name, true).received(byKey[e.Key], store.Change{Key: e.Key, New: &e})
	}
	return true
}

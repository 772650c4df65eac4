package agent

import (
	"context"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// poolerConcern is the concern whose program this agent vouches for.
const poolerConcern = "pgbouncer"

// pooler is what the agent knows of its own member's pooler. Guarded by the cluster's mu.
type pooler struct {
	watcher PoolerWatcher // nil: there is none to watch
	state   PoolerState
	member  string
	alone   bool          // its PostgreSQL takes no connections
	told    string        // what was stamped last; empty: nothing
	news    chan struct{} // there is something else to vouch for; nil without a watcher
}

// said is what to vouch for, and for whom; false while nothing is known.
func (p *pooler) said(uid, node string) (observed.Ready, bool) {
	if p.watcher == nil || !p.state.Known {
		return observed.Ready{}, false
	}
	r := observed.Ready{Schema: observed.Schema, UID: uid, Member: p.member, Node: node, Pooler: observed.PoolerUp}
	switch {
	case !p.state.Up:
		r.Pooler, r.Why = observed.PoolerDown, p.state.Why
	case p.alone:
		r.Pooler, r.Why = observed.PoolerAlone, "its PostgreSQL takes no connections"
	}
	return r, true
}

// watchPooler watches this node's own pooler for as long as a plan has one, and
// vouches for it. Nobody else can say so soon that it died: HAProxy's checks ask
// Patroni.
func (c *cluster) watchPooler(ctx context.Context) {
	if c.a.o.Host.Pooler == nil {
		return
	}
	for ctx.Err() == nil {
		own, ok := c.pooled()
		if !ok {
			select {
			case <-ctx.Done():
			case <-c.wakePool:
			}
			continue
		}
		w := c.a.o.Host.Pooler(c.name)
		news := make(chan struct{}, 1)
		c.mu.Lock()
		c.pool = pooler{watcher: w, member: own.Name, news: news, alone: c.watcher != nil && c.watcher.Last().Refused}
		c.mu.Unlock()
		c.freezePooler()
		part, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { w.Run(part, func() { c.poolerChanged(w); poke(news) }) })
		removed := c.vouch(ctx, own, news)
		for now, ok := own, true; ok && now.Name == own.Name && ctx.Err() == nil; now, ok = c.pooled() {
			select {
			case <-ctx.Done():
			case <-c.wakePool:
			}
		}
		stop()
		wg.Wait()
		if ctx.Err() != nil {
			return // SIGTERM leaves the key to its lease, as it is
		}
		removed()
		c.mu.Lock()
		c.pool = pooler{}
		c.mu.Unlock()
	}
}

// pooled is this node's member while a plan gives it a pooler.
func (c *cluster) pooled() (plan.Member, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	con := c.concerns[poolerConcern]
	if con == nil || con.rev == 0 && !con.kept || con.plan.Removal != nil || con.removed != "" {
		return plan.Member{}, false
	}
	return c.info.Own()
}

// poolerChanged takes in what the watcher found. The own view has it at once, without
// the way through etcd.
func (c *cluster) poolerChanged(w PoolerWatcher) {
	s, now := w.Last(), time.Now()
	c.mu.Lock()
	before := c.pool.state
	c.pool.state = s
	c.mu.Unlock()
	if s != before {
		log := c.log.Info
		if !s.Up {
			log = c.log.Warn
		}
		log("pooler", zap.Bool("up", s.Up), zap.String("why", s.Why))
		poke(c.wakeRoutes)
		poke(c.wakeWork)
		c.mu.Lock()
		c.moves.poolerLocked(now)
		c.mu.Unlock()
	}
	for _, r := range w.Repairs() {
		c.repairedByHand(poolerConcern, "pgbouncer@"+c.name+".service", r)
	}
}

// poolerAlone takes in whether the PostgreSQL behind the pooler takes connections.
// PgBouncer answers new clients with an error while it does not, in a planned move for
// more than a second (measured); HAProxy holds them, if the member is not in its way.
func (c *cluster) poolerAlone(w PostgresWatcher) {
	alone, now := w.Last().Refused, time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pool.alone == alone {
		return
	}
	c.pool.alone = alone
	if c.pool.news != nil {
		poke(c.pool.news)
		poke(c.wakeRoutes)
		poke(c.wakeWork)
	}
	c.moves.poolerLocked(now)
}

// vouch keeps the member's ready key, once this agent may speak for its node. It ends
// with the agent's presence, or, when the pooler is to go, by the returned function.
func (c *cluster) vouch(ctx context.Context, own plan.Member, news <-chan struct{}) (removed func()) {
	presence, stop := context.WithCancel(c.a.presence)
	c.a.vouching.Go(func() {
		defer stop()
		client, ok := c.a.admittedClient(ctx)
		if !ok {
			return
		}
		err := client.Keep(presence, store.Presence{
			Key: c.a.o.Layout.ReadyKey(c.name, own.Name), TTL: PresenceTTL, Beat: c.a.o.Beat, Poke: news, Wrote: c.a.wrote,
			Value: func() []byte {
				c.mu.Lock()
				defer c.mu.Unlock()
				if r, known := c.pool.said(c.uid, c.a.o.Node); known && !c.a.usurped.Load() {
					return observed.Encode(r)
				}
				return nil
			},
		})
		if err != nil {
			c.log.Error("ready key not kept", zap.Error(err))
		}
	})
	return stop
}

// withOwnPooler is the view with this node's own word for its pooler, which is newer
// than what etcd says of it. The caller holds mu.
func (c *cluster) withOwnPooler(v plan.View) plan.View {
	r, known := c.pool.said(c.uid, c.a.o.Node)
	if !known || v.Ready[r.Member] == r {
		return v
	}
	v.Ready = maps.Clone(v.Ready)
	if v.Ready == nil {
		v.Ready = map[string]observed.Ready{}
	}
	v.Ready[r.Member] = r
	return v
}

// reportPooler adds to a report how the pooler is. The caller holds mu.
func (c *cluster) reportPooler(r *observed.Report) {
	said, known := c.pool.said("", "")
	if !known {
		return
	}
	r.Facts[observed.FactPooler] = said.Pooler
	if said.Pooler == observed.PoolerDown {
		r.Conditions = append(r.Conditions, observed.Condition{
			Type: observed.Healthy, Status: observed.False, Reason: observed.PoolerNotServing,
			Message: "PgBouncer of " + said.Member + " takes no clients: " + said.Why,
			Next:    "journalctl -n 30 -u pgbouncer@" + c.name,
		})
	}
}

// freezePooler tells the watcher whether what people pause is theirs.
func (c *cluster) freezePooler() {
	c.mu.Lock()
	defer c.mu.Unlock()
	con := c.concerns[poolerConcern]
	if c.pool.watcher != nil && con != nil {
		c.pool.watcher.HandsOff(c.freeze != nil || con.freeze != nil)
	}
}

package agent

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// keptStore is what kept plans tell of the store they came from.
func keptStore(all map[string]map[string]kept) observed.StoreSeen {
	var seen observed.StoreSeen
	for _, concerns := range all {
		for _, k := range concerns {
			if k.Revision > seen.Revision {
				seen = observed.StoreSeen{Incarnation: k.Plan.Store, Revision: k.Revision}
			}
		}
	}
	return seen
}

// knowStore judges the etcd before anything of it is followed: a restored one names
// last week's leader, and its confirmation with it.
func (a *Agent) knowStore(ctx context.Context, client *store.Client) bool {
	wait := newBackoff(200*time.Millisecond, 5*time.Second)
	for {
		// A list has its revision from the same moment.
		kvs, rev, err := client.List(ctx, a.o.Layout.StoreKey())
		if err == nil {
			var rec observed.Store
			if len(kvs) > 0 {
				if rec, err = observed.Decode[observed.Store](kvs[0]); err != nil {
					a.log.Warn("store record can't be read", zap.String("key", kvs[0].Key), zap.Error(err))
				}
			}
			a.store.look(rec, rev)
			return true
		}
		if ctx.Err() == nil && a.setProblem(err.Error()) {
			a.log.Warn("etcd could not be asked which one it is", zap.Error(err))
		}
		if !idle.For(ctx, wait.NextBackOff()) {
			return false
		}
	}
}

// storeChanged takes the store's record as it is now. The revision of a watch says
// nothing here: other watches may be ahead of it.
func (a *Agent) storeChanged(ch store.Change) {
	if ch.New == nil {
		return // absence says nothing
	}
	rec, err := observed.Decode[observed.Store](*ch.New)
	if err != nil {
		a.log.Warn("store record can't be read", zap.String("key", ch.Key), zap.Error(err))
		return
	}
	a.store.look(rec, 0)
}

// watchStore acts on what the guard found, and keeps its memory on disk.
func (a *Agent) watchStore(ctx context.Context) {
	tick := time.NewTicker(saveStoreEvery)
	defer tick.Stop()
	defer a.store.save()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.store.save()
		case <-a.store.news:
			poke(a.restock)
			for _, c := range a.all() {
				c.storeNews()
			}
		}
	}
}

// storeNews begins anew when the store is another one that is trusted, and looks
// again at the plans that were refused because of the one before.
func (c *cluster) storeNews() {
	_, generation := c.a.store.store()
	c.mu.Lock()
	again := c.refollow != nil && c.generation != generation
	if again {
		c.refollow()
	}
	c.mu.Unlock()
	if m := c.a.plans.Load(); m != nil && c.a.store.changed() == nil {
		for _, e := range m.Snapshot().Range(c.a.o.Layout.NodePlans(c.a.o.Node)) {
			if ref, err := c.a.o.Layout.Parse(e.Key); err == nil && ref.Cluster == c.name && c.refused(ref.Concern) {
				c.received(ref.Concern, store.Change{Key: e.Key, New: &e})
			}
		}
	}
	c.wakeAll()
}

// refused reports whether a concern's newest plan is not the one that is worked with.
func (c *cluster) refused(concern string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	con := c.concerns[concern]
	return con == nil || con.refusal != nil
}

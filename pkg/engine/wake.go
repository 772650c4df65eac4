package engine

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// interest is one controller's access to a family, seen from the family.
type interest struct {
	controller string
	access
	// own: the controller writes there.
	own bool
}

// changed is called by the mirrors with every batch of changes. It only notes who
// has to look again.
func (e *Engine) changed(cs []store.Change) {
	e.mu.Lock()
	defer e.mu.Unlock()
	everywhere := map[string]Class{}
	near := newNear(e, cs)
	for _, c := range cs {
		at, ok := e.atlas.locate(c.Key)
		if !ok {
			continue
		}
		e.count(at, c)
		if e.queue == nil {
			continue // not leading: the first pass of a term looks at everything
		}
		class := urgency(at)
		for _, i := range e.interests[at.family] {
			switch {
			case i.part != "" && i.part != at.part:
			case e.byName[i.controller].shared:
				if i.fleet || at.cluster == "" || at.cluster == keys.NodeCluster {
					e.add(Key{i.controller, keys.NodeCluster}, class, delay(at))
				}
			case i.fleet && at.cluster != "" && e.o.Concerned != nil:
				for _, cluster := range near.of(at.cluster) {
					e.add(Key{i.controller, cluster}, class, 0)
				}
			case at.cluster == "" || i.fleet:
				everywhere[i.controller] = max(everywhere[i.controller], class)
			case at.cluster == keys.NodeCluster:
				// What clusters share is planned by those who say so; its reports concern no cluster.
			case e.clusters[at.cluster] > 0 || known(at.family) || i.own:
				// The last document of a cluster is still a change to the cluster; and what its
				// own controller wrote may arrive after it, which is to be looked at again.
				e.add(Key{i.controller, at.cluster}, class, delay(at))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(everywhere)) {
		for cluster := range e.clusters {
			e.add(Key{name, cluster}, everywhere[name], 0)
		}
	}
}

// add queues a key of a cluster that can be one, for when d has passed.
func (e *Engine) add(k Key, c Class, d time.Duration) {
	if keys.CheckCluster(k.Cluster) == nil || k.Cluster == keys.NodeCluster {
		e.queue.AddIn(k, c, d)
	}
}

// settle is how long controllers look away when the leader moves. A move needs
// nothing of them (R1), and is several keys within half a second: meanwhile the
// etcd that Patroni and the agents write the move to has them alone.
const settle = 500 * time.Millisecond

// delay is how long a change waits before controllers look at it.
func delay(at located) time.Duration {
	switch at.family {
	case keys.Primary, keys.VIP, keys.Ready, keys.PatroniKey:
		return settle
	}
	return 0
}

// urgency is the class a change puts keys into.
func urgency(at located) Class {
	switch at.family {
	case keys.Primary, keys.VIP:
		return Failover
	case keys.PatroniKey:
		if at.part == "leader" {
			return Failover
		}
	}
	return Change
}

// known reports whether a key of the family makes its cluster one: a cluster is
// whatever has documents, a record of how it formed, or plans. A status that the rest
// left behind counts too, so that somebody looks and takes it away.
func known(f keys.Family) bool {
	return f == keys.Desired || f == keys.Formed || f == keys.Plan || f == keys.Status
}

// count keeps the number of keys that make each cluster.
func (e *Engine) count(at located, c store.Change) {
	if !known(at.family) || at.cluster == "" || at.cluster == keys.NodeCluster {
		return
	}
	switch {
	case c.Old == nil:
		e.clusters[at.cluster]++
	case c.New == nil:
		if e.clusters[at.cluster]--; e.clusters[at.cluster] <= 0 {
			delete(e.clusters, at.cluster)
		}
	}
}

// everything queues every controller for every cluster; the caller holds the lock.
func (e *Engine) everything() {
	for _, cluster := range slices.Sorted(maps.Keys(e.clusters)) {
		for _, c := range e.controllers {
			if !c.shared {
				e.add(Key{c.Name(), cluster}, Resync, 0)
			}
		}
	}
	for _, c := range e.controllers {
		if c.shared { // what is on nodes outlives the last cluster
			e.add(Key{c.Name(), keys.NodeCluster}, Resync, 0)
		}
	}
}

// Clusters are the names of the clusters there is anything of, sorted.
func (e *Engine) Clusters() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	names := slices.DeleteFunc(slices.Collect(maps.Keys(e.clusters)), func(s string) bool { return keys.CheckCluster(s) != nil })
	slices.SortFunc(names, strings.Compare)
	return names
}

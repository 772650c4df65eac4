package simulation

import (
	"bytes"
	"context"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// The planted bugs: mistakes that the programs could make, made at their edges, so
// that the real code runs and is misled. TestPlantedBugsAreFound wants each found.
const (
	// BugIgnoresWithdrawal: agents never hear that a primary was withdrawn.
	BugIgnoresWithdrawal = "agent ignores withdrawal"
	// BugTrustsOldView: agents take their view of etcd for fresh while they are cut off.
	BugTrustsOldView = "agent does not check freshness"
	// BugConfirmsByLock: agents take Patroni's lock for proof that PostgreSQL takes writes.
	BugConfirmsByLock = "agent confirms by Patroni's lock"
	// BugReissuesUp: agents overrule failing checks, and do not check freshness.
	BugReissuesUp = "agent holds a server up against its checks"
	// BugOldPlan: agents act on a plan again that a newer one replaced.
	BugOldPlan = "agent acts on an older plan"
	// BugRemoves: agents remove what has no plan any more.
	BugRemoves = "agent removes what has no plan"
	// BugForgets: an agent that starts holds everything down until it knows better.
	BugForgets = "agent starts with routes down"
	// BugDeletes: the server deletes the plans of members without documents.
	BugDeletes = "controller deletes plans"
	// BugUnfenced: the server's writes are not guarded by its election.
	BugUnfenced = "controller writes unfenced"
	// BugBusy: the server writes although nothing changed.
	BugBusy = "controller writes without need"
)

// Bugs lists the planted bugs and the rule that catches each.
var Bugs = map[string]string{
	BugIgnoresWithdrawal: "R3", BugTrustsOldView: "R3", BugConfirmsByLock: "R3", BugReissuesUp: "R2",
	BugOldPlan: "R7", BugRemoves: "R6", BugForgets: "R13", BugDeletes: "R6", BugUnfenced: "R7", BugBusy: "R8",
}

func agentBug(bug string, h *host) *wireBug {
	switch bug {
	case BugIgnoresWithdrawal:
		return &wireBug{events: func(ev *clientv3.Event) *clientv3.Event {
			if string(ev.Kv.Key) == layout.PrimaryKey(cluster) && bytes.Contains(ev.Kv.Value, []byte(`"writable":false`)) {
				return nil
			}
			return ev
		}}
	case BugTrustsOldView, BugReissuesUp:
		return &wireBug{fresh: true}
	case BugOldPlan:
		return replayPlans(h)
	case BugRemoves:
		return removing(h)
	}
	return nil
}

// replayPlans answers every third plan of HAProxy and later ones with an older one
// than the host has.
func replayPlans(h *host) *wireBug {
	var seen [][]byte
	return &wireBug{events: func(ev *clientv3.Event) *clientv3.Event {
		if ev.Type != clientv3.EventTypePut || string(ev.Kv.Key) != layout.PlanKey(h.node, cluster, "haproxy") {
			return ev
		}
		if n := len(seen); n == 0 || !bytes.Equal(seen[n-1], ev.Kv.Value) {
			seen = append(seen, ev.Kv.Value)
		}
		if len(seen) < 3 {
			return ev
		}
		kv := &mvccpb.KeyValue{
			Key: ev.Kv.Key, Value: seen[len(seen)-3], ModRevision: ev.Kv.ModRevision, CreateRevision: ev.Kv.CreateRevision,
			Version: ev.Kv.Version, Lease: ev.Kv.Lease,
		}
		return &clientv3.Event{Type: ev.Type, Kv: kv}
	}}
}

// removing undoes on the host what has no plan any more.
func removing(h *host) *wireBug {
	return &wireBug{events: func(ev *clientv3.Event) *clientv3.Event {
		if ev.Type == clientv3.EventTypeDelete && string(ev.Kv.Key) == layout.PlanKey(h.node, cluster, "haproxy") {
			r := h.rig
			go func() {
				_ = (&unitDriver{r, nil}).Remove(context.Background(), plan.Unit{Unit: "haproxy@" + cluster + ".service"}, 0)
			}()
		}
		return ev
	}}
}

// first is what an agent of a buggy build does before anything else. The caller holds mu.
func (r *rig) first() {
	if r.bug != BugForgets || !r.h.proxy.running {
		return
	}
	for _, name := range r.h.proxy.names() {
		if s := r.h.proxy.servers[name]; s.readWrite {
			r.h.proxy.set(s, false, "agent")
		}
	}
}

func serverBug(bug string) *wireBug {
	if bug != BugUnfenced {
		return nil
	}
	return &wireBug{compares: func(cs []clientv3.Cmp) []clientv3.Cmp {
		var out []clientv3.Cmp
		for _, c := range cs {
			if string(c.KeyBytes()) != layout.ElectionKey() || len(cs) == 1 {
				out = append(out, c)
			}
		}
		return out
	}}
}

// misbehave is what a server of a buggy build does beside its work.
func (s *server) misbehave(p *process, c *store.Client) {
	every := time.Second
	if s.w.o.Bug == BugBusy {
		every = 7 * time.Second // leaves time to answer a plan
	}
	for p.pass() == nil {
		time.Sleep(every)
		docs, _, err := c.List(context.Background(), layout.ClusterDocs(cluster))
		if err != nil || len(docs) > 0 && s.w.o.Bug == BugDeletes {
			continue
		}
		kvs, _, err := c.List(context.Background(), layout.Prefix(keys.Plan))
		if err != nil {
			continue
		}
		for _, e := range kvs {
			op := store.Delete(e.Key)
			if s.w.o.Bug == BugBusy {
				if !strings.HasSuffix(e.Key, "/haproxy") {
					continue
				}
				op = store.Put(e.Key, append(bytes.Clone(e.Value), ' '))
			}
			if lead, ok := s.engine.Leading(); ok {
				_, _ = c.Commit(context.Background(), []store.Guard{store.CreateIs(layout.ElectionKey(), lead), store.ModIs(e.Key, e.ModRevision)}, []store.Op{op})
			}
		}
	}
}

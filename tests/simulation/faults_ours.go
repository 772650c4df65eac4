package simulation

import (
	"container/heap"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
)

func (q *events) init() { heap.Init(q) }

// programs are faults of our own programs; Patroni, PostgreSQL and HAProxy go on.
var programs = []fault{
	{"agent killed", 5, func(w *World) func() {
		h := w.host()
		if !h.running || !h.on {
			return nil
		}
		h.troubled()
		h.killAgent()
		switch w.rng.IntN(6) {
		case 0:
			w.say("world", "the disk of %s goes back to what it was in the beginning", h.node)
			h.loseDisk(true)
		case 1:
			w.say("world", "the disk of %s is empty", h.node)
			h.loseDisk(false)
		}
		return h.agentBack
	}},
	{"agent restarted", 4, func(w *World) func() {
		h := w.host()
		if !h.running || !h.on || h.process().paused() {
			return nil
		}
		h.troubled()
		h.stopAgent()
		w.after(w.between(50*time.Millisecond, time.Second), "end of restart", h.agentBack)
		return nil
	}},
	{"agent stopped", 5, func(w *World) func() {
		h := w.host()
		if !h.running || h.process().paused() {
			return nil
		}
		w.say("world", "SIGSTOP for the agent of %s", h.node)
		h.troubled()
		p := h.process()
		p.pause()
		return func() {
			w.say("world", "SIGCONT for the agent of %s", h.node)
			p.resume()
			h.relieved()
		}
	}},
	{"server killed", 3, func(w *World) func() {
		s := w.server()
		if !s.running {
			return nil
		}
		s.kill()
		return s.start
	}},
	{"server restarted", 2, func(w *World) func() {
		s := w.server()
		if !s.running || s.process().paused() {
			return nil
		}
		s.stop()
		w.after(w.between(50*time.Millisecond, time.Second), "end of restart", s.start)
		return nil
	}},
	{"server stopped", 3, func(w *World) func() {
		s := w.server()
		if !s.running || s.process().paused() {
			return nil
		}
		w.say("world", "SIGSTOP for server %s", s.name)
		p := s.process()
		p.pause()
		return func() {
			w.say("world", "SIGCONT for server %s", s.name)
			p.resume()
		}
	}},
	{"HAProxy reloaded by hand", 3, func(w *World) func() {
		if h := w.host(); h.proxy.running && h.on {
			h.startProxy("reload by hand")
		}
		return nil
	}},
}

func (h *host) agentBack() {
	if !h.running && h.on {
		h.startAgent()
	}
	h.relieved()
}

// loseDisk puts the agent's disk back to what it was when the faults began, or empties
// it. An empty one knows of nothing; an older one may only be acted on by an agent that
// could not ask etcd (see checker.act).
func (h *host) loseDisk(old bool) {
	if !old || h.oldDir == "" {
		h.w.check.forget(h)
	}
	dir := h.w.dir(h.node)
	if old && h.oldDir != "" {
		if err := os.CopyFS(dir, os.DirFS(h.oldDir)); err != nil {
			h.w.t.Fatal(err)
		}
	}
	h.dir = dir
}

// startProxy composes the state file as haproxy@.service does, by asking the agent
// and otherwise from what is on disk, and starts a worker with it.
func (h *host) startProxy(why string) {
	w, x := h.w, h.proxy
	unit := x.unit
	if len(unit.Routes) == 0 {
		return
	}
	answers := h.running && !h.process().paused()
	a := h.agent
	go func() {
		if !answers || composes(w.ctx, a) != nil {
			w.mu.Lock()
			x.compose(unit.Routes, nil)
			w.mu.Unlock()
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.after(20*time.Millisecond, "HAProxy "+h.node, func() {
			if h.on {
				x.start(x.unit, why)
			}
		})
	}()
}

func composes(ctx context.Context, a *agent.Agent) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return a.ComposeState(ctx, cluster)
}

// ourNetwork are faults of the way from our programs to etcd; Patroni has its own.
var ourNetwork = []fault{
	{"agent cut off", 4, func(w *World) func() {
		h := w.host()
		w.say("world", "the agent of %s is cut off from etcd", h.node)
		heal := h.cutAgent()
		return func() {
			w.say("world", "the agent of %s reaches etcd again", h.node)
			heal()
		}
	}},
	{"slow link", 3, func(w *World) func() {
		h := w.host()
		d := w.between(20*time.Millisecond, 900*time.Millisecond)
		w.say("world", "the link of %s takes %s", h.node, d)
		h.troubled()
		l := w.links[h.node]
		l.slow = true
		w.etcd.Delay(h.node, d)
		return func() {
			l.slow, l.healed = false, time.Now()
			w.etcd.Delay(h.node, w.usualDelay(h.n))
			h.relieved()
		}
	}},
	{"watch falls silent", 3, func(w *World) func() {
		h := w.host()
		w.say("world", "the watches of %s fall silent", h.node)
		h.troubled()
		w.etcd.DropWatch(h.node)
		w.after(8*time.Second, "silence over", h.relieved)
		return nil
	}},
	{"watch cancelled", 3, func(w *World) func() {
		h := w.host()
		w.say("world", "the watches of %s are cancelled", h.node)
		h.troubled()
		w.etcd.FailWatch(h.node)
		w.after(3*time.Second, "watches back", h.relieved)
		return nil
	}},
	{"everything twice", 3, func(w *World) func() {
		h := w.host()
		w.say("world", "%s hears everything twice", h.node)
		w.links[h.node].duplicate = true
		return func() { w.links[h.node].duplicate = false }
	}},
	{"server cut off", 2, func(w *World) func() {
		s := w.server()
		w.say("world", "%s is cut off from etcd", s.name)
		w.links[s.name].cut = true
		w.etcd.Cut(s.name)
		return func() {
			w.say("world", "%s reaches etcd again", s.name)
			w.links[s.name].cut = false
			w.etcd.Heal(s.name)
		}
	}},
	{"compaction", 3, func(w *World) func() {
		w.say("world", "etcd forgets its history")
		w.etcd.Compact(w.etcd.Revision())
		return nil
	}},
	{"our lease lost", 3, func(w *World) func() {
		key := layout.ElectionKey()
		if w.rng.IntN(2) == 0 {
			key = layout.AliveKey(w.host().node)
		}
		r, err := w.audit.parts.KV.Get(context.Background(), key)
		if err == nil && len(r.Kvs) > 0 && r.Kvs[0].Lease != 0 {
			w.say("world", "etcd loses the lease of %s", key)
			w.etcd.ExpireLease(r.Kvs[0].Lease)
		}
		return nil
	}},
}

// network are ourNetwork and what concerns Patroni too.
var network = join(ourNetwork, []fault{
	{"host cut off from etcd", 4, func(w *World) func() {
		h := w.host()
		w.say("world", "%s is cut off from etcd", h.node)
		h.noEtcd = true
		heal := h.cutAgent()
		w.unsteady()
		return func() {
			w.say("world", "%s reaches etcd again", h.node)
			h.noEtcd = false
			heal()
			w.unsteady()
		}
	}},
	{"etcd away", 2, func(w *World) func() {
		w.say("world", "etcd is away")
		var heals []func()
		for _, h := range w.hosts {
			h.noEtcd = true
			heals = append(heals, h.cutAgent())
		}
		for _, s := range w.servers {
			w.etcd.Cut(s.name)
		}
		w.unsteady()
		return func() {
			w.say("world", "etcd is back")
			for i, h := range w.hosts {
				h.noEtcd = false
				heals[i]()
			}
			for _, s := range w.servers {
				w.etcd.Heal(s.name)
			}
			w.unsteady()
		}
	}},
})

func (h *host) cutAgent() (heal func()) {
	w := h.w
	h.troubled()
	w.links[h.node].cut, w.links[h.node].cutAt = true, time.Now()
	w.etcd.Cut(h.node)
	return func() {
		w.links[h.node].cut, w.links[h.node].healed = false, time.Now()
		w.etcd.Heal(h.node)
		h.relieved()
	}
}

// documentFaults are what people do to keys.
var documentFaults = []fault{
	{"service changed", 5, func(w *World) func() {
		w.put(serviceDoc, fmt.Sprintf("retries: %d\n", 5+w.rng.IntN(20)))
		return nil
	}},
	{"parameter changed", 3, func(w *World) func() {
		w.put(layout.ClusterDoc(cluster, "postgres"), fmt.Sprintf("parameters: {work_mem: %dMB}\n", 4+w.rng.IntN(60)))
		return nil
	}},
	{"document made invalid", 3, func(w *World) func() {
		w.put(serviceDoc, invalid)
		return nil
	}},
	{"document deleted", 3, func(w *World) func() {
		w.delete(layout.ClusterDoc(cluster, "members/"+w.host().member))
		return nil
	}},
	{"every document deleted", 2, func(w *World) func() {
		docs := documents()
		docs[serviceDoc] = ""
		docs[layout.ClusterDoc(cluster, "postgres")] = ""
		for _, key := range slices.Sorted(maps.Keys(docs)) {
			w.delete(key)
		}
		return nil
	}},
	{"plan deleted by hand", 3, func(w *World) func() {
		w.delete(layout.PlanKey(w.host().node, cluster, "haproxy"))
		return nil
	}},
}

func (w *World) put(key, value string) {
	w.say("people", "put %s: %s", key, strings.TrimSpace(value))
	w.etcd.Put(key, value)
}

func (w *World) delete(key string) {
	if _, _, ok := w.etcd.Get(key); ok {
		w.say("people", "del %s", key)
		w.audit.byHand[key]++
		w.etcd.Delete(key)
	}
}

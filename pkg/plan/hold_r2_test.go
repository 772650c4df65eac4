package plan_test

import (
	"flag"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestR2OneHolder: whatever happens to Patroni, the agents, the network and the
// clocks, no two hosts have the address; and when it is over, the leader's has it.
func TestR2OneHolder(t *testing.T) {
	// Some faults need one another; 100 stories, the default, find them most of the time.
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		defer func() { _ = flag.Set("rapid.checks", f.DefValue) }()
		if err := flag.Set("rapid.checks", "600"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.Int64().Draw(t, "seed"), rapid.IntRange(2, 3).Draw(t, "nodes"), rapid.Bool().Draw(t, "failsafe"))
		run := func(d time.Duration) {
			for end := w.now.Add(d); w.now.Before(end); {
				w.step()
				if hs := w.holders(); len(hs) > 1 {
					t.Fatalf("%v have the address:\n%s", hs, strings.Join(w.story, "\n"))
				}
			}
		}
		run(10 * time.Second)
		for range rapid.IntRange(1, 6).Draw(t, "faults") {
			h := w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(t, "host")]
			fault := rapid.SampledFrom(faults).Draw(t, "fault")
			lasts := time.Duration(rapid.IntRange(0, 60).Draw(t, "lasts")) * time.Second
			w.note("%s on %s for %s", fault.name, h.name, lasts)
			fault.begin(w, h)
			if fault.end != nil {
				w.in(lasts, func() { w.note("%s on %s ends", fault.name, h.name); fault.end(w, h) })
			}
			run(time.Duration(rapid.IntRange(0, 45000).Draw(t, "then")) * time.Millisecond)
		}
		run(3 * time.Minute)
		if hs := w.holders(); len(hs) != 1 || hs[0] != w.leader {
			t.Fatalf("in the end %v have the address and %q leads:\n%s", hs, w.leader, strings.Join(w.story, "\n"))
		}
	})
}

type fault struct {
	name       string
	begin, end func(*world, *host)
}

var faults = []fault{
	{"switchover", func(w *world, h *host) { w.switchover(h) }, nil},
	{"agent restarted", func(w *world, h *host) { h.startAgent() }, nil},
	{"agent stopped", func(w *world, h *host) { h.paused = w.now.Add(time.Hour) }, func(w *world, h *host) { h.paused = w.now }},
	{"agent killed", func(w *world, h *host) { h.paused = w.now.Add(time.Hour) }, func(w *world, h *host) { h.paused = w.now; h.startAgent() }},
	{"Patroni stopped", func(w *world, h *host) { h.stopped = true }, func(w *world, h *host) { h.stopped = false }},
	{"Patroni stopped, overwrites the key", func(w *world, h *host) { h.stopped = true }, func(w *world, h *host) {
		if h.stopped && h.thinks && !h.cutEtcd && w.leader != h.name { // 3.0.2
			w.setLeader(h.name, h.leaseID)
			h.renewed, h.renewedAt = h.wallNow(), w.now
		}
		h.stopped = false
	}},
	{"cut from etcd", func(w *world, h *host) { h.cutEtcd = true }, func(w *world, h *host) { h.cutEtcd = false }},
	{"cut from all", func(w *world, h *host) { h.cutEtcd, h.cutPeers = true, true }, func(w *world, h *host) { h.cutEtcd, h.cutPeers = false, false }},
	{"etcd away", func(w *world, _ *host) {
		for _, h := range w.nodes {
			h.cutEtcd = true
		}
	}, func(w *world, _ *host) {
		for _, h := range w.nodes {
			h.cutEtcd = false
		}
	}},
	{"PostgreSQL restarts", func(w *world, h *host) {
		h.up = false
		w.in(2*time.Second, func() { h.up = true })
	}, nil},
	{"clock steps forward", func(w *world, h *host) { h.wall += time.Duration(w.r.Intn(90)) * time.Second }, nil},
	{"clock steps back", func(w *world, h *host) { h.wall -= time.Duration(w.r.Intn(90)) * time.Second }, nil},
	{"Patroni and agent stopped", func(w *world, h *host) { h.stopped, h.paused = true, w.now.Add(time.Hour) }, func(w *world, h *host) { h.stopped, h.paused = false, w.now }},
	{"crash", func(w *world, h *host) {
		h.stopped, h.thinks, h.up, h.recovery = true, false, false, true
		h.addressEnds, h.paused = time.Time{}, w.now.Add(time.Hour)
	}, func(w *world, h *host) {
		h.stopped, h.up, h.paused = false, true, w.now
		h.startAgent()
	}},
	{"taken by hand", func(w *world, h *host) {
		if why, knowing := h.agent.RefuseTake(w.now); why == "" || !knowing {
			h.agent.Hand = plan.Hand{Act: plan.HandTake} // also where it was refused: it is obeyed as little
		}
	}, func(_ *world, h *host) { h.agent.Hand = plan.Hand{} }},
	{"dropped by hand", func(_ *world, h *host) { h.agent.Hand = plan.Hand{Act: plan.HandDrop} }, func(_ *world, h *host) { h.agent.Hand = plan.Hand{} }},
	{"record deleted by hand", func(w *world, _ *host) { w.rev++; w.record, w.recordMod = nil, 0 }, nil},
	{"address removed by hand", func(_ *world, h *host) { h.addressEnds = time.Time{} }, nil},
}

package simulation

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

type actKind int

const (
	actApply actKind = iota
	actAssert
	actConfig
	actRemove
)

// act is something an agent did to its host. They are looked at by the driver once
// it has read everything written to etcd before.
type act struct {
	h       *host
	p       *process
	kind    actKind
	unit    string
	hash    string
	epoch   plan.Epoch
	primary string // held up on read-write routes
}

// acted notes an act. The caller holds mu.
func (w *World) acted(a act) { w.acts = append(w.acts, a) }

// act checks R6 and R7 on one act. An agent's view can't be seen, so the question is
// whether what it did can be explained by revisions that never go down.
func (c *checker) act(a act) {
	if c.acted == nil {
		c.acted, c.epoch = map[string]int64{}, map[*process]plan.Epoch{}
	}
	audit := &c.w.audit
	switch a.kind {
	case actRemove:
		c.fail("R6", "the agent of %s removed %s, and nobody said so", a.h.node, a.unit)
	case actApply, actConfig:
		c.stats.Applies++
		if a.epoch > 0 && a.epoch < c.epoch[a.p] {
			c.fail("R7", "the agent of %s acted at an epoch lower than one it had acted at", a.h.node)
		}
		c.epoch[a.p] = max(c.epoch[a.p], a.epoch)
		if a.kind == actConfig {
			return
		}
		key := a.h.node + " " + a.unit
		rev, ok := explains(audit.units[key], a.hash, c.acted[key])
		if !ok && !c.asked(a) {
			delete(c.acted, key)
			return
		}
		if !ok {
			c.fail("R7", "the agent of %s applied %s as an older plan had it", a.h.node, a.unit)
			return
		}
		c.acted[key] = rev
	case actAssert:
		c.stats.Asserts++
		// What it decided before it was stopped it may still do when it goes on.
		if l := c.w.links[a.h.node]; l.cut && time.Since(l.cutAt) > plan.FreshFor+time.Second && a.p.runsFor() > 2*time.Second {
			c.fail("R3", "the agent of %s asserts routes, and has been cut off from etcd for %s", a.h.node, time.Since(l.cutAt))
		}
		if a.primary == "" {
			return
		}
		key := a.h.node + " primary"
		rev, ok := explains(audit.primaries, a.primary, c.acted[key])
		if !ok {
			c.fail("R7", "the agent of %s holds %s up, which a later confirmation it acted on replaced", a.h.node, a.primary)
			return
		}
		c.acted[key] = rev
	}
}

// asked reports whether the agent had the time and the way to ask etcd for its plans
// since it began: then what it has on disk is no excuse.
func (c *checker) asked(a act) bool {
	l, began := c.w.links[a.h.node], a.p.began
	return !l.cut && !l.slow && l.healed.Before(began) && a.p.runsFor() >= time.Since(began)
}

// forget is for an agent that lost its disk: it can't know what it acted on.
func (c *checker) forget(h *host) {
	for key := range c.acted {
		if key != h.node+" primary" && len(key) > len(h.node) && key[:len(h.node)+1] == h.node+" " {
			delete(c.acted, key)
		}
	}
}

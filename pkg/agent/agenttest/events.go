package agenttest

import (
	"context"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

type events struct{ h *Host }

// Watch implements agent.Watcher.
func (e events) Watch(ctx context.Context, r plan.Resource, changed func()) {
	h, id := e.h, r.ID()
	h.mu.Lock()
	if h.watches == nil {
		h.watches = map[string]map[*func()]bool{}
	}
	if h.watches[id] == nil {
		h.watches[id] = map[*func()]bool{}
	}
	h.watches[id][&changed] = true
	h.mu.Unlock()
	<-ctx.Done()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watches[id], &changed)
}

// Touch makes an event about a unit, whether or not anything differs.
func (h *Host) Touch(unit string) {
	h.mu.Lock()
	var tell []func()
	for f := range h.watches["unit "+unit] {
		tell = append(tell, *f)
	}
	h.mu.Unlock()
	for _, f := range tell {
		f()
	}
}

// DriftNow makes a unit differ from what was applied, and the event of it.
func (h *Host) DriftNow(unit string, how ...string) {
	h.Drift(unit, how...)
	h.Touch(unit)
}

// ProveFor makes every Apply take that long after the unit is as it should be, as a
// reload on a busy host does.
func (h *Host) ProveFor(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.proving = d
}

// SetByHand makes the router report that it put something back.
func (h *Host) SetByHand(what, was string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hands = append(h.hands, agent.Repair{What: what, Was: was})
}

func (h *Host) repairs(string) []agent.Repair {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.hands
	h.hands = nil
	return out
}

// Diffs counts how often a unit was compared.
func (h *Host) Diffs() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.diffs
}

// Revert makes somebody undo each Apply of a unit after a while, with an event; a
// zero delay ends it.
func (h *Host) Revert(unit string, delay time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.applied = nil
	if delay > 0 {
		h.applied = func(applied string) {
			if time.Sleep(delay); applied == unit {
				h.DriftNow(unit)
			}
		}
	}
}

// EchoApplies makes each Apply of a unit an event, as writing a file is.
func (h *Host) EchoApplies(unit string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.applied = func(applied string) {
		if applied == unit {
			h.Touch(unit)
		}
	}
}

// ForgetConfig makes a scope's dynamic configuration differ from what was applied.
func (h *Host) ForgetConfig(scope string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.configs, scope)
}

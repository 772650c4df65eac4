package simulation

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// hands are what people do with the virtual address by hand, on a node that may not
// be the one to do it on. Nobody says here that he knows better than etcd: then the
// rule is his to keep.
var hands = []fault{
	{"address taken by hand", 3, func(w *World) func() { return w.host().byHand(plan.HandTake) }},
	{"address dropped by hand", 3, func(w *World) func() { return w.host().byHand(plan.HandDrop) }},
}

// byHand has a person hold the address, and returns what ends it.
func (h *host) byHand(act plan.HandAct) func() {
	if !h.running || h.process().paused() {
		return nil
	}
	h.w.say("world", "somebody wants to %s the address on %s", act, h.node)
	h.ask(agent.Hold{Override: agent.Override{Kind: agent.OverrideVIP, Cluster: cluster, Act: act, For: time.Minute}})
	return h.handsOff
}

// handsOff ends what is held by hand on the host.
func (h *host) handsOff() {
	if h.running && !h.process().paused() {
		h.ask(agent.Hold{Override: agent.Override{Kind: agent.OverrideVIP, Cluster: cluster}, Off: true})
	}
}

// ask is a person's command; the agent may refuse it.
func (h *host) ask(want agent.Hold) {
	a := h.agent
	go func() { _, _ = a.Hold(h.w.ctx, want) }()
}

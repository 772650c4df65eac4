package projection

import (
	"fmt"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// agent tells when a node's agent comes and goes, and what it finds out about its host.
func (m *moment) agent(ref keys.Ref, c Change) {
	switch {
	case c.New == nil:
		m.each(ref.Node, events.Event{Kind: events.AgentLost, Next: "systemctl status pgagent (on " + ref.Node + ")",
			Message: fmt.Sprintf("the agent of %s is away; what it holds in force stays", ref.Node)})
	case c.Old == nil:
		m.each(ref.Node, events.Event{Kind: events.AgentBack, Message: fmt.Sprintf("the agent of %s is there (pgagent %s)", ref.Node, aliveOf(c.New).Version)})
		fallthrough
	default:
		compared(aliveOf(c.Old).Notes, aliveOf(c.New).Notes, func(c observed.Condition) {
			m.each(ref.Node, worse(events.Event{Node: ref.Node}, c))
		}, func(c observed.Condition) {
			m.each(ref.Node, better(events.Event{Node: ref.Node}, c))
		})
	}
}

func aliveOf(e *kv.KV) observed.Alive {
	if e == nil {
		return observed.Alive{}
	}
	a, _ := observed.Decode[observed.Alive](*e)
	return a
}

// server tells which servers there are, and which of them plans.
func (m *moment) server(ref keys.Ref, c Change) {
	e := events.Event{Cluster: events.Fleet}
	if ref.Doc == "server" {
		if c.New == nil || c.Old != nil && string(c.Old.Value) == string(c.New.Value) {
			return
		}
		e.Kind, e.To, e.Message = events.ServerLeads, string(c.New.Value), fmt.Sprintf("the server %s plans", c.New.Value)
		m.add(e)
		return
	}
	id, ok := strings.CutPrefix(ref.Doc, "servers/")
	e.Subject = id
	switch {
	case !ok || c.Old != nil && c.New != nil:
		return
	case c.New == nil:
		e.Kind, e.Message, e.Next = events.ServerLost, fmt.Sprintf("the server %s is away", id), "pgctrl status"
	default:
		e.Kind, e.Message = events.ServerBack, fmt.Sprintf("the server %s is there", id)
	}
	m.add(e)
}

// delivery tells when a hook's receiver does not take events, does again, and what was given up.
func (m *moment) delivery(keys.Ref, Change) {}

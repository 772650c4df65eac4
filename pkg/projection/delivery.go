package projection

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// delivery tells when a hook's receiver does not take events, does again, and what was given up.
func (m *moment) delivery(ref keys.Ref, c Change) {
	if c.New == nil {
		return
	}
	name, what, _ := strings.Cut(ref.Doc, "/")
	e := events.Event{Cluster: ref.Cluster, Subject: hooks.Subject(name)}
	of := ref.Cluster
	if of == events.Fleet {
		of = "hooks" // as commands name the hooks of all clusters
	}
	if what != "state" {
		m.letter(e, what, c)
		return
	}
	is, was := stateIn(c.New), stateIn(c.Old)
	switch {
	case is.FailingSince != nil && (was.FailingSince == nil || was.Created != is.Created):
		e.Kind, e.Next = events.HookFailing, fmt.Sprintf("pgctrl hook show %s %s", of, name)
		e.At, e.Message = is.FailingSince.UTC(), fmt.Sprintf("hook %s does not take events: %s", name, is.Error)
		m.add(e)
	case is.FailingSince == nil && was.FailingSince != nil && was.Created == is.Created:
		e.Kind, e.Message = events.HookBack, fmt.Sprintf("hook %s takes events again", name)
		m.add(e)
	}
	if lost := is.Missed; lost != nil && (was.Missed == nil || !was.Missed.At.Equal(lost.At)) {
		e := e
		e.Kind, e.At, e.Next = events.HookMissed, lost.At.UTC(), fmt.Sprintf("pgctrl hook show %s %s", of, name)
		e.Message = fmt.Sprintf("hook %s was too late for events that had to go, after revision %d and up to %d", name, lost.After.Revision, lost.Through)
		m.add(e)
	}
	if is.Reason == hooks.Loop && was.Reason != hooks.Loop {
		e.Kind, e.Severity, e.Reason, e.Next = events.HookFailing, events.Warning, hooks.Loop, fmt.Sprintf("pgctrl hook show %s %s", of, name)
		e.Message = fmt.Sprintf("hook %s: hooks cause events for one another, and those after the third are not delivered", name)
		m.add(e)
	}
}

func stateIn(e *kv.KV) (s hooks.State) {
	if e != nil {
		s, _ = observed.Decode[hooks.State](*e)
	}
	return s
}

// letter tells of an event that was given up.
func (m *moment) letter(e events.Event, what string, c Change) {
	id, dead := strings.CutPrefix(what, "dead/")
	l, err := observed.Decode[hooks.Letter](*c.New)
	if !dead || err != nil {
		return
	}
	of := e.Cluster
	if of == events.Fleet {
		of = "hooks"
	}
	_, cause, _ := strings.Cut(id, ".")
	var about events.Event
	if json.Unmarshal(l.Event, &about) == nil && strings.HasPrefix(string(about.Kind), "hook.") {
		e.Hops = about.Hops + 1 // hooks that hear of one another's letters would never end
	}
	e.Kind, e.Cause, e.Next = events.HookDead, cause, fmt.Sprintf("pgctrl hook replay %s %s", of, l.Hook)
	e.Message = fmt.Sprintf("hook %s: event %s was given up after %d attempts: %s", l.Hook, id, l.Attempts, l.Error)
	m.add(e)
}

package projection

import (
	"fmt"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
)

// operation tells how far an operation is: asked for, in another phase, over. Progress within a
// phase is in the results of its steps and no event.
func (m *moment) operation(ref keys.Ref, c Change) {
	if c.New == nil || ref.Doc == keys.Token {
		return
	}
	is, err := observed.Decode[operations.Operation](*c.New)
	if err != nil || is.Schema > operations.Schema {
		return
	}
	e := events.Event{Cluster: ref.Cluster, Subject: is.ID, By: is.By, Cause: revision(c.New.CreateRevision)}
	asks, hops := causeOf(is.Cause)
	e.Hops = hops
	var was operations.Operation
	if c.Old == nil {
		asked := e
		asked.Kind, asked.Cause, asked.At = events.OperationAsked, asks, is.Asked
		asked.Message = fmt.Sprintf("%s was asked for", is.Kind)
		if is.Why != "" {
			asked.Message += ": " + is.Why
		}
		m.add(asked)
	} else if was, err = observed.Decode[operations.Operation](*c.Old); err != nil {
		return
	}
	switch {
	case is.State.Final() && !was.State.Final():
		m.add(ended(e, is))
	case phaseOf(is) != phaseOf(was) && !is.State.Final():
		p, _ := is.Now()
		e.Kind, e.From, e.To = events.OperationPhase, phaseOf(was), phaseOf(is)
		e.Node, e.Member, e.Epoch = p.Node, p.Member, int64(p.Epoch)
		e.Message = fmt.Sprintf("%s is at %s", is.Kind, e.To)
		m.add(e)
	}
}

// phaseOf is the phase that an operation is in and has begun; empty: none.
func phaseOf(o operations.Operation) string {
	p, more := o.Now()
	if !more || p.State == "" || o.State == operations.Waiting {
		return ""
	}
	return p.Name
}

func ended(e events.Event, o operations.Operation) events.Event {
	e.At, e.Reason, e.Next = o.Ended, string(o.Reason), o.Next
	e.Message = string(o.Kind) + " is " + string(o.State)
	switch o.State {
	case operations.Done:
		e.Kind = events.OperationDone
		if o.Kind == operations.KindBackup {
			e.Kind, e.To = events.BackupDone, o.Label
		}
	case operations.Failed:
		e.Kind, e.Message = events.OperationFailed, string(o.Kind)+" failed"
		if o.Kind == operations.KindBackup {
			e.Kind = events.BackupFailed
		}
	default:
		e.Kind = events.OperationCancelled
		if o.Cancel != "" {
			e.By = o.Cancel
		}
	}
	if o.Message != "" {
		e.Message += ": " + o.Message
	}
	for i := range o.Phases { // where it went wrong, or was done last
		if p := o.Phases[i]; p.Node != "" {
			e.Node, e.Member, e.Epoch = p.Node, p.Member, int64(p.Epoch)
			if p.State == operations.PhaseFailed {
				break
			}
		}
	}
	return e
}

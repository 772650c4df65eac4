package projection

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// passing are reasons that every change and every move goes through, or that a person decided:
// that one of them applies is no event. What follows from them when they last is an alert's.
var passing = []observed.Reason{
	observed.RollingOut, observed.Removing, observed.Removed, observed.Leading, observed.NotPlanned, observed.NotApplied, observed.WaitingForLeader,
	observed.WaitingForNode, observed.WaitingForSecret, observed.WaitingForPooler, observed.NotLeader, observed.NoLeader,
	observed.NotConfirmed, observed.LeaderChanged, observed.StaleView, observed.StandbyCluster, observed.Frozen, observed.PatroniPaused, observed.Rotating,
	observed.NodeAbsent, observed.PoolerNotServing, observed.RouteDiffers, observed.OperationUnderWay, observed.BackupRunning,
	observed.ArchivingOff, observed.Unmanaged, observed.FixedAtForming, observed.NoServer, observed.PatroniTooOld,
}

// state is a condition as far as events tell conditions apart: its words may hold numbers that
// change.
type state struct {
	kind   observed.Type
	reason observed.Reason
	key    string
}

// telling are the conditions that are worth an event while they are there, once each.
func telling(conds []observed.Condition) (out []observed.Condition) {
	seen := map[state]bool{}
	for _, c := range conds {
		s := stateOf(c)
		if c.Reason == "" || c.Status == observed.Unknown || slices.Contains(passing, c.Reason) || seen[s] || c.Type == observed.HasPrimary {
			continue
		}
		seen[s] = true
		out = append(out, c)
	}
	return out
}

func stateOf(c observed.Condition) state { return state{c.Type, c.Reason, c.Key} }

// compared tells which conditions came and which went.
func compared(was, is []observed.Condition, came, went func(observed.Condition)) {
	had, have := map[state]bool{}, map[state]bool{}
	for _, c := range telling(was) {
		had[stateOf(c)] = true
	}
	for _, c := range telling(is) {
		have[stateOf(c)] = true
		if !had[stateOf(c)] {
			came(c)
		}
	}
	for _, c := range telling(was) {
		if !have[stateOf(c)] {
			went(c)
		}
	}
}

// report tells what a node's agent says of one concern anew: what a host refused, what does not
// work there, what was put back.
func (m *moment) report(ref keys.Ref, c Change) {
	if c.New == nil {
		return
	}
	is, err := observed.Decode[observed.Report](*c.New)
	if err != nil || is.Schema > observed.Schema {
		return
	}
	was := reportOf(c.Old)
	e := events.Event{Cluster: ref.Cluster, Node: ref.Node, Concern: ref.Concern, Cause: revision(is.Inputs)}
	if ref.Cluster == keys.NodeCluster {
		e.Cluster = events.Fleet
	}
	compared(was.Conditions, is.Conditions, func(c observed.Condition) {
		m.add(worse(e, c))
	}, func(c observed.Condition) {
		m.add(better(e, c))
	})
	if r := is.Facts["repaired"]; r != "" && r != was.Facts["repaired"] {
		e.Kind, e.Message = events.DriftRepaired, fmt.Sprintf("put back on %s, %s", ref.Node, r)
		e.Cause = ""
		m.add(e)
	}
}

func reportOf(e *kv.KV) observed.Report {
	if e == nil {
		return observed.Report{}
	}
	r, _ := observed.Decode[observed.Report](*e)
	return r
}

// worse is the event of a condition that came.
func worse(e events.Event, c observed.Condition) events.Event {
	e.Reason, e.Message, e.Next, e.Subject = string(c.Reason), c.Message, c.Next, c.Key
	if e.Message == "" {
		e.Message = observed.Meaning[c.Reason]
	}
	switch {
	case c.Reason == observed.DriftReturns:
		e.Kind = events.DriftReturns
	case c.Type == observed.Applied:
		e.Kind = events.ApplyFailed
	case c.Type == observed.Valid, c.Type == observed.Planned:
		e.Kind = events.DocumentRefused
	default:
		e.Kind = events.HealthLost
		if c.Status == observed.True {
			e.Severity = events.Notice // a note, in the way of nothing
		}
	}
	return e
}

// better is the event of one that went.
func better(e events.Event, c observed.Condition) events.Event {
	e.Reason, e.Subject = string(c.Reason), c.Key
	where := ""
	if e.Node != "" {
		where = " on " + e.Node
	}
	switch c.Type {
	case observed.Applied:
		e.Kind, e.Message = events.ApplyDone, fmt.Sprintf("%s is in force%s, and was %s", e.Concern, where, c.Reason)
	case observed.Valid, observed.Planned:
		e.Kind, e.Message = events.DocumentAccepted, fmt.Sprintf("not %s any more", c.Reason)
	default:
		e.Kind, e.Message = events.HealthBack, fmt.Sprintf("not %s any more%s", c.Reason, where)
	}
	return e
}

// status tells what the cluster as a whole has anew: documents that are refused, backups that are
// overdue. What is about a node its own agent has said.
func (m *moment) status(ref keys.Ref, c Change) {
	if c.New == nil {
		return
	}
	is, was := conditionsOf(c.New), conditionsOf(c.Old)
	e := events.Event{Cluster: ref.Cluster}
	compared(was, is, func(c observed.Condition) {
		m.add(worse(e, c))
	}, func(c observed.Condition) {
		m.add(better(e, c))
	})
}

// conditionsOf are those of a status that are about no node.
func conditionsOf(e *kv.KV) (out []observed.Condition) {
	if e == nil {
		return nil
	}
	var s struct {
		Conditions []struct {
			Node string `json:"node"`
			observed.Condition
		} `json:"conditions"`
	}
	if json.Unmarshal(e.Value, &s) != nil {
		return nil
	}
	for _, c := range s.Conditions {
		if c.Node == "" {
			out = append(out, c.Condition)
		}
	}
	return out
}

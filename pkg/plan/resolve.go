package plan

import (
	"fmt"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Resolve says what of a plan applies now: which resources to apply, which to
// drop (undo without waiting, because keeping them could do harm), and why the
// rest waits. It is the heart of R1, R2, R3 and R7, and it is pure: all it knows
// is the plan, the view and the time.
//
// What it does not mention is left exactly as it is on the host.
func Resolve(p Plan, v View, now time.Time) (apply, drop []Resource, why []observed.Condition) {
	if c, ok := foreign(p, v); ok {
		return nil, nil, []observed.Condition{c}
	}
	if p.Removal != nil {
		drop, why = resolveRemoval(p, v, now)
		return nil, drop, why
	}
	for _, r := range p.Resources {
		switch r := r.(type) {
		case Unit:
			var cs []observed.Condition
			if len(r.Routes) > 0 {
				r.Targets, cs = ResolveTargets(r.Routes, v, now)
			}
			apply = append(apply, r)
			why = append(why, cs...)
		case Patroni:
			if c, wait := dynamicConfigWaits(p, v, now); wait {
				why = append(why, c)
				continue
			}
			apply = append(apply, r)
		case Address:
			// Applied means that the agent follows the leader with it; Hold decides when it
			// is on this host.
			apply = append(apply, r)
		case SQL:
			if c, wait := sqlWaits(p, v, now); wait {
				why = append(why, c)
				continue
			}
			apply = append(apply, r)
		case Watched:
			w, c, ok := resolveWatched(p, r, v)
			if !ok {
				why = append(why, c)
				continue
			}
			apply = append(apply, w)
		default:
			why = append(why, observed.Condition{
				Type: observed.Applied, Status: observed.False, Reason: observed.UnsupportedSchema,
				Message: fmt.Sprintf("resource %s is of a kind this agent does not know", r.ID()),
			})
		}
	}
	return apply, drop, why
}

// foreign reports a plan that belongs to another store or to an earlier cluster
// of the same name: nothing is applied and nothing removed for it.
func foreign(p Plan, v View) (observed.Condition, bool) {
	c := observed.Condition{Type: observed.Applied, Status: observed.False, Reason: observed.StoreChanged}
	switch {
	case v.Store != "" && p.Store != v.Store:
		c.Message = fmt.Sprintf("the plan belongs to etcd incarnation %s, the agent works with %s", p.Store, v.Store)
	case v.UID != "" && p.UID != v.UID:
		c.Message = fmt.Sprintf("the plan belongs to cluster uid %s, the host to %s", p.UID, v.UID)
	default:
		return observed.Condition{}, false
	}
	return c, true
}

// dynamicConfigWaits: only the leader's own agent writes Patroni's dynamic
// configuration, and never during Patroni's pause, which people use to keep
// everything still.
func dynamicConfigWaits(p Plan, v View, now time.Time) (observed.Condition, bool) {
	if v.fresh(now) && v.Paused {
		return observed.Condition{
			Type: observed.Applied, Status: observed.Unknown, Reason: observed.PatroniPaused,
			Message: "Patroni is paused; its dynamic configuration is left alone",
		}, true
	}
	return leadersWork(p, v, now, "Patroni's dynamic configuration", "is written")
}

// sqlWaits: SQL objects are made on the confirmed primary alone. Patroni's pause
// stops nothing that happens inside PostgreSQL.
func sqlWaits(p Plan, v View, now time.Time) (observed.Condition, bool) {
	return leadersWork(p, v, now, "what is in the databases", "is made")
}

// leadersWork is what only the leader's own agent does, once its PostgreSQL is
// confirmed, at a fresh view.
func leadersWork(p Plan, v View, now time.Time, what, isDone string) (observed.Condition, bool) {
	c := observed.Condition{Type: observed.Applied, Status: observed.Unknown}
	switch {
	case !v.fresh(now):
		c.Reason, c.Message = observed.StaleView, "the view of etcd is too old: "+what+" is left alone"
	case v.StandbyCluster:
		c.Status, c.Reason = observed.False, observed.Unsupported
		c.Message = "standby clusters are not supported: " + what + " is left alone"
	case v.Leader.Member == "":
		c.Reason, c.Message = observed.NoLeader, "Patroni's leader key is absent"
	case v.Leader.Member != p.Cluster.Member || p.Cluster.Member == "":
		// Somebody else's work: true here means there is nothing to do on this node.
		return observed.Condition{
			Type: observed.Applied, Status: observed.True, Reason: observed.NotLeader,
			Message: what + " " + isDone + " by the agent of " + v.Leader.Member,
		}, true
	case !v.Confirmed():
		c.Reason, c.Message = observed.NotConfirmed, p.Cluster.Member+" leads and is not confirmed yet"
	default:
		return observed.Condition{}, false
	}
	return c, true
}

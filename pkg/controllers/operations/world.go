package operations

import (
	"fmt"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// worldOf is the cluster as its operations see it.
func worldOf(in controllers.Input, t *topology.Topology) operations.World {
	w := operations.World{
		Now: in.Now, Store: t.Store.Incarnation, UID: t.Formed.UID, Leader: t.Leader, Holds: holds(in, t),
		Standby: t.Docs.Backup.FromReplica(),
		Node: func(member string) string {
			for _, m := range t.Members {
				if m.Name == member {
					return m.Node
				}
			}
			return ""
		},
		Schema: func(node string) (int, bool) {
			a, alive := t.Alive(node)
			return a.PlanSchema, alive
		},
		Result: func(node, step string) (observed.StepResult, bool) {
			return observed.Read[observed.StepResult](in.Snapshot, in.Layout.ResultKey(node, step))
		},
	}
	for _, m := range t.Members {
		w.Members = append(w.Members, m.Name)
	}
	e, led := in.Snapshot.Get(in.Layout.Leader(in.Cluster))
	p, confirmed := observed.Read[observed.Primary](in.Snapshot, in.Layout.PrimaryKey(in.Cluster))
	if led {
		w.Epoch = plan.Epoch(e.ModRevision)
	}
	w.Confirmed = led && confirmed && p.Writable && p.Member == t.Leader && p.Of(t.Formed.UID, "") &&
		(p.Store == "" || p.Store == t.Store.Incarnation)
	if w.Confirmed {
		w.ConfirmedIn = plan.Epoch(p.Epoch)
	}
	return w
}

// holds says why no operation may begin.
func holds(in controllers.Input, t *topology.Topology) *observed.Condition {
	if e, ok := in.Snapshot.Get(in.Layout.Scope(t.Formed.Scope) + "config"); ok {
		if c, err := patroni.ParseConfig(e.Value); err == nil && c.Pause {
			return &observed.Condition{
				Reason: observed.PatroniPaused, Message: "Patroni is paused",
				Next: "patronictl -c /etc/patroni/" + in.Cluster + ".yml resume (on a member's node)",
			}
		}
	}
	// A member whose postgres is frozen does no step either.
	if f := &t.Docs.Freeze; (f.Covers(Concern) || f.Covers("postgres")) && in.Now.Before(f.End()) {
		return &observed.Condition{
			Reason: observed.Frozen, Message: fmt.Sprintf("frozen until %s", f.End().UTC().Format(time.RFC3339)),
			Next: "pgctrl unfreeze " + in.Cluster,
		}
	}
	return nil
}

// Concern is the concern whose operations these are, as people freeze it.
const Concern = "backup"

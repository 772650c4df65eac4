package plan

import (
	"fmt"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Act is what a step does. There is a word for each, and no command line.
type Act string

// The acts.
const (
	// ActRestart restarts a member's PostgreSQL.
	ActRestart Act = "restart"
	// ActReinit removes a member's data and copies them from the leader again.
	ActReinit Act = "reinit"
)

// Step is one act asked of one node. It is fenced: an agent does it only under the
// leadership that the person who asked was looking at.
type Step struct {
	Schema  int    `json:"schema"`
	Act     Act    `json:"act"`
	Cluster string `json:"cluster"`
	Member  string `json:"member"`
	// Store and UID are the etcd and the cluster that were looked at.
	Store string `json:"store"`
	UID   string `json:"uid"`
	Epoch Epoch  `json:"epoch"`
	// Pending: a restart only if a value waits for one.
	Pending bool `json:"pending,omitempty"`
	// By is who asked.
	By string `json:"by"`
}

// JudgeStep says why a node must not do a step; nil when it may. wait: that can't be
// told yet. own is the node's member, frozen whether its postgres is left alone.
func JudgeStep(s Step, own Member, frozen bool, v View, now time.Time) (no *observed.StepResult, wait bool) {
	refuse := func(reason observed.Reason, next, format string, args ...any) (*observed.StepResult, bool) {
		return &observed.StepResult{
			Schema: observed.Schema, State: observed.StepRefused, Reason: reason, Message: fmt.Sprintf(format, args...), Next: next,
		}, false
	}
	status := "pgctrl status " + s.Cluster
	switch {
	case s.Schema > Schema, s.Act != ActRestart && s.Act != ActReinit:
		return refuse(observed.UnsupportedSchema, "upgrade pgagent", "this agent does not know the act %q", s.Act)
	case !v.fresh(now):
		return nil, true
	case s.Store != v.Store || s.UID != v.UID:
		return refuse(observed.StoreChanged, status, "it was asked of another etcd or of an earlier cluster of this name")
	case own.Name != s.Member || own.Name == "":
		return refuse(observed.NotPlanned, status, "the node has no member %s", s.Member)
	case frozen:
		return refuse(observed.Frozen, "pgctrl unfreeze "+s.Cluster, "%s is frozen", s.Member)
	case v.Paused:
		return refuse(observed.PatroniPaused, status, "Patroni is paused")
	case v.Leader.Member == "":
		return refuse(observed.NoLeader, status, "nobody leads")
	case v.Leader.Epoch != s.Epoch:
		return refuse(observed.LeaderChanged, status, "%s leads, and did not when this was asked for", v.Leader.Member)
	case s.Act == ActReinit && v.Leader.Member == s.Member:
		return refuse(observed.Leading, status, "%s leads; its data are what the others are copied from", s.Member)
	}
	return nil, false
}

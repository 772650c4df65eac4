package plan

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Hook is a run of an operator's program, because a hook's document names it.
type Hook struct {
	// Name is the hook's: programs of one hook run one after the other.
	Name string `json:"name"`
	// Program is a file in the node's folder of hooks, Arguments what follows it. No shell sees them.
	Program   string   `json:"program"`
	Arguments []string `json:"arguments,omitempty"`
	// Primary: only while the step's member is the confirmed primary.
	Primary bool `json:"primary,omitempty"`
	// Event is the stored event, which the program reads from its standard input; EventID is
	// <cluster>/<id>, and Kind what sort of event it is. Before an operation it is the question
	// instead (package verdicts), as in c/restart-mfg3k2a1.
	Event   json.RawMessage `json:"event"`
	EventID string          `json:"event_id"`
	Kind    string          `json:"kind"`
	// Timeout is how long the program may run.
	Timeout time.Duration `json:"timeout_nanoseconds"`
	// Expires is until when it may begin: whoever asked has given up by then, or soon will.
	Expires time.Time `json:"expires"`
	// Attempt counts how often the event was given to the hook, from 1.
	Attempt int `json:"attempt"`
}

// HookOfFleet ends the name of a hook of all clusters, beside which the cluster may have one of the
// same name. No document's name has a colon.
const HookOfFleet = ":fleet"

// The bounds of a run. What is over them was not written by pgctrl.
const (
	// HookLongest is the longest time that a program may have.
	HookLongest = time.Hour
	// HookArguments is how many bytes a program's arguments may have together; the kernel
	// takes 128 KiB of each.
	HookArguments = 32 << 10
	// HookEvent is how large an event may be.
	HookEvent = 256 << 10
)

var (
	hookName    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}(:fleet)?$`)
	hookEventID = regexp.MustCompile(`^[a-z_][a-z0-9-]{0,39}/([0-9]+-[0-9]+|[a-z]+-[a-z0-9]+)$`)
)

// Valid says whether it can be run at all. Whether the program may be is the node's to judge, which
// has it.
func (h *Hook) Valid() bool {
	if h == nil || !hookName.MatchString(h.Name) || !hookEventID.MatchString(h.EventID) || h.Kind == "" || h.Program == "" {
		return false
	}
	size := 0
	for _, s := range append([]string{h.Program, h.Kind}, h.Arguments...) {
		size += len(s)
		if strings.ContainsRune(s, 0) {
			return false
		}
	}
	return size <= HookArguments && len(h.Event) <= HookEvent && json.Valid(h.Event) && !slices.Contains(strings.Split(h.Program, "/"), "..") &&
		h.Timeout > 0 && h.Timeout <= HookLongest && !h.Expires.IsZero()
}

// judgeHook is JudgeStep for a program of an operator's. It touches nothing that a freeze or
// Patroni's pause is about, and it may be of a node that has no member; so all that matters
// is that somebody still waits for it and, where it is the primary's, that this is the primary's
// node. The epoch does not: a member that leads again is the primary all the same.
func judgeHook(s Step, own Member, v View, now time.Time, refuse func(observed.Reason, string, string, ...any) (*observed.StepResult, bool)) (*observed.StepResult, bool) {
	status := "pgctrl status " + s.Cluster
	switch h := s.Hook; {
	case !h.Valid():
		return refuse(observed.NotPlanned, status, "it does not say what is run, and for what")
	case now.After(h.Expires):
		return refuse(observed.DeadlineExceeded, "timedatectl status", "it was to begin by %s, and it is %s by this node's clock",
			h.Expires.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case !h.Primary && s.Store != v.Store:
		return refuse(observed.StoreChanged, "pgctrl etcd status", "it was asked of another etcd")
	case !h.Primary:
		return nil, false
	case own.Name == "" || own.Name != s.Member:
		return refuse(observed.NotLeader, status, "the node has no member %s", s.Member)
	case !v.fresh(now):
		return nil, true
	case s.Store != v.Store || s.UID != v.UID:
		return refuse(observed.StoreChanged, status, "it was asked of another etcd or of an earlier cluster of this name")
	case v.Leader.Member != s.Member:
		return refuse(observed.NotLeader, status, "%s is not the leader any more, and this is done on the primary's node", s.Member)
	case !v.Confirmed():
		return refuse(observed.NotLeader, status, "%s is not confirmed as the primary, and this is done on the primary's node", s.Member)
	}
	return nil, false
}

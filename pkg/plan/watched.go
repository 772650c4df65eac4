package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Watched is a file whose reader notices by itself that it changed, as dnsmasq does
// with the files in its hostsdir: nothing is validated and nothing reloaded.
type Watched struct {
	// File is its path.
	File  string `json:"file"`
	Mode  string `json:"mode"`
	Owner string `json:"owner,omitempty"` // user:group; root:root when empty
	// Content may hold the placeholders. Those of the primary are Resolve's, so the file
	// follows the leader while its plan stays as it is.
	Content string `json:"content"`
	// Replicas, in a file of hosts, are names. Resolve ends the content with a line for
	// each member that serves as a replica at this moment: its address and these names.
	Replicas []string `json:"replicas,omitempty"`
	// From are the members that may have a line; nobody else has one.
	From []string `json:"from,omitempty"`
}

// ID implements Resource.
func (w Watched) ID() string { return "file " + w.File }

// primaryMark begins the placeholders that stand for the primary.
const primaryMark = "{{primary."

// Follows reports whether what is in the file depends on who leads.
func (w Watched) Follows() bool {
	return strings.Contains(w.Content, primaryMark) || len(w.Replicas) > 0
}

// FollowsLeader reports whether a plan has a file that depends on who leads.
func FollowsLeader(p Plan) bool {
	for _, r := range p.Resources {
		if w, ok := r.(Watched); ok && p.Removal == nil && w.Follows() {
			return true
		}
	}
	return false
}

// resolveWatched writes into a file who leads: the confirmed primary, and while nobody
// is confirmed the one that was last, as long as that may still be so. Otherwise it
// waits, and the file stays on the host with what it says. It asks for no fresh view: an
// agent that sees nothing new has nothing new to write, and repairs what it wrote before.
func resolveWatched(p Plan, w Watched, v View) (Watched, observed.Condition, bool) {
	if !w.Follows() {
		return w, observed.Condition{}, true
	}
	wait := func(reason observed.Reason, msg string) (Watched, observed.Condition, bool) {
		return w, observed.Condition{
			Type: observed.Applied, Status: observed.Unknown, Reason: reason,
			Message: fmt.Sprintf("%s: %s; the file stays as it is", w.ID(), msg),
		}, false
	}
	primary := v.kept()
	if v.Confirmed() {
		primary = v.Primary.Member
	}
	switch {
	case !v.Known:
		return wait(observed.StaleView, "etcd was not read since the agent started")
	case primary == "":
		return wait(observed.NotConfirmed, "no primary is confirmed")
	}
	at, ok := p.Cluster.Find(primary)
	if !ok || at.Address == "" {
		return wait(observed.NotConfirmed, "the plan does not say where "+primary+", the confirmed primary, is")
	}
	w.Content = strings.NewReplacer("{{primary.name}}", at.Name, "{{primary.address}}", at.Address).Replace(w.Content)
	for _, m := range p.Cluster.Members {
		if len(w.Replicas) > 0 && slices.Contains(w.From, m.Name) && m.Name != primary && v.servesAsReplica(m.Name) {
			w.Content += m.Address + " " + strings.Join(w.Replicas, " ") + "\n"
		}
	}
	w.Replicas, w.From = nil, nil // they are lines now
	return w, observed.Condition{}, true
}

// servesAsReplica reports whether clients that want a replica are sent to the member: not
// when it leads, does not run, or has the tag by which Patroni keeps clients away.
func (v View) servesAsReplica(member string) bool {
	key, ok := v.Members[member]
	return ok && key.Running() && v.Leader.Member != member && key.Tags["noloadbalance"] != true
}

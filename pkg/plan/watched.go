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
	// Absent says that the host is to have no such file, while the rest of the plan is
	// applied.
	Absent bool `json:"absent,omitempty"`
}

// ID implements Resource.
func (w Watched) ID() string { return "file " + w.File }

// The programs beside a member that look at others and that nobody looks at but
// Prometheus, as Unit.Program has them.
const (
	PostgresExporter = "postgres_exporter"
	PoolerExporter   = "pgbouncer_exporter"
)

// BackupServer is the program by which other members' pgBackRest reads a member's data.
const BackupServer = "pgbackrest_server"

const (
	// primaryMark begins the placeholders that stand for the primary.
	primaryMark = "{{primary."
	// roleMark begins those that stand for a member's role.
	roleMark = "{{role "
)

// RoleOf is the placeholder for what a member is: RolePrimary for the one that was
// confirmed last, RoleReplica for the others, RoleUnknown before anybody was. It is for
// labels: each time that one changes all series under it break in two, so it waits for
// the next confirmation and not for what is in between.
func RoleOf(member string) string { return roleMark + member + "}}" }

// What a RoleOf may become.
const (
	RolePrimary = "primary"
	RoleReplica = "replica"
	RoleUnknown = "unknown"
)

// Follows reports whether what is in the file depends on who leads.
func (w Watched) Follows() bool {
	return w.names() || strings.Contains(w.Content, roleMark)
}

// names reports whether the file leads to somebody, so that it can't be without a primary.
func (w Watched) names() bool {
	return strings.Contains(w.Content, primaryMark) || len(w.Replicas) > 0
}

// NamesPrimary reports whether a file of the plan leads to the primary itself.
func NamesPrimary(p Plan, file string) bool {
	for _, r := range p.Resources {
		if w, ok := r.(Watched); ok && w.File == file {
			return strings.Contains(w.Content, primaryMark)
		}
	}
	return false
}

// Named is whom files that lead to the primary name: the confirmed one, and while nobody
// is confirmed the one that was last, as long as that may still be so. Empty: they wait.
func (v View) Named() string {
	if v.Confirmed() {
		return v.Primary.Member
	}
	return v.kept()
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

// resolveWatched writes into a file who leads, or waits, and the file stays on the host
// with what it says. It asks for no fresh view: an agent that sees nothing new has
// nothing new to write, and repairs what it wrote before.
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
	primary := v.Named()
	if !v.Known {
		return wait(observed.StaleView, "etcd was not read since the agent started")
	}
	w.Content = withRoles(w.Content, p.Cluster.Members, v.confirmedLast())
	switch {
	case !w.names():
		return w, observed.Condition{}, true
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

// confirmedLast is the member that was confirmed last, whether or not it still takes
// writes; empty: nobody was.
func (v View) confirmedLast() string {
	if !v.believed() {
		return ""
	}
	return v.Primary.Member
}

// withRoles writes what each member is. Everybody but the primary is a replica, whether
// or not it runs: that a member is down is for what is measured to say.
func withRoles(content string, members []Member, primary string) string {
	for _, m := range members {
		role := RoleUnknown
		switch {
		case m.Name == primary:
			role = RolePrimary
		case primary != "":
			role = RoleReplica
		}
		content = strings.ReplaceAll(content, RoleOf(m.Name), role)
	}
	return content
}

// servesAsReplica reports whether clients that want a replica are sent to the member: not
// when it leads, does not run, or has the tag by which Patroni keeps clients away.
func (v View) servesAsReplica(member string) bool {
	key, ok := v.Members[member]
	return ok && key.Running() && v.Leader.Member != member && key.Tags["noloadbalance"] != true
}

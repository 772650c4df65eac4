// Package twins lets the roles that pgctrl's own programs log in as take turns, so that
// a password is changed without a failed login: its role's twin gets a new one, the
// programs move to the twin when their PostgreSQL has it, and then nobody can log in as
// the former any more.
//
// Nothing is stored for it. Of a pair's two secrets the one that was written last is to
// be used; who may use it yet follows from what the agents say of their own PostgreSQL,
// and who has moved from plans and reports. So a server that is killed at any step is
// followed by one that goes on with it, and a change of the leader changes nothing.
package twins

import (
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Role is a role and the name of its password.
type Role struct{ Role, Secret string }

// Pair are a role that a cluster forms with, and its twin, which exists from the first
// rotation on.
type Pair [2]Role

// The pairs.
var (
	// Replicator is whom Patroni and its WAL receivers log in as.
	Replicator = pair("replicator", "replicator")
	// Rewind is whom pg_rewind logs in as.
	Rewind = pair("rewind", "rewind")
	// Monitor is whom exporters log in as.
	Monitor = pair("pgctrl_monitor", "monitor")
	// Pooler is whom PgBouncer looks users up as.
	Pooler = pair("pgctrl_pooler", "pooler")

	// All is every pair.
	All = []Pair{Replicator, Rewind, Monitor, Pooler}
)

func pair(role, secret string) Pair { return Pair{{role, secret}, {role + "_b", secret + "_b"}} }

// Of is the pair that has a secret of that name.
func Of(secret string) (Pair, bool) {
	for _, p := range All {
		if p[0].Secret == secret || p[1].Secret == secret {
			return p, true
		}
	}
	return Pair{}, false
}

// Name is what a pair is called: the secret that a cluster forms with.
func (p Pair) Name() string { return p[0].Secret }

// users are the concerns whose plans name a password of the pair.
func (p Pair) users() []string {
	switch p {
	case Replicator, Rewind:
		return []string{topology.Concern}
	case Pooler:
		return []string{topology.Pooler}
	case Monitor:
		return []string{topology.Monitor}
	}
	return nil
}

// Inputs is what the functions here read, beside topology.Inputs.
func Inputs() []controllers.Access {
	return []controllers.Access{
		{Family: keys.Secrets},
		{Family: keys.Observed, Part: topology.Databases},
		{Family: keys.PatroniKey, Part: "members"},
	}
}

// Named is a role whose password exists, and at which revision.
type Named struct {
	Role
	Revision int64
}

// Exist are the roles of a pair that have a password: the one to be used, and the
// former one while it is open; nil: there is none such. A reader who can't see secrets
// gets those that no plan names at revision 0.
func (p Pair) Exist(in controllers.Input) (now, former *Named) {
	for _, r := range p {
		e, ok := in.Snapshot.Get(in.Layout.Secret(in.Cluster, r.Secret))
		if !ok || e.ModRevision <= 0 {
			continue
		}
		n := &Named{r, e.ModRevision}
		if now == nil || n.Revision > now.Revision {
			now, former = n, now
		} else {
			former = n
		}
	}
	return now, former
}

// Has reports whether either role of the pair has a password, also for a reader who can't
// see secrets and is told that there are all.
func (p Pair) Has(in controllers.Input) bool {
	for _, r := range p {
		if _, ok := in.Snapshot.Get(in.Layout.Secret(in.Cluster, r.Secret)); ok {
			return true
		}
	}
	return false
}

// Use is whom a program of the concern on a node logs in as, and the other one while it
// is still open.
func (p Pair) Use(in controllers.Input, t *topology.Topology, node, concern string) (use, other *Named) {
	now, former := p.Exist(in)
	if former == nil || moved(t.Stored(in, node, concern), *now) || p.waits(in, t, *now, node) == "" {
		return now, former
	}
	return former, now
}

// moved reports whether a plan has the password already. There is no way back: what
// counted when it was written still holds.
func moved(s *topology.Stored, now Named) bool {
	return s != nil && s.Head.Secrets[now.Secret] == now.Revision
}

// waits says why a node may not move yet; empty: it may. Its own PostgreSQL must let
// the role in, and so must the leader's and that of whoever might lead next. Of the
// others only those count that run, whether or not their agent is there to say so: a
// member that is down holds nobody up, and can't lead before it has caught up.
func (p Pair) waits(in controllers.Input, t *topology.Topology, now Named, node string) string {
	lacks := ""
	for _, m := range t.Members {
		d := t.Docs.Members[m.Name]
		counts := m.Node == node || m.Name == t.Leader || Runs(in, t, m.Name) && (d == nil || d.CanLead())
		if counts && !has(in, t, m.Node, now) {
			lacks = strings.TrimPrefix(lacks+", "+m.Name, ", ")
		}
	}
	switch {
	case lacks != "":
		return "PostgreSQL of " + lacks + " does not have " + now.Role.Role + " yet"
	case t.Leader == "":
		return "nobody leads"
	}
	return ""
}

// Runs reports whether a member's PostgreSQL runs, as its Patroni says.
func Runs(in controllers.Input, t *topology.Topology, member string) bool {
	e, ok := in.Snapshot.Get(in.Layout.Members(t.Formed.Scope) + member)
	if !ok {
		return false
	}
	m, err := patroni.ParseMember(member, e.Value)
	return err != nil || m.Running()
}

// login is what a node's agent says of a role that its own PostgreSQL lets in, and
// whether that is settled; empty when it does not let it in.
func login(in controllers.Input, t *topology.Topology, node string, n Named) (said string, settled bool) {
	for _, said := range logins(in, t, node) {
		if strings.HasPrefix(said, observed.Login(n.Role.Role, n.Revision, "")) {
			bare := strings.TrimSuffix(said, observed.LoginSettled(""))
			return bare, bare != said
		}
	}
	return "", false
}

func logins(in controllers.Input, t *topology.Topology, node string) []string {
	r, ok := observed.Read[observed.Report](in.Snapshot, in.Layout.ObservedKey(node, in.Cluster, topology.Databases))
	if !ok || !r.Of(t.Formed.UID) {
		return nil
	}
	return strings.Fields(r.Facts[observed.FactLogins])
}

// has reports whether a node's PostgreSQL has a role as the leader's has it.
func has(in controllers.Input, t *topology.Topology, node string, n Named) bool {
	said, _ := login(in, t, node, n)
	return said != "" && slices.ContainsFunc(t.Members, func(m plan.Member) bool {
		leads, _ := login(in, t, m.Node, n)
		return m.Name == t.Leader && said == leads
	})
}

// Package topology answers what every concern asks first: which members does the
// cluster have, where do they listen, and are the documents good enough to change
// anything on a host. It is shared by the controllers and as pure as they are.
package topology

import (
	"cmp"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Concern is the name under which member plans are stored; they say which members
// exist on hosts, whatever the documents say now.
const Concern = "postgres"

// Inputs is what Load reads; a controller that calls it declares them.
func Inputs() []controllers.Access {
	in := []controllers.Access{
		{Family: keys.Nodes},
		{Family: keys.Alive},
		{Family: keys.Formed, Fleet: true}, // the ports that other clusters took
		{Family: keys.Store},
		{Family: keys.Plan, Part: Concern},
		{Family: keys.PatroniKey, Part: "leader"},
	}
	// Ports must be free on every node and addresses belong to one cluster, so the documents of the whole fleet matter.
	in = append(in,
		controllers.Access{Family: keys.Desired, Part: freezeKind},
		controllers.Access{Family: keys.Defaults, Part: freezeKind})
	for _, kind := range allKinds {
		in = append(in,
			controllers.Access{Family: keys.Desired, Part: kind, Fleet: true},
			controllers.Access{Family: keys.Defaults, Part: kind})
	}
	return in
}

var allKinds = []string{"backup", "members", "monitor", "pgbouncer", "postgres", "services", "vip"}

// Topology is one cluster as the controllers see it.
type Topology struct {
	// Docs are the documents of the kinds asked for, with their defaults.
	Docs *desired.Cluster
	// Formed is what was decided when the cluster formed; nil before.
	Formed *observed.Formed
	Store  observed.Store
	// Members are all members that exist: those with a document and those without
	// one that still run (Unmanaged), sorted by name. Ports are zero before the
	// cluster has formed.
	Members []plan.Member
	// Unmanaged are the members without a document that are on a host.
	Unmanaged []plan.Member
	// Leader is the member in Patroni's leader key; empty when there is none.
	Leader string
	// Removing: a document says that the whole cluster is to go.
	Removing bool
	// Leaving are the members that are on their way out, by name: a document or
	// their plan says so, and they do not lead.
	Leaving map[string]bool

	in    controllers.Input
	alive map[string]*observed.Alive // by node, once asked for; nil: it has none
}

// Load reads one cluster. kinds are the documents that the concern depends on.
// The conditions are what is wrong or worth knowing; ok is false when nothing may
// be planned: then the last good plans stay (R4).
func Load(in controllers.Input, kinds ...string) (t *Topology, cs []observed.Condition, ok bool) {
	kinds = append(slices.Clone(kinds), freezeKind) // it concerns every concern
	t = &Topology{
		Docs: desired.Load(in.Snapshot, in.Layout, in.Cluster, kinds...), in: in, Leaving: map[string]bool{}, alive: map[string]*observed.Alive{},
		Removing: desired.Load(in.Snapshot, in.Layout, in.Cluster, "postgres").Removing(),
	}
	if f, found := observed.Read[observed.Formed](in.Snapshot, in.Layout.FormedKey(in.Cluster)); found {
		t.Formed = &f
	}
	if e, found := in.Snapshot.Get(in.Layout.Leader(in.Cluster)); found {
		t.Leader = string(e.Value)
	}
	t.Store, ok = observed.Read[observed.Store](in.Snapshot, in.Layout.StoreKey())
	if !ok || t.Store.Incarnation == "" || len(t.Store.Endpoints) == 0 {
		return t, []observed.Condition{NoStore(in.Layout.StoreKey())}, false
	}
	cs = append(problems(in, kinds), t.members(in)...)
	for _, c := range cs {
		if c.Type == observed.Valid && c.Bad() {
			return t, cs, false
		}
	}
	return t, cs, true
}

// NoStore says that nothing can be planned in this etcd yet.
func NoStore(key string) observed.Condition {
	return observed.Condition{
		Type: observed.Planned, Status: observed.False, Reason: observed.NotPlanned, Key: key,
		Message: "this etcd has no identity or endpoints yet, which plans need",
		Next:    "pgctrl init",
	}
}

// members joins the documents with what runs without one, and finds members that
// a document wants on another node than the one they are on.
func (t *Topology) members(in controllers.Input) []observed.Condition {
	running := onHosts(in, t)
	var cs []observed.Condition
	for _, m := range t.Docs.MemberList() {
		n := t.Docs.Nodes[m.Node]
		if n == nil {
			continue // UnknownNode is among the problems
		}
		if m.Absent() && t.Leader != "" && t.Leader != m.Name {
			t.Leaving[m.Name] = true
		}
		if m.Absent() && !slices.ContainsFunc(running, func(r plan.Member) bool { return r.Name == m.Name }) {
			t.Leaving[m.Name] = true
			continue // it is gone, or was never there
		}
		t.Members = append(t.Members, t.listens(plan.Member{
			Name: m.Name, Node: m.Node, Address: n.Address, Offline: m.Offline,
		}))
		for _, r := range running {
			if r.Name == m.Name && r.Node != m.Node {
				cs = append(cs, moved(in, m, r))
			}
		}
	}
	for _, r := range running {
		if t.removalOf(in, r.Node) != nil {
			t.Leaving[r.Name] = true
		}
		if _, documented := t.Docs.Members[r.Name]; documented || t.Docs.Invalid("members") {
			continue
		}
		if n := desired.LoadNode(in.Snapshot, in.Layout, r.Node); n != nil {
			r.Address = n.Address
		}
		r = t.listens(r)
		t.Members = append(t.Members, r)
		if t.removalOf(in, r.Node) == nil {
			t.Unmanaged = append(t.Unmanaged, r)
		}
	}
	slices.SortFunc(t.Members, func(a, b plan.Member) int { return cmp.Compare(a.Name, b.Name) })
	return cs
}

func (t *Topology) listens(m plan.Member) plan.Member {
	if t.Formed != nil {
		m.Port, m.RESTPort = t.Formed.Port, t.Formed.RESTPort
	}
	return m
}

// Plan is the part of a plan that is the same for every concern: identity,
// documents' revision and members; node tells whose plan it is.
func (t *Topology) Plan(node, writer string) plan.Plan {
	p := plan.Plan{
		Schema: plan.SchemaFirst, Writer: writer, Store: t.Store.Incarnation, UID: t.Formed.UID,
		Inputs:  plan.Inputs{Revision: t.Docs.Revision},
		Cluster: plan.Cluster{Name: t.Docs.Name, Members: t.Members},
	}
	for _, m := range t.Members {
		if m.Node == node {
			p.Cluster.Member = m.Name
		}
	}
	return p
}

// Alive is a node's presence, and whether it has one.
func (t *Topology) Alive(node string) (observed.Alive, bool) {
	a, asked := t.alive[node]
	if !asked {
		if found, ok := observed.Read[observed.Alive](t.in.Snapshot, t.in.Layout.AliveKey(node)); ok {
			a = &found
		}
		t.alive[node] = a
	}
	if a == nil {
		return observed.Alive{}, false
	}
	return *a, true
}

// Leads reports whether the leader's member is on the node.
func (t *Topology) Leads(node string) bool {
	for _, m := range t.Members {
		if m.Node == node && m.Name == t.Leader {
			return true
		}
	}
	return false
}

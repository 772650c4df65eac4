// Package databases plans what is inside PostgreSQL: roles, databases, and what is in
// them. One plan, the same on every member's node; the agent of the confirmed primary
// makes it so, and the next one's goes on after a failover. All say which of pgctrl's own
// roles their PostgreSQL lets in, for whoever takes turns with a twin (package twins).
package databases

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// Concern is the controller's name.
const Concern = topology.Databases

// The kinds of documents that the concern is about.
const (
	users     = "users"
	databases = "databases"
)

// owned are the roles whose passwords are made and forgotten here: those that Patroni
// does not know.
var owned = []twins.Pair{twins.Monitor, twins.Pooler}

// Controller implements controllers.Controller.
type Controller struct{}

// New returns the controller.
func New() Controller { return Controller{} }

// Name implements controllers.Controller.
func (Controller) Name() string { return Concern }

// Inputs implements controllers.Controller. Of secrets only existence and revision
// are looked at.
func (Controller) Inputs() []controllers.Access {
	in := append(topology.Inputs(), twins.Inputs()...)
	// A role is closed when nobody's plan names its password any more.
	for _, concern := range []string{topology.Concern, topology.Pooler, topology.Monitor} {
		in = append(in, controllers.Access{Family: keys.Observed, Part: concern})
	}
	in = append(in, controllers.Access{Family: keys.Plan, Part: topology.Pooler}, controllers.Access{Family: keys.Plan, Part: topology.Monitor})
	for _, kind := range []string{users, databases} {
		in = append(in, controllers.Access{Family: keys.Desired, Part: kind}, controllers.Access{Family: keys.Defaults, Part: kind})
	}
	return in
}

// Outputs implements controllers.Controller.
func (Controller) Outputs() []controllers.Access {
	out := []controllers.Access{{Family: keys.Plan, Part: Concern}, {Family: keys.Secrets, Part: users}}
	for _, p := range owned {
		for _, r := range p {
			out = append(out, controllers.Access{Family: keys.Secrets, Part: r.Secret})
		}
	}
	return out
}

// Plan implements controllers.Controller.
func (Controller) Plan(in controllers.Input) (controllers.Result, error) {
	t, cs, ok := topology.Load(in, "members")
	docs := desired.Load(in.Snapshot, in.Layout, in.Cluster, users, databases)
	before := stored(in, t)
	if ok && t.Removing {
		return removeAll(in, t, docs, before, cs), nil
	}
	if !ok || !t.Docs.Exists() || t.Formed == nil {
		return result(nil, cs), nil
	}
	if !t.Understood(plan.SchemaSQL) {
		return result(nil, append(cs, observed.Condition{
			Type: observed.Planned, Status: observed.False, Reason: observed.UnsupportedSchema, Key: in.Layout.Prefix(keys.Alive),
			Message: "an agent of the cluster's nodes is of an earlier version that makes no roles and databases; they are left as they are",
			Next:    "pgctrl node list (shows which agents are older)",
		})), nil
	}
	b := builder{in: in, t: t, before: before, others: others(in, t), secrets: map[string]int64{}}
	sql := b.sql(docs)
	want := map[string]plan.Plan{}
	for _, m := range t.Docs.MemberList() {
		// Who has the plan may be leading right now, whatever its document says since; and
		// of one that never leads the agent says which roles its PostgreSQL has.
		_, has := kv.GetShort(in.Snapshot, in.Layout.PlanKey(m.Node, in.Cluster, Concern))
		if t.Docs.Nodes[m.Node] == nil || !has && m.Absent() {
			continue
		}
		p := t.Plan(m.Node, version.String())
		p.Schema, p.Resources, p.Secrets = plan.SchemaSQL, plan.Resources{sql}, b.secrets
		p.Inputs.Revision = max(p.Inputs.Revision, docs.Revision)
		want[m.Node] = p
	}
	done := t.Clear(in, Concern, version.String(), t.Goes, want)
	out, waiting := t.AtOnce(in, Concern, want)
	return result(slices.Concat(b.mints, twins.Forget(in, t, owned...), out, done), append(append(cs, b.conditions...), waiting...)), nil
}

func result(out []controllers.Output, cs []observed.Condition) controllers.Result {
	observed.Sort(cs)
	return controllers.Result{Outputs: out, Conditions: cs}
}

// stored are the SQL objects that are planned now; the newest plan of any node has
// them. Reading a whole plan is a question to etcd, so it is read alone.
func stored(in controllers.Input, t *topology.Topology) plan.SQL {
	all := t.AllStored(in, Concern)
	slices.SortStableFunc(all, func(a, b *topology.Stored) int { return cmp.Compare(b.Revision, a.Revision) })
	for _, s := range all {
		if s.Head.Removal != nil || t.Formed != nil && s.Head.UID != t.Formed.UID {
			continue // an earlier cluster of this name is none of ours
		}
		p, readable := s.Whole()
		if sql, ok := plan.SQLOf(p); readable && ok {
			return sql
		}
	}
	return plan.SQL{}
}

// others are the roles that the primary's agent found and no document describes; nil
// while it has not gone through the roles with the plan that there is now: of a role that
// lost its document since, an earlier answer does not know.
func others(in controllers.Input, t *topology.Topology) map[string]bool {
	for _, s := range t.AllStored(in, Concern) {
		if !t.Leads(s.Node) || s.Report == nil || !s.Report.Of(t.Formed.UID) || s.Report.Plan != s.Revision {
			continue
		}
		if said, ok := s.Report.Facts[observed.FactOtherRoles]; ok {
			out := map[string]bool{}
			for _, name := range strings.Fields(said) {
				out[name] = true
			}
			return out
		}
	}
	return nil
}

// removeAll is the answer for a cluster that is to go as a whole. What is in its
// databases stays with its data; passwords go with the last plan.
func removeAll(in controllers.Input, t *topology.Topology, docs *desired.Cluster, before plan.SQL, cs []observed.Condition) controllers.Result {
	want := map[string]plan.Plan{}
	left := len(t.AllStored(in, Concern))
	out := t.Clear(in, Concern, version.String(), t.Goes, want)
	wanted, waiting := t.AtOnce(in, Concern, want)
	out = append(out, wanted...)
	if left == 0 {
		var names []string
		for _, p := range owned {
			names = append(names, p[0].Secret, p[1].Secret)
		}
		for _, r := range before.Roles {
			names = append(names, r.Password)
		}
		for _, u := range docs.UserList() {
			names = append(names, keys.UserSecret(u.Name))
		}
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			out = append(out, controllers.Output{Key: in.Layout.Secret(in.Cluster, name), Mode: controllers.Delete})
		}
	}
	return result(out, append(cs, waiting...))
}

// unmanaged says of what lost its document that it is left as it is.
func unmanaged(in controllers.Input, kind, one, name string) observed.Condition {
	return observed.Condition{
		Type: observed.Planned, Status: observed.False, Reason: observed.Unmanaged,
		Key:     in.Layout.ClusterDoc(in.Cluster, kind+"/"+name),
		Message: fmt.Sprintf("%s %s has no document any more; it is left as it is", one, name),
		Next:    fmt.Sprintf("pgctrl set %s %s/%s (to keep it), or pgctrl %s remove %s %s", in.Cluster, kind, name, one, in.Cluster, name),
	}
}

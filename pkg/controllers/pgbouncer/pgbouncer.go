// Package pgbouncer plans one PgBouncer for each cluster and member: its
// configuration file, and a list of users with nobody in it but the superuser, who is
// in Patroni's file too, and the role that looks all others up.
//
// A pooler is stateless and goes to its own member's PostgreSQL over the socket,
// whatever that member's role is. Whether clients are led to it is the business of
// routes: its file, too, is the same before and after a failover.
package pgbouncer

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/certificate"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// Concern is the controller's name.
const Concern = topology.Pooler

// Controller implements controllers.Controller.
type Controller struct{}

// New returns the controller.
func New() Controller { return Controller{} }

// Name implements controllers.Controller.
func (Controller) Name() string { return Concern }

// Inputs implements controllers.Controller. Of secrets only existence and revision
// are looked at.
func (Controller) Inputs() []controllers.Access {
	return append(append(topology.Inputs(), twins.Inputs()...),
		controllers.Access{Family: keys.Observed, Part: Concern},
		// A pooler is stopped after nobody is led to it any more.
		controllers.Access{Family: keys.Plan, Part: topology.Proxy},
		controllers.Access{Family: keys.Observed, Part: topology.Proxy},
	)
}

// Outputs implements controllers.Controller.
func (Controller) Outputs() []controllers.Access {
	return []controllers.Access{{Family: keys.Plan, Part: Concern}}
}

// Plan implements controllers.Controller.
func (Controller) Plan(in controllers.Input) (controllers.Result, error) {
	t, cs, ok := topology.Load(in, "members", "pgbouncer", "postgres")
	want := map[string]plan.Plan{}
	var renews time.Duration
	switch {
	case ok && t.Removing:
	case !ok || !t.Docs.Exists() || t.Formed == nil:
		return result(nil, cs), nil
	default:
		// A pooler that can look nobody up lets nobody in. Status, which can't see secrets,
		// shows those in no plan at revision 0.
		admin, _ := in.Snapshot.Get(in.Layout.Secret(in.Cluster, Superuser))
		now, _ := twins.Pooler.Exist(in)
		if admin.ModRevision <= 0 || now == nil {
			name := Superuser
			if admin.ModRevision > 0 {
				name = twins.Pooler.Name()
			}
			return result(nil, append(cs, observed.Condition{
				Type: observed.Planned, Status: observed.False, Reason: observed.WaitingForSecret,
				Key:     in.Layout.Secret(in.Cluster, name),
				Message: fmt.Sprintf("the password %q is being made", name),
			})), nil
		}
		tls, waits := certificate.For(in, t, Concern, directory)
		if len(waits) > 0 {
			return result(nil, append(cs, waits...)), nil
		}
		renews = certificate.Renews(in, t)
		var old []string
		want, old = plans(in, t, admin.ModRevision, tls)
		cs = append(cs, tooOld(in, t, old)...)
	}
	goes, waits := leaving(in, t)
	done := t.Clear(in, Concern, version.String(), goes, want)
	out, waiting := t.Rollout(in, Concern, want, func(_ string, r *observed.Report) bool { return topology.NothingLoaded(r) })
	r := result(append(out, done...), append(append(cs, waits...), waiting...))
	r.After = renews
	return r, nil
}

func result(out []controllers.Output, cs []observed.Condition) controllers.Result {
	observed.Sort(cs)
	return controllers.Result{Outputs: out, Conditions: cs}
}

// plans are the plans of all members, by node, and the nodes whose PgBouncer is too
// old for users' own settings. Where poolers are switched off, only nodes that have
// one keep it, until nobody is led to it.
func plans(in controllers.Input, t *topology.Topology, admin int64, tls *certificate.Use) (want map[string]plan.Plan, old []string) {
	want = map[string]plan.Plan{}
	for _, m := range t.Docs.MemberList() {
		has := t.Stored(in, m.Node, Concern)
		switch {
		case t.Docs.Nodes[m.Node] == nil:
			continue
		case has == nil && (m.Absent() || !t.Docs.PgBouncer.Enabled):
			continue
		}
		able := can(in, t, m.Node)
		if !able.users && len(t.Docs.PgBouncer.Users) > 0 {
			old = append(old, m.Node)
		}
		look, looks := lookups(in, t, m.Node), looking(in)
		p := t.Plan(m.Node, version.String())
		p.Resources = plan.Resources{plan.Unit{
			Unit: "pgbouncer@" + in.Cluster + ".service", Program: plan.Pooler,
			Files: []plan.File{
				{Path: configFile(in.Cluster), Mode: "0640", Owner: "root:postgres", Content: render(in.Layout, t, m.Node, look[0].Role.Role, able, tls)},
				{Path: authFile(in.Cluster), Mode: "0640", Owner: "root:postgres", Content: authContent(look, looks)},
			},
		}}
		p.Secrets = map[string]int64{Superuser: admin}
		for _, r := range append(look, looks...) {
			p.Secrets[r.Secret] = r.Revision
		}
		tls.In(&p)
		want[m.Node] = p
	}
	return want, old
}

// lookups are the roles that a node's pooler knows the passwords of; the first is whom it
// looks users up as. When one takes over from another it knows both for a while: on RELOAD
// PgBouncer forgets the passwords of all users that are not in its file any more, and a
// lookup that is just connecting as the former one would let its client down. One that
// waits because PostgreSQL is being restarted does so when that is back.
func lookups(in controllers.Input, t *topology.Topology, node string) []twins.Named {
	use, other := twins.Pooler.Use(in, t, node, Concern)
	if other == nil || use.Revision < other.Revision {
		return []twins.Named{*use}
	}
	s := t.Stored(in, node, Concern)
	if s != nil && s.Head.Secrets[use.Secret] == use.Revision {
		_, both := s.Head.Secrets[other.Secret]
		if !both || s.Report != nil && s.Report.Done(s.Revision) && twins.Runs(in, t, s.Head.Cluster.Member) {
			return []twins.Named{*use}
		}
	}
	return []twins.Named{*use, *other}
}

// looking are the roles that exporters log in to the console as: both while one takes over
// from the other, because exporters move when the poolers know it.
func looking(in controllers.Input) []twins.Named {
	var out []twins.Named
	now, former := twins.Monitor.Exist(in)
	for _, r := range []*twins.Named{now, former} {
		if r != nil {
			out = append(out, *r)
		}
	}
	return out
}

// The first PgBouncer that can do a thing. Not known is the careful answer.
var (
	// usersSince asks auth_query about a user who has settings in its file. Earlier ones
	// take such a user for one with an empty password and let nobody in under that name
	// (1.18, measured).
	usersSince = patroni.ParseVersion("1.23.0")
	// preparedSince knows max_prepared_statements; earlier ones refuse a file with it.
	preparedSince = patroni.ParseVersion("1.21.0")
)

// can says what the PgBouncer of a node can do, by the version that its agent found at
// the last apply, else by what it announced.
func can(in controllers.Input, t *topology.Topology, node string) (out features) {
	found := ""
	if r, ok := observed.Read[observed.Report](in.Snapshot, in.Layout.ObservedKey(node, in.Cluster, Concern)); ok {
		found = r.Facts["version."+plan.Pooler]
	}
	if a, ok := t.Alive(node); ok && found == "" {
		found = a.Programs[plan.Pooler]
	}
	if found == "" {
		return out
	}
	v := patroni.ParseVersion(found)
	return features{users: !v.Less(usersSince), prepared: !v.Less(preparedSince)}
}

func tooOld(in controllers.Input, t *topology.Topology, nodes []string) []observed.Condition {
	if len(nodes) == 0 {
		return nil
	}
	var users []string
	for _, s := range desired.PoolSettings(t.Docs.PgBouncer.Users) {
		users = append(users, s.Of)
	}
	return []observed.Condition{{
		Type: observed.Planned, Status: observed.False, Reason: observed.Unsupported,
		Key: in.Layout.ClusterDoc(in.Cluster, "pgbouncer"),
		Message: fmt.Sprintf("users: settings of %s have no effect on %s, whose PgBouncer is older than 1.23 and would not let them in; everything else is in force",
			strings.Join(slices.Compact(users), ", "), strings.Join(nodes, ", ")),
		Next: fmt.Sprintf("pgctrl unset %s pgbouncer users", in.Cluster),
	}}
}

// Package postgres plans Patroni and PostgreSQL: on every member's node one
// Patroni with one configuration file, and the cluster's dynamic configuration.
//
// It also decides, once, what names data: version, ports, directory, and who
// initialises the cluster (Formed). From then on those come from that record, and
// a document that says something else has no effect.
package postgres

import (
	"fmt"
	"maps"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/certificate"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// Concern is the controller's name.
const Concern = topology.Concern

// directory has Patroni's files.
const directory = "/etc/patroni"

// secrets are the passwords that a cluster has once and for all, until people change
// them in place: of Patroni's REST API and of the superuser.
var secrets = []string{"patroni", "postgres"}

// pairs are the roles for replication and pg_rewind, whose passwords change by turns.
var pairs = []twins.Pair{twins.Replicator, twins.Rewind}

// secretNames are all of them, and those of both roles of a pair.
func secretNames() []string {
	out := slices.Clone(secrets)
	for _, p := range pairs {
		out = append(out, p[0].Secret, p[1].Secret)
	}
	return out
}

// Controller implements controllers.Controller.
type Controller struct{}

// New returns the controller.
func New() Controller { return Controller{} }

// Name implements controllers.Controller.
func (Controller) Name() string { return Concern }

// Inputs implements controllers.Controller. Of secrets only existence and
// revision are looked at.
func (Controller) Inputs() []controllers.Access {
	return append(slices.Concat(topology.Inputs(), certificate.Inputs(), twins.Inputs()),
		controllers.Access{Family: keys.Desired, Part: "hba"},
		controllers.Access{Family: keys.Defaults, Part: "hba"},
		controllers.Access{Family: keys.Desired, Part: "restore"},
		controllers.Access{Family: keys.Defaults, Part: "restore"},
		controllers.Access{Family: keys.Secrets, Part: keys.RestorePassphrase},
		controllers.Access{Family: keys.Secrets, Part: keys.RestoreS3Key},
		controllers.Access{Family: keys.Secrets, Part: keys.RestoreS3Secret},
		controllers.Access{Family: keys.PatroniKey, Part: "initialize"},
		controllers.Access{Family: keys.PatroniKey, Part: "config"},
		// Whether PostgreSQL archives is in documents that topology.Inputs has; of secrets it
		// wants those of an object store, which twins.Inputs has.
		// A member is stopped after nobody is led to it any more.
		controllers.Access{Family: keys.Plan, Part: topology.Proxy},
		controllers.Access{Family: keys.Observed, Part: topology.Proxy},
	)
}

// Outputs implements controllers.Controller.
func (Controller) Outputs() []controllers.Access {
	out := []controllers.Access{
		{Family: keys.Plan, Part: Concern},
		{Family: keys.Formed},
		{Family: keys.Secrets, Part: certificate.Part},
		{Family: keys.Authorities},
	}
	for _, name := range secretNames() {
		out = append(out, controllers.Access{Family: keys.Secrets, Part: name})
	}
	return out
}

// Plan implements controllers.Controller.
func (Controller) Plan(in controllers.Input) (controllers.Result, error) {
	t, cs, ok := topology.Load(in, "members", "postgres", "hba", "restore")
	cs = append(cs, t.UnmanagedConditions(in.Layout)...)
	if ok && t.Removing {
		return removeAll(in, t, cs), nil
	}
	if !ok || !t.Docs.Exists() {
		return result(nil, cs), nil
	}
	if bad := unfit(in, t); len(bad) > 0 {
		return result(nil, append(cs, bad...)), nil
	}
	if c, is := lost(in, t); is {
		return result(nil, append(cs, c)), nil
	}
	out, forming := form(in, t)
	cs = append(cs, forming...)
	if t.Formed == nil && len(out) == 0 {
		return result(nil, cs), nil // nothing is decided yet, so nothing is minted either
	}
	for _, name := range secrets {
		out = append(out, controllers.Output{Key: in.Layout.Secret(in.Cluster, name), Mode: controllers.Mint})
	}
	for _, p := range pairs {
		out = append(out, p.Mint(in))
	}
	if t.Formed == nil {
		return result(out, cs), nil
	}
	out = append(out, twins.Forget(in, t, pairs...)...)
	revisions, missing := secretRevisions(in)
	if len(missing) > 0 {
		return result(out, append(cs, missing...)), nil
	}
	minted, cannot := certificate.Mint(in, t)
	out, cs = append(out, minted...), append(cs, cannot...)
	tls, waits := certificate.For(in, t, Concern, directory)
	if len(waits) > 0 {
		return result(out, append(cs, waits...)), nil
	}
	want, waiting := plans(in, t, revisions, tls)
	waiting = append(waiting, leftSlots(in, t)...)
	done, leaving := removals(in, t, want)
	out, waiting = append(out, done...), append(waiting, leaving...)
	rolled, gated := t.Rollout(in, Concern, want, func(node string, r *observed.Report) bool {
		return newcomer(in, t, node, r)
	})
	r := result(append(out, rolled...), append(append(cs, waiting...), gated...))
	r.After = certificate.Renews(in, t)
	return r, nil
}

func result(out []controllers.Output, cs []observed.Condition) controllers.Result {
	observed.Sort(cs)
	return controllers.Result{Outputs: out, Conditions: cs}
}

// secretRevisions reads which revision each password has; a rotated one makes new plans.
func secretRevisions(in controllers.Input) (map[string]int64, []observed.Condition) {
	revisions := map[string]int64{}
	var missing []observed.Condition
	for _, name := range secretNames() {
		key := in.Layout.Secret(in.Cluster, name)
		e, ok := in.Snapshot.Get(key)
		if !ok {
			if p, is := twins.Of(name); is && (name != p.Name() || p.Has(in)) {
				continue // one of the two is enough
			}
			missing = append(missing, observed.Condition{
				Type: observed.Planned, Status: observed.False, Reason: observed.WaitingForSecret, Key: key,
				Message: fmt.Sprintf("the password %q is being made", name),
			})
			continue
		}
		revisions[name] = e.ModRevision
	}
	return revisions, missing
}

// plans are the plans of all members that may have one now, by node.
func plans(in controllers.Input, t *topology.Topology, revisions map[string]int64, tls *certificate.Use) (map[string]plan.Plan, []observed.Condition) {
	config := dynamicConfig(&t.Docs.Postgres, archiving(in, t))
	forgotten := forgottenParameters(in, t)
	want := map[string]plan.Plan{}
	var waiting []observed.Condition
	for _, m := range t.Docs.MemberList() {
		p := t.Plan(m.Node, version.String())
		if c, wait := waitsForLeader(in, t, m.Name, m.Node); wait {
			waiting = append(waiting, c)
			continue
		}
		from, c, ok := restoreOf(in, t, m.Name)
		if !ok {
			waiting = append(waiting, c)
			continue
		}
		files := []plan.File{{
			Path: directory + "/" + in.Cluster + ".yml", Mode: "0640", Owner: "root:postgres",
			Content: render(in, t, m, config, tls, from),
		}}
		if from != nil {
			files = append(files, from.Config)
		}
		p.Resources = plan.Resources{
			plan.Unit{Unit: "patroni@" + in.Cluster + ".service", Program: "patroni", Files: files},
			plan.Patroni{Patroni: t.Formed.Scope, Config: withDropped(withForgotten(config, forgotten), &t.Docs.Postgres)},
		}
		p.Secrets = map[string]int64{}
		for _, name := range plan.SecretNames(p.Resources) {
			p.Secrets[name] = revisions[name]
		}
		if from != nil {
			maps.Copy(p.Secrets, from.secrets)
		}
		tls.In(&p)
		want[m.Node] = p
	}
	return want, waiting
}

// waitsForLeader: only the first member may find an empty scope, or two of them
// would race to initialise it. The others come once there is something to copy:
// a leader, or a system identifier, which Patroni writes when the first one is up.
// A member that has a plan keeps getting new ones.
func waitsForLeader(in controllers.Input, t *topology.Topology, member, node string) (observed.Condition, bool) {
	if member == t.Formed.First || t.Leader != "" {
		return observed.Condition{}, false
	}
	if e, ok := in.Snapshot.Get(in.Layout.Scope(t.Formed.Scope) + "initialize"); ok && len(e.Value) > 0 {
		return observed.Condition{}, false
	}
	key := in.Layout.PlanKey(node, in.Cluster, Concern)
	if _, has := kv.GetShort(in.Snapshot, key); has {
		return observed.Condition{}, false
	}
	return observed.Condition{
		Type: observed.Planned, Status: observed.False, Reason: observed.WaitingForLeader, Key: key,
		Message: fmt.Sprintf("member %s starts when %s leads, from which it copies its data", member, t.Formed.First),
	}, true
}

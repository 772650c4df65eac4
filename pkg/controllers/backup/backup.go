// Package backup plans the one file by which pgBackRest knows a cluster, on the node of
// every member: who leads archives, and any member may be backed up. Whether PostgreSQL
// archives is said in its own configuration (package postgres), and backups that are due
// are operations (package operations).
package backup

import (
	"fmt"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// Concern is the controller's name, and the kind of its document.
const Concern = topology.Backup

// Controller implements controllers.Controller.
type Controller struct{}

// New returns the controller.
func New() Controller { return Controller{} }

// Name implements controllers.Controller.
func (Controller) Name() string { return Concern }

// secrets are those that the file may name.
var secrets = []string{keys.BackupPassphrase, keys.BackupS3Key, keys.BackupS3Secret}

// Inputs implements controllers.Controller. Of secrets only existence and revision are
// looked at.
func (Controller) Inputs() []controllers.Access {
	in := append(topology.Inputs(),
		controllers.Access{Family: keys.Observed, Part: Concern},
		// The file goes after nobody archives by it any more.
		controllers.Access{Family: keys.PatroniKey, Part: "config"},
		controllers.Access{Family: keys.Observed, Part: topology.Concern},
	)
	for _, name := range secrets {
		in = append(in, controllers.Access{Family: keys.Secrets, Part: name})
	}
	return append(in, controllers.Access{Family: keys.Secrets, Part: peerPart})
}

// Outputs implements controllers.Controller. The other two secrets are people's.
func (Controller) Outputs() []controllers.Access {
	return []controllers.Access{
		{Family: keys.Plan, Part: Concern}, {Family: keys.Secrets, Part: keys.BackupPassphrase}, {Family: keys.Secrets, Part: peerPart},
	}
}

// Plan implements controllers.Controller. All nodes are told at once: nothing is stopped
// or reloaded, and the next run of pgBackRest reads the file, whoever leads then.
func (Controller) Plan(in controllers.Input) (controllers.Result, error) {
	t, cs, ok := topology.Load(in, "members", "postgres", Concern)
	if !ok || !t.Removing && (!t.Docs.Exists() || t.Formed == nil) {
		return result(nil, cs), nil
	}
	peers, out, after := peersOf(in, t, cs)
	want := map[string]plan.Plan{}
	if t.Docs.Backup.On() && !t.Removing {
		revisions, minted, waits := secretsOf(in, t)
		out, cs = append(out, minted...), append(cs, waits...)
		if len(waits) == 0 {
			var missing []observed.Condition
			want, missing = plans(in, t, revisions, peers)
			cs = append(cs, missing...)
		}
	}
	goes, waits := leaving(in, t)
	done := t.Clear(in, Concern, version.String(), goes, want)
	planned, refused := t.AtOnce(in, Concern, want)
	out = append(append(out, planned...), done...)
	r := result(out, append(append(cs, waits...), refused...))
	r.After = after
	return r, nil
}

func result(out []controllers.Output, cs []observed.Condition) controllers.Result {
	observed.Sort(cs)
	return controllers.Result{Outputs: out, Conditions: cs}
}

// plans are the plans of all members, by node, and what stands in the way of others.
func plans(in controllers.Input, t *topology.Topology, revisions map[string]int64, show peers) (want map[string]plan.Plan, cs []observed.Condition) {
	want = map[string]plan.Plan{}
	for _, m := range t.Docs.MemberList() {
		has := t.Stored(in, m.Node, Concern)
		if t.Docs.Nodes[m.Node] == nil || has == nil && m.Absent() {
			continue
		}
		if c, older := topology.Older(in, m.Node, "keeps no files for backups"); older {
			cs = append(cs, c)
			continue
		}
		if a, alive := t.Alive(m.Node); alive && a.Programs[topology.BackupProgram] == "" && !m.Absent() {
			cs = append(cs, observed.Condition{
				Type: observed.Planned, Status: observed.False, Reason: observed.MissingProgram,
				Key:     in.Layout.PlanKey(m.Node, in.Cluster, Concern),
				Message: fmt.Sprintf("pgbackrest is not installed on node %s, without which %s could not be archived if it led", m.Node, m.Name),
				Next:    fmt.Sprintf("apt-get install -y pgbackrest (on %s), or pgctrl set %s backup enabled=false", m.Node, in.Cluster),
			})
			continue
		}
		p := t.Plan(m.Node, version.String())
		p.Schema, p.Resources = plan.SchemaFiles, plan.Resources{configOf(in.Layout, t, m.Node)}
		if names := plan.SecretNames(p.Resources); len(names) > 0 || show.revision > 0 {
			p.Secrets = map[string]int64{}
			for _, name := range names {
				p.Secrets[name] = revisions[name]
			}
		}
		show.in(in, t, m, &p)
		want[m.Node] = p
	}
	return want, cs
}

// secretsOf are the revisions of the secrets that the file names. While one is missing
// nothing is planned, and what is on hosts stays.
func secretsOf(in controllers.Input, t *topology.Topology) (revisions map[string]int64, out []controllers.Output, waits []observed.Condition) {
	revisions = map[string]int64{}
	wait := func(name string, reason observed.Reason, next, format string, args ...any) {
		waits = append(waits, observed.Condition{
			Type: observed.Planned, Status: observed.False, Reason: reason, Key: in.Layout.Secret(in.Cluster, name),
			Message: fmt.Sprintf(format, args...), Next: next,
		})
	}
	has := func(name string) bool {
		// Status, which can't see secrets, shows those in no plan at revision 0.
		e, ok := in.Snapshot.Get(in.Layout.Secret(in.Cluster, name))
		revisions[name] = e.ModRevision
		return ok && e.ModRevision > 0
	}
	if t.Docs.Backup.Repository == desired.RepositoryS3 {
		for _, name := range []string{keys.BackupS3Key, keys.BackupS3Secret} {
			if !has(name) {
				wait(name, observed.WaitingForSecret, fmt.Sprintf("pgctrl secret set %s %s", in.Cluster, name),
					"the object store's %s is not known, so there are no backups", map[string]string{keys.BackupS3Key: "access key", keys.BackupS3Secret: "secret key"}[name])
			}
		}
	}
	switch name := keys.BackupPassphrase; {
	case !t.Docs.Backup.Encrypted():
	case has(name):
		out = append(out, controllers.Output{Key: in.Layout.Secret(in.Cluster, name), Mode: controllers.Mint})
	case used(in, t, name):
		wait(name, observed.RecordLost, fmt.Sprintf("pgctrl secret set %s %s", in.Cluster, name),
			"the passphrase of the backups is gone, and a new one would not read them; put it back from a backup of etcd")
	default:
		out = append(out, controllers.Output{Key: in.Layout.Secret(in.Cluster, name), Mode: controllers.Mint})
		if len(waits) == 0 { // status sees it only once a plan names it, and would say so until then
			wait(name, observed.WaitingForSecret, "", "the passphrase %q is being made", name)
		}
	}
	return revisions, out, waits
}

// used reports whether a plan of this cluster was made with the secret.
func used(in controllers.Input, t *topology.Topology, name string) bool {
	for _, s := range t.AllStored(in, Concern) {
		if s.Head.UID == t.Formed.UID && s.Head.Secrets[name] > 0 {
			return true
		}
	}
	return false
}

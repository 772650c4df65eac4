package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/pkg/verdicts"
)

// restoreInPlace makes the data of a running cluster those of a moment of its past. The server
// and the agents do it, so it goes on when this command is interrupted.
func (a *app) restoreInPlace(ctx context.Context, r restoring) error {
	l, o, err := a.look(ctx, r.from)
	if err != nil {
		return err
	}
	op, err := a.inPlace(ctx, l, o, r)
	if err != nil {
		return err
	}
	first := op.Args.Restore.First
	a.say("restore %s in place up to %s, from backup %s", r.from, r.moment(), op.Args.Restore.Backup)
	a.say("  first  the backup is restored and recovered beside the data of %s; %s runs on meanwhile", first, r.from)
	a.say("  then   %s stops; its data are set aside on every member; %s leads with the restored ones, and the others copy them", r.from, first)
	a.say("  lost   what was written after %s, for clients; it stays on the members in %s* until you say", r.moment(), op.Args.Restore.Data+".before-")
	if r.w.dryRun {
		for _, p := range op.Phases {
			a.say("would %-9s %s", p.Name, p.Member)
		}
		return exitCode(NotConverged)
	}
	if err := a.confirmed(r.from, r.typed); err != nil {
		return err
	}
	b := before{cluster: r.from, operation: verdicts.Restore, subject: r.from, why: r.w.reason, override: r.override, again: r.again()}
	if _, err := a.askHooks(ctx, b); err != nil {
		return err
	}
	return a.askAndWatch(ctx, l, o, op, r.w.wait, func(_ *follower, t task) error { return a.concludeRestore(t) })
}

// again is the command line of a restore in place.
func (r *restoring) again() string {
	out := "pgctrl restore " + r.from + " --in-place"
	switch t := r.target.Type; t {
	case operations.TargetLatest:
	case operations.TargetImmediate:
		out += " --immediate"
	default:
		out += fmt.Sprintf(" --%s %q", t, r.target.Value)
	}
	return out
}

// concludeRestore says what came of it, and what it keeps.
func (a *app) concludeRestore(t task) error {
	err := a.concludeTask(t)
	if keeps := t.Keeps(); len(keeps) > 0 {
		a.say("kept       the former data of %s: pgctrl restore %s --discard %s removes them", strings.Join(keeps, ", "), t.Cluster, t.ID)
	}
	return err
}

// inPlace composes the operation, or refuses what would only fail on the hosts.
func (a *app) inPlace(ctx context.Context, l *live, o operation, r restoring) (operations.Operation, error) {
	none := operations.Operation{}
	next := "pgctrl status " + r.from
	switch {
	case o.status.Paused:
		return none, fail("Patroni of %s is paused. Nothing was written.", r.from).then("patronictl -c /etc/patroni/%s.yml resume (on a member's node)", r.from)
	case o.docs.Invalid("backup"): // it would be read as the defaults, which are another place
		return none, fail("the document backup of %s can't be used. Nothing was written.", r.from).then("%s", next)
	case !o.docs.Backup.On():
		return none, switchedOff(r.from, " Nothing was written.")
	case frozenFor(o.status.Freeze, "backup", "postgres"):
		return none, fail("%s is frozen until %s. Nothing was written.", r.from, o.status.Freeze.Until.Format(time.RFC3339)).then("pgctrl unfreeze %s", r.from)
	case o.status.Controller == "":
		return none, fail("no pgctrl server runs, and without one a restore never begins. Nothing was written.").then("systemctl start pgctrl-server")
	}
	if err := a.heldBy(l, r.from); err != nil {
		return none, err
	}
	first, err := o.leadsOrLed(l)
	if err != nil {
		return none, err
	}
	var others, nodes []string
	for _, m := range o.status.Members {
		if m.Name != first.Name {
			others = append(others, m.Name)
		}
		nodes = append(nodes, m.Node)
		alive, there := l.alive(m.Node)
		switch {
		case !there:
			return none, fail("the agent of node %s is away, and what %s has there would come back one day. Nothing was written.", m.Node, m.Name).
				then("pgagent status (on %s)", m.Node).then("pgctrl remove %s %s (when its host is lost)", r.from, m.Name)
		case alive.PlanSchema < plan.SchemaRestore:
			return none, fail("the agent of node %s is too old to restore in place. Nothing was written.", m.Node).then("upgrade pgagent (on %s)", m.Node)
		}
	}
	b, err := a.backupFor(l, o, first, r.target)
	if err != nil {
		return none, err
	}
	// The others copy what is restored while their former data are kept too.
	if err := a.roomOn(ctx, l, o.docs, nodes, o.formed.DataDirectory, r.from, b); err != nil {
		return none, err
	}
	return operations.NewRestore(a.asked(o), plan.Restore{
		First: first.Name, Data: o.formed.DataDirectory, Bin: desired.BinDir(o.formed.Version), Backup: b.Label, Target: string(r.target.Type), Value: r.target.Value,
	}, others, o.status.Primary != "" && r.target.Type != operations.TargetImmediate), nil
}

// leadsOrLed is the member that leads; when nobody does, the one that was confirmed last. The
// repository knows its timeline.
func (o operation) leadsOrLed(l *live) (status.Member, error) {
	name := o.status.Leader
	if name == "" {
		p, _ := observed.Read[observed.Primary](l, l.layout.PrimaryKey(o.cluster))
		if p.Of(o.formed.UID, "") {
			name = p.Member
		}
	}
	i := slices.IndexFunc(o.status.Members, func(m status.Member) bool { return m.Name == name })
	if i < 0 {
		return status.Member{}, fail("nobody leads %s, and who did last is not known. Nothing was written.", o.cluster).then("pgctrl restore %s --to <new cluster> --on <node>", o.cluster)
	}
	return o.status.Members[i], nil
}

// backupFor picks the backup for a target out of the repository that a member's node reads.
func (a *app) backupFor(l *live, o operation, m status.Member, t operations.Target) (observed.Backup, error) {
	report, ok := observed.Read[observed.Report](l, l.layout.ObservedKey(m.Node, o.cluster, "backup"))
	at := o.docs.Backup.Where(plan.BackupFolder(o.cluster, o.formed.UID))
	switch {
	case !ok || report.Repository == nil || !report.Of(o.formed.UID):
		return observed.Backup{}, fail("the agent of node %s has not said yet what the repository holds. Nothing was written.", m.Node).then("pgctrl backup check %s", o.cluster)
	case report.Repository.Where != at:
		return observed.Backup{}, fail("the agent of node %s has not said yet what %s holds, only %s. Nothing was written.", m.Node, at, report.Repository.Where).
			then("pgctrl backup check %s", o.cluster)
	}
	b, err := operations.Pick(report.Repository, t, a.deps.Now())
	if err != nil {
		return b, fail("%s. Nothing was written.", err).then("pgctrl backup list %s", o.cluster)
	}
	return b, nil
}

// discard removes what a restore in place kept.
func (a *app) discard(ctx context.Context, r restoring, id string) error {
	l, o, err := a.look(ctx, r.from)
	if err != nil {
		return err
	}
	t, err := l.task(r.from, id)
	if err != nil {
		return err
	}
	keeps := t.Keeps()
	switch {
	case t.Kind != operations.KindRestore:
		return fail("%s is a %s and keeps no data. Nothing was written.", id, t.Kind).then("pgctrl operation list %s --all", r.from)
	case !t.State.Final():
		return fail("%s is %s; what it keeps is what it would be undone with. Nothing was written.", id, t.State).then("pgctrl operation watch %s %s", r.from, id)
	case len(keeps) == 0:
		a.say("no change: %s keeps no data", id)
		return nil
	case o.status.Controller == "":
		return fail("no pgctrl server runs, and without one nothing is removed. Nothing was written.").then("systemctl start pgctrl-server")
	}
	var nodes []string
	for _, m := range o.status.Members {
		if slices.Contains(keeps, m.Name) {
			nodes = append(nodes, m.Node)
		}
	}
	a.say("discard what %s kept on %s", id, strings.Join(nodes, ", "))
	a.say("  lost   %s there: what %s had before it was restored can't be had back then, but from backups", strings.Join(t.Args.Restore.Kept(), ", "), r.from)
	if r.w.dryRun {
		return exitCode(NotConverged)
	}
	if err := a.confirmed(r.from, r.typed); err != nil {
		return err
	}
	return a.askAndWatch(ctx, l, o, operations.NewDiscard(a.asked(o), *t.Args.Restore, keeps), r.w.wait, func(_ *follower, t task) error { return a.concludeTask(t) })
}

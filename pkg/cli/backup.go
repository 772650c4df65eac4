package cli

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/pkg/store"
)

const (
	// backupWait is how long backup waits by default: it copies as long as the data are
	// large, and goes on when nobody waits any more.
	backupWait = time.Hour
	// reportWait is how long the backup's size is waited for: its node reads the
	// repository again after each backup, which takes pgBackRest about a second.
	reportWait = 5 * time.Second
)

// backupTypes are what --type takes.
var backupTypes = []string{string(plan.BackupFull), string(plan.BackupDifferential), string(plan.BackupIncremental)}

func (a *app) backupCommand() *cobra.Command {
	var kind string
	var wait time.Duration
	var dryRun bool
	c := &cobra.Command{
		Use: "backup <cluster>", Short: "Take a backup now, list them, or check that all is in order",
		Long: `Asks for a backup and follows it to its end; it goes on when this is interrupted
(pgctrl operation watch, cancel). Without --type it is incremental, or full where the
repository has no full one yet. Scheduled backups need no command: they are the
document backup.`,
		Example: `  pgctrl backup pg-test
  pgctrl backup pg-test --type full --wait 4h
  pgctrl backup list pg-test
  pgctrl backup check pg-test
  pgctrl backup verify pg-test`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(completeClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.backup(cmd.Context(), args[0], plan.BackupType(kind), wait, dryRun)
		},
	}
	c.Flags().StringVar(&kind, "type", "", "full, diff (since the last full one) or incr (since the last of any type)")
	_ = c.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(backupTypes, cobra.ShellCompDirectiveNoFileComp))
	c.Flags().DurationVar(&wait, "wait", backupWait, "how long to wait for its end; 0 returns at once")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	c.AddCommand(a.backupList(), a.backupCheck(), a.backupVerify())
	return c
}

func (a *app) backup(ctx context.Context, cluster string, t plan.BackupType, wait time.Duration, dryRun bool) error {
	if t != "" && !slices.Contains(backupTypes, string(t)) {
		return fail("no type of backup %q%s Nothing was written.", t, endMeaning(string(t), backupTypes)).then("pgctrl backup --help")
	}
	l, o, err := a.lookInto(ctx, cluster)
	if err != nil {
		return err
	}
	leader, err := o.member(o.status.Leader)
	if err != nil {
		return err
	}
	if err := a.canBackUp(l, o, leader); err != nil {
		return err
	}
	t = a.typeOf(l, o, leader, t)
	if dryRun {
		a.say("would back up %s (%s), which %s leads on %s", cluster, t, leader.Name, leader.Node)
		if r, ok := status.Repositories(a.input(l, cluster), leader.Node)[leader.Node]; ok {
			a.say("  to    %s, which has %s", r.Where, plural(len(r.Backups), "backup"))
		}
		return exitCode(NotConverged)
	}
	return a.askAndWatch(ctx, l, o, operations.NewBackup(a.asked(o), t), wait, func(f *follower, t task) error {
		if t.State == operations.Done {
			return a.concludeBackup(ctx, f, t)
		}
		return a.concludeTask(t)
	})
}

// canBackUp refuses what would never begin, and what goes on already.
func (a *app) canBackUp(l *live, o operation, leader status.Member) error {
	switch {
	case o.docs.Invalid("backup"):
		return fail("the document backup of %s can't be used. Nothing was written.", o.cluster).then("pgctrl status %s", o.cluster)
	case !o.docs.Backup.On():
		return switchedOff(o.cluster, " Nothing was written.")
	case frozenFor(o.status.Freeze, "backup", "postgres"):
		return fail("%s is frozen until %s, backups too. Nothing was written.", o.cluster, o.status.Freeze.Until.Format(time.RFC3339)).
			then("pgctrl unfreeze %s", o.cluster)
	case o.status.Controller == "":
		return fail("no pgctrl server runs, and without one a backup never begins. Nothing was written.").then("systemctl start pgctrl-server")
	}
	if _, alive := l.alive(leader.Node); !alive {
		return fail("the agent of node %s is away, where %s leads; a backup begins and ends there. Nothing was written.", leader.Node, leader.Name).
			then("pgagent status (on %s)", leader.Node)
	}
	ts, unread := l.tasks(o.cluster)
	for _, t := range ts {
		if t.Kind == operations.KindBackup && !t.State.Final() {
			return fail("%s is under way already (%s, %s). Nothing was written.", t.ID, kindOf(t.Operation), t.State).
				then("pgctrl operation watch %s %s", o.cluster, t.ID)
		}
	}
	for _, key := range unread {
		a.note("%s", newer(key).cause)
	}
	return nil
}

func switchedOff(cluster, end string) error {
	return fail("backups of %s are switched off.%s", cluster, end).then("pgctrl set %s backup enabled=true", cluster)
}

// frozenFor reports a freeze of any of the concerns.
func frozenFor(f *status.Freeze, concerns ...string) bool {
	return f != nil && (len(f.Concerns) == 0 || slices.ContainsFunc(concerns, func(c string) bool { return slices.Contains(f.Concerns, c) }))
}

// typeOf is the type to ask for: an incremental one needs a full one below it. pgBackRest
// makes it full by itself, and what is asked for should be what is made.
func (a *app) typeOf(l *live, o operation, leader status.Member, t plan.BackupType) plan.BackupType {
	r, known := status.Repositories(a.input(l, o.cluster), leader.Node)[leader.Node]
	_, full := status.NewestFull(r)
	switch {
	case full && t == "":
		return plan.BackupIncremental
	case full || t == plan.BackupFull || t != "" && !known:
		return t
	case t != "":
		a.note("there is no full backup in the repository of %s yet, so this is to be one", leader.Node)
	}
	return plan.BackupFull
}

// asked is what every operation of the cluster has that is asked for now.
func (a *app) asked(o operation) operations.Asked {
	return operations.Asked{Cluster: o.cluster, UID: o.formed.UID, Store: o.store, By: whoami(a.deps.Getenv), Cause: cause(a.deps.Getenv), At: a.deps.Now().UTC()}
}

// ask writes an operation, under the leadership that was looked at.
func (a *app) ask(ctx context.Context, l *live, o operation, op operations.Operation) (task, error) {
	client, err := a.connect(ctx)
	if err != nil {
		return task{}, err
	}
	key := l.layout.OperationKey(o.cluster, op.ID)
	rev, err := client.Commit(ctx, []store.Guard{store.ModIs(key, 0), store.ModIs(l.layout.Leader(o.cluster), o.status.Epoch)},
		[]store.Op{store.Put(key, observed.Encode(op))})
	if errors.Is(err, store.ErrConflict) {
		return task{}, fail("the leader of %s changed after it was looked at. Nothing was written.", o.cluster).then("pgctrl status %s", o.cluster)
	}
	if err != nil {
		return task{}, err
	}
	a.say("asked for   %s: %s of %s (revision %d)", op.ID, kindOf(op), o.cluster, rev)
	return asTask(op, kv.KV{Key: key, CreateRevision: rev, ModRevision: rev}), nil
}

// askAndWatch asks for an operation and follows it, for so long, to what concludes it; with wait
// 0 it returns at once.
func (a *app) askAndWatch(ctx context.Context, l *live, o operation, op operations.Operation, wait time.Duration, concludes func(*follower, task) error) error {
	t, err := a.ask(ctx, l, o, op)
	if err != nil {
		return err
	}
	if wait == 0 {
		a.note("  next: %s", a.err.bold("pgctrl operation watch "+o.cluster+" "+t.ID))
		return nil
	}
	f, err := a.follow(ctx)
	if err != nil {
		return err
	}
	defer f.stop()
	last, over, err := a.watchTask(ctx, f, t, wait)
	if err != nil {
		return err
	}
	if !over {
		a.note("%s after %s", a.err.yellow("not done"), wait)
		return a.concludeTask(last)
	}
	return concludes(f, last)
}

// concludeBackup says what was made. Its size is in the report of the node that read the
// repository, which may come a moment later than the operation's end.
func (a *app) concludeBackup(ctx context.Context, f *follower, t task) error {
	var made observed.Backup
	found := false
	if t.Label != "" {
		_, err := a.await(ctx, f, 0, reportWait, func(s kv.Snapshot) bool {
			made, found = a.labelled(s, t.Cluster, t.Label)
			return found
		})
		if err != nil {
			return err
		}
	}
	if !found {
		return a.concludeTask(t)
	}
	a.say("backup      %s: %s, %s of %s read, %s stored, in %s", made.Label, made.Type, size(made.Copied), size(made.Size), size(made.Stored), a.took(t.Began, t.Ended))
	if made.Damaged {
		a.note("%s: pages of the database failed their checksums; the backup has them as they are", a.err.red("damaged"))
		return exitCode(NotConverged)
	}
	return nil
}

func (a *app) labelled(s kv.Snapshot, cluster, label string) (observed.Backup, bool) {
	for _, r := range status.Repositories(a.input(s, cluster), "") {
		for _, b := range r.Backups {
			if b.Label == label {
				return b, true
			}
		}
	}
	return observed.Backup{}, false
}

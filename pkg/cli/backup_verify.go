package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/status"
)

func (a *app) backupVerify() *cobra.Command {
	var node string
	var wait time.Duration
	var dryRun bool
	c := &cobra.Command{
		Use: "verify <cluster>", Short: "Prove now that the newest backup can be restored",
		Long: `Commits a row on the primary and has it archived, restores the newest backup beside the
data on one member's node, recovers it to the newest WAL where it can reach neither the
network nor the repository, finds the row in it, reads every page against its checksum,
and removes it again. Nothing of the cluster is touched or waits for it; the node needs
room for the data and the WAL since the backup.

Says how long the restore took and what a loss of all hosts would have cost. By itself it
is done as the document backup says (verify.schedule).`,
		Example: "  pgctrl backup verify pg-test\n  pgctrl backup verify pg-test --node pg3\n  pgctrl backup verify pg-test --dry-run",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.complete(completeClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.verifyBackup(cmd.Context(), args[0], node, wait, dryRun)
		},
	}
	c.Flags().StringVar(&node, "node", "", "the member's node to do it on; as the document backup says when empty")
	c.Flags().DurationVar(&wait, "wait", backupWait, "how long to wait for its end; 0 returns at once")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	return c
}

func (a *app) verifyBackup(ctx context.Context, cluster, node string, wait time.Duration, dryRun bool) error {
	l, o, err := a.lookInto(ctx, cluster)
	if err != nil {
		return err
	}
	op, on, backup, err := a.verification(l, o, node)
	if err != nil {
		return err
	}
	if dryRun {
		a.say("would verify backup %s (%s, %s) on node %s, in %s", backup.Label, backup.Type, size(backup.Size), on.Node, op.Args.Verify.Folder())
		a.say("  room   for its %s and all WAL since it, with a tenth more, or it refuses before it copies anything", size(backup.Size))
		return exitCode(NotConverged)
	}
	return a.askAndWatch(ctx, l, o, op, wait, func(_ *follower, t task) error {
		if v := status.VerifiedOf([]operations.Stored{t.stored}); v != nil {
			a.say("verified   %s", a.verifiedLine(*v))
			return nil
		}
		return a.concludeTask(t)
	})
}

// verification is a proof of the newest backup, or why there can be none.
func (a *app) verification(l *live, o operation, node string) (op operations.Operation, on operations.VerifyMember, b observed.Backup, err error) {
	leader, err := o.member(o.status.Leader)
	if err != nil {
		return op, on, b, err
	}
	if err := a.canVerify(l, o); err != nil {
		return op, on, b, err
	}
	doc := o.docs.Backup
	p := operations.VerifyPolicy{Node: doc.Verify.Node, Local: doc.Repository == desired.RepositoryLocal}
	if node != "" {
		p.Node = node
	}
	var members []operations.VerifyMember
	for _, m := range o.status.Members {
		_, alive := l.alive(m.Node)
		members = append(members, operations.VerifyMember{Name: m.Name, Node: m.Node, Alive: alive})
	}
	if on, err = operations.VerifyOn(p, members, o.status.Leader); err != nil {
		return op, on, b, fail("no backup of %s can be verified: %s. Nothing was written.", o.cluster, err).then("pgctrl status %s", o.cluster)
	}
	if _, alive := l.alive(on.Node); !alive {
		return op, on, b, fail("the agent of node %s is away. Nothing was written.", on.Node).then("pgagent status (on %s)", on.Node)
	}
	r := status.Repositories(a.input(l, o.cluster), leader.Node)[leader.Node]
	b, has := r.Newest()
	if !has {
		return op, on, b, fail("the repository of %s has no backup that could be verified, as far as is known. Nothing was written.", o.cluster).then("pgctrl backup %s", o.cluster)
	}
	return operations.NewVerify(a.asked(o), plan.Verify{
		Backup: b.Label, Data: o.formed.DataDirectory, Bin: desired.BinDir(o.formed.Version), Local: p.Local,
	}, on.Name), on, b, nil
}

// canVerify refuses what would never begin, and what goes on already.
func (a *app) canVerify(l *live, o operation) error {
	switch {
	case o.docs.Invalid("backup"):
		return fail("the document backup of %s can't be used. Nothing was written.", o.cluster).then("pgctrl status %s", o.cluster)
	case !o.docs.Backup.On():
		return switchedOff(o.cluster, " Nothing was written.")
	case frozenFor(o.status.Freeze, "backup", "postgres"):
		return fail("%s is frozen until %s. Nothing was written.", o.cluster, o.status.Freeze.Until.Format(time.RFC3339)).then("pgctrl unfreeze %s", o.cluster)
	case o.status.Controller == "":
		return fail("no pgctrl server runs, and without one it never begins. Nothing was written.").then("systemctl start pgctrl-server")
	}
	ts, _ := l.tasks(o.cluster)
	for _, t := range ts {
		if (t.Kind == operations.KindVerify || t.Kind == operations.KindRestore) && !t.State.Final() {
			return fail("%s is under way (%s). Nothing was written.", t.ID, t.State).then("pgctrl operation watch %s %s", o.cluster, t.ID)
		}
	}
	return nil
}

// verifiedLine is a proof in one line, as it is shown in several places.
func (a *app) verifiedLine(v status.Verified) string {
	line := fmt.Sprintf("%s %s, restored in %s on %s", v.Label, a.ago(v.At), secondsOf(v.Seconds), orDash(v.Node))
	if !v.Upto.IsZero() {
		line += ", up to " + v.Upto.UTC().Format(time.RFC3339)
	}
	line += fmt.Sprintf("; the archive was %s behind", secondsOf(v.Window))
	if !v.Checksums {
		line += "; its pages have no checksums"
	}
	return line
}

// secondsOf is a number of seconds as people read it.
func secondsOf(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// verified is when it was proved that a backup can be restored.
func (e evidence) verified() finding {
	f := finding{What: "proof of restore", OK: true, Message: "none yet"}
	if b := e.status.Backups; b != nil && b.Verified != nil {
		v := *b.Verified
		f.Message = fmt.Sprintf("%s was restored %s ago, in %s", v.Label, roughly(e.now.Sub(v.At)), secondsOf(v.Seconds))
	} else if e.proves { // a young cluster has none before it is due
		f.Next = "pgctrl backup verify " + e.status.Cluster
	}
	for _, c := range e.status.Conditions {
		if c.Bad() && (c.Reason == observed.VerificationFailed || c.Reason == observed.VerificationStale) {
			f.OK, f.Message, f.Next = false, fmt.Sprintf("%s: %s", c.Reason, c.Message), c.Next
			break
		}
	}
	return f
}

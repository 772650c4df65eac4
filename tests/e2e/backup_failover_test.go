package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// backupPattern are the processes of a backup that pgctrl makes.
const backupPattern = "[p]gbackrest .*--annotation=pgctrl-step=.* backup$"

// TestBackupSurvivesASwitchover: the leader changes while a backup into its own folder stands
// in the middle. The operation ends well, with a backup of the new primary's; at no moment are
// there two, and the new archive has no gap.
func TestBackupSurvivesASwitchover(t *testing.T) {
	ctx := begin(t)
	from, to := leaderAndNext(ctx, t)
	backedUp(ctx, t, hosts.Node(from), "the first full backup", backedUpWithin, func(b observed.Backup) bool { return b.Type == "full" })
	movedDuringABackup(ctx, t, hosts.Node(from), func() *lab.Host {
		ok(t, hosts.Switchover(ctx, cluster, from, to))
		return hosts.Node(to)
	})
}

// TestS3BackupSurvivesACrash: Patroni and PostgreSQL of the primary are killed while a backup
// into the shared repository stands in the middle, and its host goes on.
func TestS3BackupSurvivesACrash(t *testing.T) {
	ctx := begin(t)
	_, first := withS3(ctx, t)
	from, _ := leaderAndNext(ctx, t)
	h := hosts.Node(from)
	movedDuringABackup(ctx, t, h, func() (next *lab.Host) {
		ok(t, h.Kill(ctx, "patroni@"+cluster+".service", "SIGKILL"))
		t.Cleanup(func() { _, _ = h.Exec(context.WithoutCancel(ctx), "systemctl", "start", "patroni@"+cluster) })
		ok(t, fleet.Until(ctx, time.Minute, "another leader", func(ctx context.Context) error {
			now, err := hosts.Leader(ctx, cluster)
			if err == nil && (now == "" || now == from) {
				return fmt.Errorf("it is %q", now)
			}
			next = hosts.Node(now)
			return err
		}))
		must[string](t)(h.Exec(ctx, "systemctl", "start", "patroni@"+cluster))
		return next
	})
	everythingArchived(ctx, t, first.FirstWAL, time.Minute)
}

// movedDuringABackup asks the leader for a full backup, holds it, moves the leadership, and
// wants the operation to end with a backup that the new primary made.
func movedDuringABackup(ctx context.Context, t *testing.T, h *lab.Host, move func() *lab.Host) {
	t.Helper()
	noBackupGoesOn(ctx, t)
	w := watchBackups(ctx, t)
	began := time.Now()
	out, err := hosts.Infra.Command(ctx, "pgctrl", "backup", cluster, "--type", "full", "--wait", "0").CombinedOutput()
	if err != nil {
		t.Fatalf("pgctrl backup: %v\n%s", err, out)
	}
	held(ctx, t, h, backupPattern)
	ops := operationsOf(ctx, t)
	id := ops[len(ops)-1].ID
	next := move()
	t.Logf("%s leads after %s", next.Name, time.Since(began).Round(time.Millisecond))
	o := ended(ctx, t, id, backedUpWithin)
	t.Logf("%s: %s after %s, %s", o.ID, o.State, o.Ended.Sub(o.Asked).Round(time.Second), o.Message)
	made := false
	for _, p := range o.Phases {
		t.Logf("  %s on %s: %s, asked %d times", p.Name, p.Node, p.State, p.Tries)
		made = made || p.Name == operations.PhaseBackup && p.Node == next.Name && p.State == operations.PhaseDone
	}
	if o.State != operations.Done || !made {
		t.Fatalf("it is %s, made on %s: %v: %s %s", o.State, next.Name, made, o.Reason, o.Message)
	}
	b := backedUp(ctx, t, next, "it", 30*time.Second, after("full", began))
	if b.Label != o.Label {
		t.Errorf("the operation made %q, the repository has %s", o.Label, b.Label)
	}
	ok(t, hosts.Whole(ctx, cluster, 2*time.Minute))
	everythingArchived(ctx, t, b.FirstWAL, time.Minute)
	if ls := w.neverTwo(t); len(ls) < 2 {
		t.Errorf("%d backups were seen, want the one that was ended and the one after", len(ls))
	}
}

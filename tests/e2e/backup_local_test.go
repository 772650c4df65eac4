package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/tests/fleet"
)

// TestBackupsComeByThemselves: nobody asks, and a new cluster has a full backup. After a
// switchover past pgctrl the new primary's own repository lacks what came before, and has a full
// backup of its own as soon as may be. People see both.
func TestBackupsComeByThemselves(t *testing.T) {
	ctx := begin(t)
	from, to := leaderAndNext(ctx, t)
	first := backedUp(ctx, t, hosts.Node(from), "the first full backup", backedUpWithin, func(b observed.Backup) bool { return b.Type == "full" })
	t.Logf("%s: %s, %s, %d bytes of %d", first.Label, first.Stopped.Sub(first.Started), first.FirstWAL, first.Stored, first.Size)
	listed(ctx, t, first.Label)
	noBackupGoesOn(ctx, t)

	began := time.Now()
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	t.Logf("the switchover took %s", time.Since(began).Round(time.Millisecond))
	ok(t, hosts.Whole(ctx, cluster, time.Minute))
	second := backedUp(ctx, t, hosts.Node(to), "a full backup of after the switchover", backedUpWithin, after("full", began))
	t.Logf("%s is done %s after the switchover was asked for", second.Label, second.Stopped.Sub(began).Round(time.Second))
	listed(ctx, t, second.Label)
	ok(t, fleet.Until(ctx, 20*time.Second, "the status to say nothing of it any more", func(ctx context.Context) error {
		if text := statusText(ctx); strings.Contains(text, string(observed.RepositorySplit)) {
			return errors.New(text)
		}
		return nil
	}))
	noBackupGoesOn(ctx, t)
	asked := false
	for _, o := range operationsOf(ctx, t) {
		asked = asked || o.Label == second.Label && o.By == operations.BySchedule && o.State == operations.Done
	}
	if !asked {
		t.Errorf("no operation of the schedule's made %s: %+v", second.Label, operationsOf(ctx, t))
	}
	// It can be restored from: what it needs is there, and nothing is missing since.
	everythingArchived(ctx, t, second.FirstWAL, time.Minute)
}

// TestBackupOnDemand: a person asks, waits, and is told which backup it became.
func TestBackupOnDemand(t *testing.T) {
	ctx := begin(t)
	h := leading(ctx, t)
	backedUp(ctx, t, h, "the first full backup", backedUpWithin, func(b observed.Backup) bool { return b.Type == "full" })
	noBackupGoesOn(ctx, t)
	for _, kind := range []string{"incr", "diff", "full"} {
		began := time.Now()
		out, err := hosts.Infra.Command(ctx, "pgctrl", "backup", cluster, "--type", kind, "--wait", "3m").CombinedOutput()
		if err != nil {
			t.Fatalf("pgctrl backup --type %s: %v\n%s", kind, err, out)
		}
		b := backedUp(ctx, t, h, "the "+kind+" one", 10*time.Second, after(kind, began))
		t.Logf("%s after %s:\n%s", b.Label, time.Since(began).Round(time.Millisecond), out)
		listed(ctx, t, b.Label)
	}
}

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/tests/fleet"
)

// gapWithin is how long a gap may go unsaid from the next segment in the archive on: the agent
// hears of that within 20 s, looks, and looks again 15 s later.
const gapWithin = time.Minute

// TestAGapIsNoticed: while backups are switched off WAL goes nowhere. When they are on again the
// archive has a gap: it is said, a full backup comes by itself, and then nothing is said any more.
func TestAGapIsNoticed(t *testing.T) {
	ctx := begin(t)
	h := leading(ctx, t)
	backedUp(ctx, t, h, "the first full backup", backedUpWithin, func(b observed.Backup) bool { return b.Type == "full" })
	noBackupGoesOn(ctx, t)
	everythingArchived(ctx, t, "", time.Minute)

	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "backup", "enabled=false"))
	t.Cleanup(func() {
		_, _ = hosts.Pgctrl(context.WithoutCancel(ctx), "set", cluster, "backup", "enabled=true")
	})
	archives := func(what string) {
		ok(t, fleet.Until(ctx, 30*time.Second, "PostgreSQL to archive by "+what, func(ctx context.Context) error {
			if now := sqlOn(ctx, t, h, "show archive_command"); !strings.Contains(now, what) {
				return errors.New(now)
			}
			return nil
		}))
	}
	archives("/bin/true")
	lost := sqlOn(ctx, t, h, "create table if not exists written(at timestamptz, what text); select pg_walfile_name(pg_current_wal_insert_lsn())")
	writeSegments(ctx, t, 3*time.Second)
	ok(t, fleet.Until(ctx, 20*time.Second, "nothing to wait any more", func(ctx context.Context) error {
		if n := sqlOn(ctx, t, h, "select count(*) from pg_ls_archive_statusdir() where name like '%.ready'"); n != "0" {
			return errors.New(n + " wait")
		}
		return nil
	}))
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "backup", "enabled=true"))
	archives("archive-push")
	began := time.Now()
	sqlOn(ctx, t, h, "insert into written values (now(), 'after'); select pg_switch_wal()")

	ok(t, fleet.Until(ctx, gapWithin, "pgctrl backup check to say it", func(ctx context.Context) error {
		out, err := hosts.Infra.Command(ctx, "pgctrl", "backup", "check", cluster).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "it lacks "+lost) {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}))
	t.Logf("said %s after the next segment was finished:\n%s", time.Since(began).Round(time.Second), statusText(ctx))
	b := backedUp(ctx, t, h, "a full backup since", backedUpWithin, after("full", began))
	t.Logf("%s is done %s after it", b.Label, b.Stopped.Sub(began).Round(time.Second))
	noBackupGoesOn(ctx, t)
	ok(t, fleet.Until(ctx, 20*time.Second, "nothing to be said any more", func(ctx context.Context) error {
		if text := statusText(ctx); strings.Contains(text, string(observed.WALGap)) {
			return errors.New(text)
		}
		return nil
	}))
	n := 0
	for _, o := range operationsOf(ctx, t) {
		if o.By == operations.BySchedule && !o.Asked.Before(began) && strings.Contains(o.Why, lost) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d backups were made for it: %+v", n, operationsOf(ctx, t))
	}
	if out := must[string](t)(hosts.Pgctrl(ctx, "backup", "list", cluster)); !strings.Contains(out, "the archive lacks "+lost) {
		t.Errorf("pgctrl backup list does not name it:\n%s", out)
	}
	everythingArchived(ctx, t, b.FirstWAL, time.Minute)
}

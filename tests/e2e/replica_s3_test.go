package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// TestS3ReplicaFromTheRepository: a replica that begins anew takes the backup and the WAL out
// of the shared repository, streams, and costs the primary no base backup. A repository that
// refuses or hangs costs it seconds, and the primary is copied.
func TestS3ReplicaFromTheRepository(t *testing.T) {
	ctx := begin(t)
	server, b := withS3(ctx, t)
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "backup", "replicas_from_repository=always", "--wait", "1m"))
	_, member := leaderAndNext(ctx, t)
	h := hosts.Node(member)
	sqlOn(ctx, t, leading(ctx, t), "create table if not exists written(at timestamptz, what text); insert into written select now(), repeat(md5(i::text), 10) from generate_series(1, 1000) i")

	said, took := begunAnew(ctx, t, h, member)
	t.Logf("out of the repository after %s", took)
	for _, want := range []string{"replica of " + cluster + ": backup " + b.Label, "replica of " + cluster + " from the backup repository after", "replica has been created using pgbackrest"} {
		if !strings.Contains(said, want) {
			t.Errorf("Patroni's journal lacks %q:\n%s", want, said)
		}
	}
	if log := must[string](t)(h.Exec(ctx, "tail", "-n", "100", "/var/log/pgbackrest/"+cluster+"-restore.log")); !strings.Contains(log, "restore backup set "+b.Label) || !strings.Contains(log, "completed successfully") {
		t.Errorf("pgBackRest's log:\n%s", log)
	}
	sameRows(ctx, t, h)

	for _, a := range aways(server)[:2] {
		ok(t, a.away(ctx))
		said, took := begunAnew(ctx, t, h, member)
		ok(t, a.back(ctx))
		t.Logf("the store %s: from the primary after %s", a.name, took)
		for _, want := range []string{"not from the backup repository", "Error creating replica using method pgbackrest", "replica has been created using basebackup"} {
			if !strings.Contains(said, want) {
				t.Errorf("the store %s: Patroni's journal lacks %q:\n%s", a.name, want, said)
			}
		}
		sameRows(ctx, t, h)
	}
}

// TestS3ReplicaCatchesUpFromTheArchive: a replica's host is off until the primary has removed WAL
// that it lacks. Back, it takes that from the archive by itself, and streams.
func TestS3ReplicaCatchesUpFromTheArchive(t *testing.T) {
	ctx := begin(t)
	_, first := withS3(ctx, t)
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "postgres", "parameters.wal_keep_size=0", "--wait", "1m"))
	t.Cleanup(func() {
		_, _ = hosts.Pgctrl(context.WithoutCancel(ctx), "unset", cluster, "postgres", "parameters.wal_keep_size", "--wait", "1m")
	})
	primary := leading(ctx, t)
	_, member := leaderAndNext(ctx, t)
	h := hosts.Node(member)
	lacks := sqlOn(ctx, t, primary, "select pg_walfile_name(pg_current_wal_lsn())")
	ok(t, h.PowerOff(ctx))
	t.Cleanup(func() { _ = h.Boot(context.WithoutCancel(ctx)) })
	slot := strings.ReplaceAll(member, "-", "_")
	ok(t, fleet.Until(ctx, 2*time.Minute, "nothing to keep WAL for "+member, func(ctx context.Context) error {
		if n := sqlOn(ctx, t, primary, "select count(*) from pg_replication_slots where slot_name = '"+slot+"'"); n != "0" {
			return fmt.Errorf("its slot is there")
		}
		return nil
	}))
	writeSegments(ctx, t, 15*time.Second)
	everythingArchived(ctx, t, first.FirstWAL, time.Minute)
	ok(t, fleet.Until(ctx, time.Minute, "the primary to have removed "+lacks, func(ctx context.Context) error {
		if n := sqlOn(ctx, t, primary, "checkpoint; select count(*) from pg_ls_waldir() where name = '"+lacks+"'"); n != "0" {
			return fmt.Errorf("it is there")
		}
		return nil
	}))
	began := time.Now()
	ok(t, h.Boot(ctx))
	ok(t, hosts.Whole(ctx, cluster, 3*time.Minute))
	t.Logf("it streams %s after its boot began", time.Since(began).Round(100*time.Millisecond))
	sameRows(ctx, t, h)
	if said := since(ctx, t, h, "patroni@"+cluster, began); !strings.Contains(said, "restored log file \""+lacks+"\" from archive") {
		t.Errorf("PostgreSQL did not take %s from the archive:\n%s", lacks, said)
	}
}

// begunAnew has a replica copied anew, and returns what Patroni and PostgreSQL said meanwhile.
func begunAnew(ctx context.Context, t *testing.T, h *lab.Host, member string) (said string, took time.Duration) {
	t.Helper()
	began := time.Now()
	if out, err := hosts.Infra.Command(ctx, "pgctrl", "reinit", cluster, member, "--confirm", member, "--wait", "3m").CombinedOutput(); err != nil {
		t.Fatalf("pgctrl reinit: %v\n%s\n%s", err, out, since(ctx, t, h, "patroni@"+cluster, began))
	}
	took = time.Since(began).Round(100 * time.Millisecond)
	ok(t, hosts.Whole(ctx, cluster, time.Minute))
	return since(ctx, t, h, "patroni@"+cluster, began), took
}

// sameRows waits until a replica has what the primary has.
func sameRows(ctx context.Context, t *testing.T, h *lab.Host) {
	t.Helper()
	const count = "select count(*) from written"
	want := sqlOn(ctx, t, leading(ctx, t), count)
	ok(t, fleet.Until(ctx, 20*time.Second, "the replica to have every row", func(ctx context.Context) error {
		if got := sqlOn(ctx, t, h, count); got != want {
			return fmt.Errorf("%s of %s", got, want)
		}
		return nil
	}))
}

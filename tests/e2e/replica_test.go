package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// TestReplicaFromAFolder: a replica that begins anew takes its data out of a folder that has
// the primary's backups, as one that all hosts share would; without them the primary is copied
// at once, and Patroni's journal says why. The hosts here share nothing, so the folder is carried.
func TestReplicaFromAFolder(t *testing.T) {
	ctx := begin(t)
	from, member := leaderAndNext(ctx, t)
	primary, h := hosts.Node(from), hosts.Node(member)
	b := backedUp(ctx, t, primary, "the first full backup", backedUpWithin, func(b observed.Backup) bool { return b.Type == "full" })
	noBackupGoesOn(ctx, t)
	const unset = "replicas_from_repository"
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "backup", unset+"=always", "--wait", "1m"))
	t.Cleanup(func() {
		if _, err := hosts.Pgctrl(context.WithoutCancel(ctx), "unset", cluster, "backup", unset, "--wait", "1m"); err != nil {
			t.Error(err)
		}
	})
	folder := strings.TrimSpace(must[string](t)(primary.Exec(ctx, "sh", "-c", "echo /var/lib/pgbackrest/"+cluster+"-*")))
	before := folder + ".before"
	must[string](t)(h.Exec(ctx, "sh", "-c", "test ! -e "+folder+" || mv "+folder+" "+before))
	t.Cleanup(func() {
		_, _ = h.Exec(context.WithoutCancel(ctx), "sh", "-c", "rm -rf "+folder+"; test ! -e "+before+" || mv "+before+" "+folder)
	})
	sqlOn(ctx, t, primary, "create table if not exists written(at timestamptz, what text); insert into written select now(), i::text from generate_series(1, 1000) i")
	carried(ctx, t, primary, h, folder)

	said, took := begunAnew(ctx, t, h, member)
	t.Logf("out of the folder after %s", took)
	for _, want := range []string{"replica of " + cluster + ": backup " + b.Label, "replica has been created using pgbackrest"} {
		if !strings.Contains(said, want) {
			t.Errorf("Patroni's journal lacks %q:\n%s", want, said)
		}
	}
	sameRows(ctx, t, h)

	must[string](t)(h.Exec(ctx, "rm", "-rf", folder))
	said, took = begunAnew(ctx, t, h, member)
	t.Logf("out of the primary after %s", took)
	for _, want := range []string{"not from the backup repository: the repository has no backup of this database", "replica has been created using basebackup"} {
		if !strings.Contains(said, want) {
			t.Errorf("Patroni's journal lacks %q:\n%s", want, said)
		}
	}
	sameRows(ctx, t, h)
}

// carried copies a folder from one host to another, owners and all. WAL that comes into it
// meanwhile is not waited for: tar ends with 1 then, and the shell does not.
func carried(ctx context.Context, t *testing.T, from, to *lab.Host, folder string) {
	t.Helper()
	packs, unpacks := from.Command(ctx, "sh", "-c", "tar -C / -cf - "+folder[1:]+" || test $? = 1"), to.Command(ctx, "tar", "-C", "/", "-xf", "-")
	pipe, err := packs.StdoutPipe()
	ok(t, err)
	unpacks.Stdin = pipe
	ok(t, packs.Start())
	out, err := unpacks.CombinedOutput()
	if err != nil {
		t.Fatalf("tar on %s: %v\n%s", to.Name, err, out)
	}
	ok(t, packs.Wait())
}

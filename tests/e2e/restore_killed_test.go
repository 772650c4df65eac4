package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// TestRestoreGoesOnWithoutAnybody: server and agents are killed when the documents of the new
// cluster are just written, when its first member takes the backup, when it replays WAL, and when
// the next one copies it. Each time what was under way goes on, and in the end the cluster is
// whole and has every row.
func TestRestoreGoesOnWithoutAnybody(t *testing.T) {
	ctx := begin(t)
	h, other := restorable(ctx, t)
	sqlOn(ctx, t, h, "create table if not exists kept (n bigint); truncate kept; insert into kept select generate_series(1, 1000)")
	t.Cleanup(func() { copyRemoved(context.WithoutCancel(ctx), t, copied) })
	began := time.Now()
	out, err := hosts.Infra.Command(ctx, "pgctrl", "restore", cluster, "--to", copied, "--on", h.Name+","+other.Name, "--wait", "0").CombinedOutput()
	if err != nil {
		t.Fatalf("pgctrl restore: %v\n%s", err, out)
	}
	killed(ctx, t, hosts.Infra, "pgctrl-server")
	for _, phase := range []struct {
		name, pattern string
		on            *lab.Host
	}{
		{"the backup is taken", "[p]gbackrest .*restore.d/" + copied + ".* restore$", h},
		{"WAL is replayed", "[p]gbackrest .*restore.d/" + copied + ".* archive-get ", h},
		{"it is copied", "[p]g_basebackup .*/" + copied, other},
	} {
		goOn := held(ctx, t, phase.on, phase.pattern)
		killed(ctx, t, hosts.Infra, "pgctrl-server")
		killed(ctx, t, h, "pgagent")
		killed(ctx, t, other, "pgagent")
		goOn()
		t.Logf("%s: %s after the beginning", phase.name, time.Since(began).Round(100*time.Millisecond))
	}
	ok(t, fleet.Until(ctx, time.Minute, copied+" to be ready", func(ctx context.Context) error {
		out, err := hosts.Infra.Command(ctx, "pgctrl", "status", copied).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}))
	t.Logf("ready after %s", time.Since(began).Round(100*time.Millisecond))
	if n := len(numbersOn(ctx, t, h, copied, 5536)); n != 1000 {
		t.Errorf("%d rows of 1000", n)
	}
}

// restorable waits for a backup of the leader, and returns its host and another one.
func restorable(ctx context.Context, t *testing.T) (h, other *lab.Host) {
	t.Helper()
	h = leading(ctx, t)
	backedUp(ctx, t, h, "the first full backup", backedUpWithin, func(b observed.Backup) bool { return b.Type == "full" })
	noBackupGoesOn(ctx, t)
	if other = hosts.Nodes[0]; other == h {
		other = hosts.Nodes[1]
	}
	return h, other
}

// smallDisk puts a file system of its own under the folder in which a host's data directories
// are made, and leaves what is there where it is.
func smallDisk(ctx context.Context, t *testing.T, h *lab.Host, megabytes int) (root string) {
	t.Helper()
	data := strings.TrimSpace(must[string](t)(h.Exec(ctx, "sh", "-c", "echo /var/lib/postgresql/*/"+cluster)))
	root = strings.TrimSuffix(data, "/"+cluster)
	must[string](t)(h.Exec(ctx, "sh", "-ec", fmt.Sprintf(`mkdir -p /mnt/kept
mount --bind %[1]s /mnt/kept
mount -t tmpfs -o size=%[3]dm,mode=0755,uid=$(id -u postgres),gid=$(id -g postgres) small %[2]s
mkdir -m 0700 %[1]s
chown postgres:postgres %[1]s
mount --bind /mnt/kept %[1]s`, data, root, megabytes)))
	t.Cleanup(func() {
		if _, err := h.Exec(context.WithoutCancel(ctx), "sh", "-c", fmt.Sprintf("umount -l %s %s /mnt/kept", data, root)); err != nil {
			t.Errorf("take the small disk of %s away: %v", h.Name, err)
		}
	})
	return root
}

// TestRestoreOntoAFullDisk: a restore for which there is no room is refused before anything is
// written. One whose disk fills in the middle fails with pgBackRest's words, the cluster beside
// it goes on, and what there is of it is taken away again.
func TestRestoreOntoAFullDisk(t *testing.T) {
	ctx := begin(t)
	h, _ := restorable(ctx, t)
	root := smallDisk(ctx, t, h, 20)
	restore := func() (string, error) {
		out, err := hosts.Infra.Command(ctx, "pgctrl", "restore", cluster, "--to", copied, "--on", h.Name, "--wait", "0").CombinedOutput()
		return string(out), err
	}
	if out, err := restore(); err == nil || !strings.Contains(out, "node "+h.Name+" has ") || !strings.Contains(out, "Nothing was written") {
		t.Errorf("restore onto 20 MB: %v\n%s", err, out)
	}
	if left := under(ctx, t, hosts.Layout.ClusterDocs(copied)); len(left) > 0 {
		t.Fatalf("a refusal wrote %s", left[0].Key)
	}

	must[string](t)(h.Exec(ctx, "mount", "-o", "remount,size=200m", root))
	samplers := sampleAll(ctx, t, 200*time.Millisecond)
	began := time.Now()
	removed := false
	t.Cleanup(func() {
		if !removed {
			copyRemoved(context.WithoutCancel(ctx), t, copied)
		}
	})
	if out, err := restore(); err != nil {
		t.Fatalf("pgctrl restore: %v\n%s", err, out)
	}
	goOn := held(ctx, t, h, "[p]gbackrest .*restore.d/"+copied+".* restore$")
	_, _ = h.Exec(ctx, "sh", "-c", "dd if=/dev/zero of="+root+"/filler bs=1M count=300") // it ends because nothing is left
	goOn()
	ok(t, fleet.Until(ctx, time.Minute, "Patroni to give up", func(ctx context.Context) error {
		said := since(ctx, t, h, "patroni@"+copied, began)
		if !strings.Contains(said, "No space left on device") {
			return errors.New(said)
		}
		return nil
	}))
	status, _ := hosts.Infra.Command(ctx, "pgctrl", "status", copied).CombinedOutput()
	t.Logf("status meanwhile:\n%s", status)
	must[string](t)(h.Exec(ctx, "rm", root+"/filler"))
	out, err := hosts.Infra.Command(ctx, "pgctrl", "remove", copied, "--confirm", copied).CombinedOutput()
	if err != nil {
		t.Fatalf("pgctrl remove: %v\n%s", err, out)
	}
	removed = true
	if left := under(ctx, t, hosts.Layout.ClusterDocs(copied)); len(left) > 0 {
		t.Errorf("%s is left", left[0].Key)
	}
	for i, samples := range stopAll(samplers) {
		if bad := failures(samples); bad > 0 {
			t.Errorf("through %s: %d of %d writes failed", hosts.Nodes[i].Name, bad, len(samples))
		}
	}
}

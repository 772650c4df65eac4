package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/tests/fleet"
)

// TestBackupFromAReplica: the files are a replica's, as the backup and pgBackRest's own manifest
// say, and it is proved that it can be restored. When the replicas' servers go in the middle of one
// the primary is copied. Without the field everything of it goes from every host.
func TestBackupFromAReplica(t *testing.T) {
	ctx := begin(t)
	from, _ := leaderAndNext(ctx, t)
	primary := hosts.Node(from)
	backedUp(ctx, t, primary, "the first full backup", backedUpWithin, func(b observed.Backup) bool { return b.Type == "full" })
	noBackupGoesOn(ctx, t)
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "backup", "from=replica", "--wait", "1m"))
	t.Cleanup(func() {
		_, _ = hosts.Pgctrl(context.WithoutCancel(ctx), "unset", cluster, "backup", "from", "--wait", "1m")
	})
	server := plan.BackupServerUnit(cluster)
	ok(t, fleet.Until(ctx, time.Minute, "a server on every member's node", func(ctx context.Context) error {
		for _, h := range hosts.Nodes {
			if out, err := h.Exec(ctx, "systemctl", "is-active", server); err != nil {
				return fmt.Errorf("%s: %s%w", h.Name, out, err)
			}
		}
		return nil
	}))
	t.Logf("memory of a server at rest: %s", must[string](t)(primary.Exec(ctx, "sh", "-c", "grep VmRSS /proc/$(systemctl show -P MainPID "+server+")/status")))
	for _, f := range []string{plan.BackupPeerFile(cluster), plan.BackupServerConfig(cluster)} {
		t.Log(must[string](t)(primary.Exec(ctx, "stat", "-c", "%n %A %U:%G", f)))
	}
	sqlOn(ctx, t, primary, "create table if not exists copied(i int); insert into copied select generate_series(1, 100000)")

	full := func(flags ...string) observed.Backup {
		t.Helper()
		began := time.Now()
		out, err := hosts.Infra.Command(ctx, append([]string{"pgctrl", "backup", cluster, "--type", "full"}, flags...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("pgctrl backup: %v\n%s", err, out)
		}
		b := backedUp(ctx, t, primary, "it", backedUpWithin, after("full", began))
		t.Logf("%s is of %s\n%s", b.Label, b.From, out)
		return b
	}
	standby := func(b observed.Backup) string {
		t.Helper()
		manifest := "/var/lib/pgbackrest/" + cluster + "-*/backup/" + cluster + "/" + b.Label + "/backup.manifest"
		return strings.TrimSpace(must[string](t)(primary.Exec(ctx, "sh", "-c", "grep ^option-backup-standby= "+manifest)))
	}
	b := full("--wait", "3m")
	if said := standby(b); said != "option-backup-standby=true" || b.From == "" || b.From == from {
		t.Errorf("%s is of %q, and its manifest says %q", b.Label, b.From, said)
	}
	if out, err := hosts.Infra.Command(ctx, "pgctrl", "backup", "verify", cluster, "--wait", verifiedWithin).CombinedOutput(); err != nil {
		t.Errorf("it can't be restored: %v\n%s", err, out)
	}

	// The servers go while it is copied, and nobody may bring them back.
	began := time.Now()
	must[string](t)(hosts.Pgctrl(ctx, "backup", cluster, "--type", "full", "--wait", "0"))
	goOn := held(ctx, t, primary, backupPattern)
	for _, h := range hosts.Nodes {
		if h == primary {
			continue
		}
		freeze := "/etc/pgctrl/freeze." + cluster
		must[string](t)(h.Exec(ctx, "touch", freeze))
		t.Cleanup(func() { _, _ = h.Exec(context.WithoutCancel(ctx), "rm", "-f", freeze) })
		ok(t, fleet.Until(ctx, 20*time.Second, "the server of "+h.Name+" to stay away", func(ctx context.Context) error {
			if _, err := h.Exec(ctx, "systemctl", "stop", server); err != nil {
				return err
			}
			time.Sleep(3 * time.Second) // longer than the agent takes to repair it
			if out, err := h.Exec(ctx, "systemctl", "is-active", server); err == nil {
				return fmt.Errorf("it is %s", out)
			}
			return nil
		}))
	}
	goOn()
	ops := operationsOf(ctx, t)
	o := ended(ctx, t, ops[len(ops)-1].ID, backedUpWithin)
	for _, p := range o.Phases {
		t.Logf("%s on %s: %s, asked %d times, %d failed", p.Name, p.Node, p.State, p.Tries, p.Failures)
	}
	b = backedUp(ctx, t, primary, "it", 30*time.Second, after("full", began))
	if said := standby(b); o.State != operations.Done || b.From != from || said != "option-backup-standby=false" {
		t.Errorf("%s: %s: %s is of %q, and its manifest says %q", o.State, o.Message, b.Label, b.From, said)
	}
	for _, h := range hosts.Nodes {
		_, _ = h.Exec(ctx, "rm", "-f", "/etc/pgctrl/freeze."+cluster)
	}

	must[string](t)(hosts.Pgctrl(ctx, "unset", cluster, "backup", "from", "--wait", "1m"))
	ok(t, fleet.Until(ctx, time.Minute, "nothing of it to be left", func(ctx context.Context) error {
		for _, h := range hosts.Nodes {
			if out, err := h.Exec(ctx, "sh", "-c", "ls /etc/pgbackrest/server.d; systemctl is-active "+server); err == nil || strings.Contains(out, cluster) {
				return fmt.Errorf("%s: %s", h.Name, out)
			}
		}
		if out, err := hosts.Pgctrl(ctx, "secret", "list", cluster); err != nil || strings.Contains(out, "backup-tls") {
			return fmt.Errorf("%s%v", out, err)
		}
		return nil
	}))
}

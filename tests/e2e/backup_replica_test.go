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
	"github.com/pgctrl/pgctrl/tests/lab/lab"
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
	peerKeyIsHidden(ctx, t)

	// The replica's host goes while it is copied: nothing says so but that nothing comes any more.
	began := time.Now()
	must[string](t)(hosts.Pgctrl(ctx, "backup", cluster, "--type", "full", "--wait", "0"))
	goOn := held(ctx, t, primary, backupPattern)
	source := copiedFrom(ctx, t, primary)
	t.Cleanup(func() { _ = source.Boot(context.WithoutCancel(ctx)) })
	ok(t, source.PowerOff(ctx))
	goOn()
	ops := operationsOf(ctx, t)
	o := ended(ctx, t, ops[len(ops)-1].ID, 2*backedUpWithin) // pgBackRest itself waits for two minutes of it
	t.Logf("%s after %s:", o.State, time.Since(began).Round(time.Second))
	for _, p := range o.Phases {
		t.Logf("  %s on %s: %s, asked %d times, %d failed", p.Name, p.Node, p.State, p.Tries, p.Failures)
	}
	b = backedUp(ctx, t, primary, "it", 30*time.Second, after("full", began))
	if said := standby(b); o.State != operations.Done || b.From != from || said != "option-backup-standby=false" {
		t.Errorf("%s: %s: %s is of %q, and its manifest says %q", o.State, o.Message, b.Label, b.From, said)
	}
	ok(t, source.Boot(ctx))
	ok(t, hosts.Whole(ctx, cluster, 3*time.Minute))

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

// copiedFrom is the host whose files the backup on a host copies, by pgBackRest's own arguments.
func copiedFrom(ctx context.Context, t *testing.T, h *lab.Host) *lab.Host {
	t.Helper()
	out := must[string](t)(h.Exec(ctx, "sh", "-c", "ps -eo args= | grep -o -- '--pg2-host=[^ ]*' | head -1"))
	address := strings.TrimPrefix(strings.TrimSpace(out), "--pg2-host=")
	for _, n := range hosts.Nodes {
		if n.IP == address {
			return n
		}
	}
	t.Fatalf("the backup copies from %q, which is no node's", out)
	return nil
}

// TestBackupFromAReplicaLosesThePrimary: its host goes while a replica is copied, and that one may
// lead next: what was begun there must not keep its own backup from beginning.
func TestBackupFromAReplicaLosesThePrimary(t *testing.T) {
	ctx := begin(t)
	from, _ := leaderAndNext(ctx, t)
	primary := hosts.Node(from)
	backedUp(ctx, t, primary, "the first full backup", backedUpWithin, func(b observed.Backup) bool { return b.Type == "full" })
	noBackupGoesOn(ctx, t)
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "backup", "from=replica", "--wait", "1m"))
	t.Cleanup(func() {
		_, _ = hosts.Pgctrl(context.WithoutCancel(ctx), "unset", cluster, "backup", "from", "--wait", "1m")
	})
	began := time.Now()
	must[string](t)(hosts.Pgctrl(ctx, "backup", cluster, "--type", "full", "--wait", "0"))
	held(ctx, t, primary, "[p]gbackrest .*--pg2-host=.* backup$")
	source := copiedFrom(ctx, t, primary)
	ops := operationsOf(ctx, t)
	t.Cleanup(func() { _ = primary.Boot(context.WithoutCancel(ctx)) })
	ok(t, primary.PowerOff(ctx))
	var next *lab.Host
	ok(t, fleet.Until(ctx, 2*time.Minute, "another leader", func(ctx context.Context) error {
		now, err := hosts.Leader(ctx, cluster)
		if err == nil && (now == "" || now == from) {
			return fmt.Errorf("it is %q", now)
		}
		next = hosts.Node(now)
		return err
	}))
	o := ended(ctx, t, ops[len(ops)-1].ID, 6*time.Minute)
	t.Logf("%s copied, %s leads; %s after %s: %s", source.Name, next.Name, o.State, time.Since(began).Round(time.Second), o.Message)
	if o.State != operations.Done {
		t.Errorf("%s: %s", o.Reason, o.Message)
	}
	b := backedUp(ctx, t, next, "it", 30*time.Second, after("full", began))
	ok(t, primary.Boot(ctx))
	ok(t, hosts.Whole(ctx, cluster, 3*time.Minute))
	everythingArchived(ctx, t, b.FirstWAL, time.Minute)
}

// peerKeyIsHidden: the key by which members' pgBackRest know one another is nowhere that anybody
// sees (R11); each line of it is looked for.
func peerKeyIsHidden(ctx context.Context, t *testing.T) {
	t.Helper()
	secrets := secretValues(ctx, t)
	var lines []string
	for key, value := range secrets {
		if _, private, found := strings.Cut(value, "-----BEGIN PRIVATE KEY-----\n"); found && strings.HasPrefix(key, hosts.Layout.BackupTLSSecrets(cluster)) {
			body, _, _ := strings.Cut(private, "\n-----END")
			lines = append(lines, strings.Split(body, "\n")...)
		}
	}
	if len(lines) == 0 {
		t.Fatal("there is no such key, so nothing is looked for")
	}
	for place, text := range shown(ctx, t, secrets) {
		for _, line := range lines {
			if strings.Contains(text, line) {
				t.Errorf("R11: a line of the peers' key is in %s", place)
			}
		}
	}
}

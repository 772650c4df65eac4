package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/pgctrl/pgctrl/tests/s3"
)

// archiveFailing is the reason of a cluster whose WAL waits.
const archiveFailing = "ArchiveFailing"

// startS3 runs an S3 server on infra1 until the test ends.
func startS3(ctx context.Context, t *testing.T) *s3.Server {
	t.Helper()
	dir := must[string](t)(lab.Second(ctx, lab.MinIO, lab.NewLog(os.Stderr)))
	began := time.Now()
	server := must[*s3.Server](t)(s3.Start(ctx, hosts.Lab, hosts.Infra, dir))
	t.Logf("S3 answers after %s", time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() { ok(t, server.Remove(context.WithoutCancel(ctx), hosts.Lab)) })
	return server
}

// TestS3CanBeAway: what the tests of backups stand on. pgBackRest of every node reads and
// writes the store over TLS; stopped, hung or cut off it is away for it, and back again after,
// with what it had; and etcd beside it never is.
func TestS3CanBeAway(t *testing.T) {
	ctx := begin(t)
	server := startS3(ctx, t)
	config := fmt.Sprintf("[global]\nrepo1-type=s3\nrepo1-path=/probe\nrepo1-s3-endpoint=%s\nrepo1-s3-bucket=%s\nrepo1-s3-region=%s\nrepo1-s3-uri-style=path\n"+
		"repo1-s3-key=%s\nrepo1-s3-key-secret=%s\nrepo1-storage-ca-file=%s\nlog-level-file=off\nio-timeout=2\n",
		server.Endpoint(), server.Bucket, s3.Region, server.Key, server.Secret, s3.CAFile)
	run := func(h *lab.Host, input string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		cmd := h.Command(ctx, append([]string{"runuser", "-u", "postgres", "--", "pgbackrest", "--config=/tmp/probe.conf"}, args...)...)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, h := range hosts.Nodes {
		ok(t, h.WriteFile(ctx, "/tmp/probe.conf", 0o644, []byte(config)))
		t.Cleanup(func() { _, _ = h.Exec(context.WithoutCancel(ctx), "rm", "-f", "/tmp/probe.conf") })
		if out, err := run(h, "from "+h.Name, "repo-put", h.Name); err != nil {
			t.Fatalf("pgBackRest on %s: %v\n%s", h.Name, err, out)
		}
	}
	h := hosts.Nodes[0]
	whole := func() {
		t.Helper()
		if out, err := run(h, "", "repo-ls"); err != nil || strings.Fields(out)[len(hosts.Nodes)-1] != hosts.Nodes[len(hosts.Nodes)-1].Name {
			t.Fatalf("pgbackrest repo-ls: %v\n%s", err, out)
		}
	}
	whole()
	for _, a := range aways(server) {
		ok(t, a.away(ctx))
		began := time.Now()
		out, err := run(h, "", "repo-ls")
		t.Logf("%s: after %s: %s", a.name, time.Since(began).Round(time.Millisecond), strings.TrimSpace(out))
		if err == nil {
			t.Errorf("the store %s, and pgBackRest sees nothing of it", a.name)
		}
		if _, err := hosts.Leader(ctx, cluster); err != nil {
			t.Errorf("the store %s, and etcd does not answer: %v", a.name, err)
		}
		ok(t, a.back(ctx))
		whole()
	}
}

// away is a way in which a store can be away.
type away struct {
	name       string
	away, back func(context.Context) error
}

func aways(server *s3.Server) []away {
	return []away{
		{"refuses", server.Stop, server.Run},
		{"hangs", server.Freeze, server.Thaw},
		{"is cut off", server.Cut, func(ctx context.Context) error { server.Heal(ctx); return nil }},
	}
}

// withS3 gives the cluster an encrypted repository in an S3 server on infra1 for one test, as
// a person would, and waits for the first backup in it. Nothing is scheduled beside that.
func withS3(ctx context.Context, t *testing.T) (*s3.Server, observed.Backup) {
	t.Helper()
	server := startS3(ctx, t)
	noBackupGoesOn(ctx, t)
	secret := func(name, value string) {
		cmd := hosts.Infra.Command(ctx, "pgctrl", "secret", "set", cluster, name)
		cmd.Stdin = strings.NewReader(value)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("pgctrl secret set %s: %v\n%s", name, err, out)
		}
	}
	secret("backup-s3-key", server.Key)
	secret("backup-s3-secret", server.Secret)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		drop(ctx, t, hosts.Layout.ClusterDoc(cluster, "backup"))
		// WAL that waits for S3 goes into the local repository before S3 is gone.
		backedUp(ctx, t, leading(ctx, t), "a full backup in the local repository", operations.ReportWithin+backedUpWithin, func(b observed.Backup) bool { return b.Type == "full" })
		noBackupGoesOn(ctx, t)
		for _, name := range []string{"backup-s3-key", "backup-s3-secret"} {
			drop(ctx, t, hosts.Layout.Secret(cluster, name))
		}
	})
	asked := time.Now()
	out, err := hosts.Infra.Command(ctx, "pgctrl", "set", cluster, "backup", "repository=s3", "s3.endpoint="+server.Endpoint(), "s3.bucket="+server.Bucket,
		"s3.region="+s3.Region, "s3.ca_file="+s3.CAFile, "schedules.full=none", "schedules.incremental=none", "--wait", "1m").CombinedOutput()
	t.Logf("pgctrl set backup\n%s", out)
	ok(t, err)
	// A backup that has just been made in the former repository may be waited for as long.
	b := backedUp(ctx, t, leading(ctx, t), "the first backup in S3", operations.ReportWithin+backedUpWithin, after("full", asked))
	t.Logf("%s %s after the document: %s, %d bytes of %d", b.Label, b.Stopped.Sub(asked).Round(time.Second), b.Stopped.Sub(b.Started), b.Stored, b.Size)
	noBackupGoesOn(ctx, t)
	return server, b
}

// crashed kills the leader for good and waits for another one; the old one comes back at the
// test's end, or when the returned function is called.
func crashed(ctx context.Context, t *testing.T) (next *lab.Host, back func()) {
	t.Helper()
	leader := must[string](t)(hosts.Leader(ctx, cluster))
	host := hosts.Node(leader)
	ok(t, host.PowerOff(ctx))
	on := false
	back = func() {
		if !on {
			on = true
			ok(t, host.Boot(context.WithoutCancel(ctx)))
		}
	}
	t.Cleanup(back)
	ok(t, fleet.Until(ctx, time.Minute, "another leader", func(ctx context.Context) error {
		now, err := hosts.Leader(ctx, cluster)
		if err == nil && (now == "" || now == leader) {
			err = fmt.Errorf("it is %q", now)
		}
		if err == nil {
			next = hosts.Node(now)
		}
		return err
	}))
	return next, back
}

// TestS3BackupsFollowTheLeader: the repository is encrypted, and the next scheduled backup
// after a failover is made by the new primary and builds on what the old one made.
func TestS3BackupsFollowTheLeader(t *testing.T) {
	ctx := begin(t)
	_, first := withS3(ctx, t)
	listed(ctx, t, first.Label)
	// pgBackRest's own files have this word in the clear when they are not encrypted.
	plain, err := hosts.Infra.Exec(ctx, "sh", "-c", "grep -rlI backrest-format /var/lib/lab-s3/data; grep -rlI backrest-checksum /var/lib/lab-s3/data; true")
	ok(t, err)
	if plain = strings.TrimSpace(plain); plain != "" {
		t.Errorf("not encrypted: %s", plain)
	}
	if sealed := must[string](t)(hosts.Infra.Exec(ctx, "sh", "-c", "grep -rl Salted__ /var/lib/lab-s3/data | wc -l")); strings.TrimSpace(sealed) == "0" {
		t.Error("nothing in the store is encrypted by pgBackRest: this test looks at the wrong place")
	}

	w := watchBackups(ctx, t)
	w.off = map[string]bool{leading(ctx, t).Name: true}
	next, back := crashed(ctx, t)
	moved := time.Now()
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "backup", `schedules.incremental=* * * * *`, "--wait", "0"))
	b := backedUp(ctx, t, next, "the next scheduled backup", 2*time.Minute+backedUpWithin, after("incr", moved))
	t.Logf("%s on %s, %s after the failover", b.Label, next.Name, b.Stopped.Sub(moved).Round(time.Second))
	if !strings.HasPrefix(b.Label, first.Label+"_") {
		t.Errorf("it builds on %q, not on %s", b.Prior, first.Label)
	}
	made := false
	noBackupGoesOn(ctx, t) // the node tells of it before its operation has ended
	for _, o := range operationsOf(ctx, t) {
		for _, p := range o.Phases {
			made = made || o.Label == b.Label && p.Name == operations.PhaseBackup && p.Node == next.Name
		}
	}
	if !made {
		t.Errorf("no operation says that %s made it: %+v", next.Name, operationsOf(ctx, t))
	}
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "backup", "schedules.incremental=none", "--wait", "0"))
	back()
	ok(t, hosts.Whole(ctx, cluster, 2*time.Minute))
	noBackupGoesOn(ctx, t)
	everythingArchived(ctx, t, first.FirstWAL, time.Minute)
	w.neverTwo(t)
}

// TestS3RestoreAcrossAMove: what one primary wrote before a switchover and the next one after
// it is restored from the shared repository, on hosts that are not the primary's, from a backup
// that the former one made.
func TestS3RestoreAcrossAMove(t *testing.T) {
	ctx := begin(t)
	_, b := withS3(ctx, t)
	from, to := leaderAndNext(ctx, t)
	before := writeRows(ctx, t, hosts.Node(from))
	before.upTo(ctx, t, 100)
	there := before.end(t)
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	ok(t, hosts.Whole(ctx, cluster, 2*time.Minute))
	w := writeRowsFrom(ctx, t, hosts.Node(to), there)
	w.upTo(ctx, t, 200)
	moment := time.Now()
	w.upTo(ctx, t, 100)
	var on []*lab.Host
	for _, h := range hosts.Nodes {
		if h != hosts.Node(to) {
			on = append(on, h)
		}
	}
	restoredRowByRow(ctx, t, w, moment, on[0], on[1])
	t.Logf("from %s, which was made before the switchover", b.Label)
}

// TestS3KilledDuringABackup: the server and the agents are killed again and again while a
// backup is made. It ends well, and at no moment are there two.
func TestS3KilledDuringABackup(t *testing.T) {
	ctx := begin(t)
	server, _ := withS3(ctx, t)
	h := leading(ctx, t)
	sqlOn(ctx, t, h, "create table ballast as select i, md5(i::text) || md5((-i)::text) as what from generate_series(1, 1000000) i; checkpoint")
	t.Cleanup(func() {
		sqlOn(context.WithoutCancel(ctx), t, leading(context.WithoutCancel(ctx), t), "drop table if exists ballast, written")
	})

	for _, tc := range []struct {
		name  string
		kills func(t *testing.T)
	}{
		{"the server", func(t *testing.T) { killed(ctx, t, hosts.Infra, "pgctrl-server") }},
		{"the agent", func(t *testing.T) { killed(ctx, t, h, "pgagent") }},
		{"both, three times", func(t *testing.T) {
			for range 3 {
				killed(ctx, t, hosts.Infra, "pgctrl-server")
				killed(ctx, t, h, "pgagent")
				hold(ctx, 3*time.Second)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := watchBackups(ctx, t)
			began := time.Now()
			out, err := hosts.Infra.Command(ctx, "pgctrl", "backup", cluster, "--type", "full", "--wait", "0").CombinedOutput()
			if err != nil {
				t.Fatalf("pgctrl backup: %v\n%s", err, out)
			}
			ok(t, fleet.Until(ctx, time.Minute, "pgBackRest to run", func(context.Context) error {
				if len(w.seen()) == 0 {
					return errors.New("it does not")
				}
				return nil
			}))
			// It gets no further for as long as nothing answers it, so whatever is killed now is
			// killed in the middle.
			ok(t, server.Freeze(ctx))
			tc.kills(t)
			ok(t, server.Thaw(ctx))
			ops := operationsOf(ctx, t)
			o := ended(ctx, t, ops[len(ops)-1].ID, 2*backedUpWithin)
			t.Logf("%s: %s after %s, %s", o.ID, o.State, o.Ended.Sub(o.Asked).Round(time.Second), o.Message)
			for _, p := range o.Phases {
				t.Logf("  %s on %s: %s, asked %d times", p.Name, p.Node, p.State, p.Tries)
			}
			if o.State != operations.Done {
				t.Fatalf("it is %s: %s %s", o.State, o.Reason, o.Message)
			}
			b := backedUp(ctx, t, h, "it", 30*time.Second, after("full", began))
			if b.Label != o.Label {
				t.Errorf("the operation made %q, the repository has %s", o.Label, b.Label)
			}
			if ls := w.neverTwo(t); len(ls) == 0 {
				t.Error("no backup was seen")
			}
		})
	}
	// What a backup leaves half done is no burden for the next.
	noBackupGoesOn(ctx, t)
	if out, err := backrest(ctx, leading(ctx, t), "verify"); err != nil {
		t.Logf("pgbackrest verify: %v\n%s", err, out) // 2.45's is experimental; told, not judged
	}
	everythingArchived(ctx, t, "", time.Minute)
}

// killed kills a program at once and waits until systemd has started it again.
func killed(ctx context.Context, t *testing.T, h *lab.Host, unit string) {
	t.Helper()
	pid := must[string](t)(h.Exec(ctx, "systemctl", "show", "-P", "MainPID", unit))
	must[string](t)(h.Exec(ctx, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", unit))
	ok(t, fleet.Until(ctx, 30*time.Second, unit+" to run again", func(ctx context.Context) error {
		now, err := h.Exec(ctx, "systemctl", "show", "-P", "MainPID", unit)
		if err == nil && (now == pid || strings.TrimSpace(now) == "0") {
			err = errors.New("it does not")
		}
		return err
	}))
}

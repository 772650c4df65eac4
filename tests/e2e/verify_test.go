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
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// verifiedWithin is how long a proof may take here: a small database, a busy machine.
const verifiedWithin = "5m"

// seen looks at the recovery while it goes on, from outside of it: the interfaces that it has, and
// what it sees of folders that are none of its business.
const seenFrom = `for i in $(seq 1 6000); do
  pid=$(systemctl show -P MainPID pgctrl-scratch@%[1]s.service)
  exe=$(readlink /proc/${pid:-0}/exe)
  if [ -n "$exe" ] && [ "${exe##*/systemd}" = "$exe" ]; then # systemd sets it up until it becomes the program
    echo "net: $(tail -n +3 /proc/$pid/net/dev | cut -d: -f1 | tr -d ' ' | tr '\n' ' ')"
    echo "routes: $(tail -n +2 /proc/$pid/net/route | wc -l)"
    echo "other: $([ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/1/ns/net)" ] && echo yes)"
    for d in %[2]s /run/postgresql /etc/pgbackrest /var/spool/pgbackrest; do echo "$d: $(ls -A /proc/$pid/root$d 2>/dev/null | wc -l)"; done
    echo "caps: $(grep CapBnd /proc/$pid/status)"
    echo "write: $(nsenter -t $pid -m setpriv --reuid postgres --regid postgres --clear-groups touch /var/lib/postgresql/x 2>&1)"
    exit 0
  fi
  sleep 0.01
done; echo "it never ran"`

// archiveOf lists a repository: what there is of backups and WAL, and how large.
func archiveOf(ctx context.Context, t *testing.T, h *lab.Host, folder string) map[string]string {
	t.Helper()
	out, err := h.Exec(ctx, "find", folder, "-type", "f", "-printf", `%p %s %T@\n`)
	ok(t, err)
	files := map[string]string{}
	for line := range strings.Lines(out) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		files[name] = rest
	}
	return files
}

// TestProofOfABackup: a person has it proved that the newest backup can be restored. The row that
// was committed before is in it, every page is whole, and what recovers it reaches nothing.
func TestProofOfABackup(t *testing.T) {
	ctx := begin(t)
	h := leading(ctx, t)
	newest := backedUp(ctx, t, h, "the first full backup", backedUpWithin, func(b observed.Backup) bool { return b.Type == "full" })
	noBackupGoesOn(ctx, t)
	r := must[*observed.Repository](t)(repository(ctx, h))
	folder := strings.TrimPrefix(r.Where, "local:")
	before := archiveOf(ctx, t, h, folder)
	timeline := sqlOn(ctx, t, h, "select lpad(upper(to_hex(timeline_id)), 8, '0') from pg_control_checkpoint()")

	look := make(chan string, 1)
	go func() {
		out, err := h.Command(ctx, "bash", "-c", fmt.Sprintf(seenFrom, cluster, folder)).CombinedOutput()
		look <- fmt.Sprint(string(out), err)
	}()
	began := time.Now()
	out, err := hosts.Infra.Command(ctx, "pgctrl", "backup", "verify", cluster, "--wait", verifiedWithin).CombinedOutput()
	saw := <-look
	t.Logf("pgctrl backup verify, %s:\n%s\nfrom outside:\n%s", time.Since(began).Round(time.Millisecond), out, saw)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"net: lo \n", "routes: 0\n", "other: yes\n", folder + ": 0\n", "/run/postgresql: 0\n", "/etc/pgbackrest: 0\n", "/var/spool/pgbackrest: 0\n",
		"0000000000000000\n", "Read-only file system",
	} {
		if !strings.Contains(saw, want) {
			t.Errorf("no %q in what was seen from outside", want)
		}
	}

	var proof operations.Operation
	for _, o := range operationsOf(ctx, t) {
		if o.Kind == operations.KindVerify {
			proof = o
		}
	}
	got, beat := proof.Recovered, proof.Heartbeat
	if proof.State != operations.Done || got == nil || beat == nil {
		t.Fatalf("%+v", proof)
	}
	if got.Label != newest.Label && !strings.HasPrefix(got.Label, newest.Label[:16]) || !got.Heartbeat.Equal(beat.At) || !got.Checksums || got.Seconds() <= 0 ||
		beat.At.Before(began.Add(-time.Second)) || got.At.Before(beat.At.Add(-time.Second)) {
		t.Errorf("figures: %+v, %+v", got, beat)
	}
	t.Logf("restored in %.1f s (%.1f copying, %.1f recovering), pages read in %.1f s; the archive was %.1f s behind", got.Seconds(), got.Fetch, got.Replay, got.Check, beat.Window)

	// It leaves nothing on the host, once its step is taken back, and nothing in the archive but
	// what the cluster wrote.
	ok(t, fleet.Until(ctx, 10*time.Second, "the proof to leave nothing", func(ctx context.Context) error {
		out, err := h.Exec(ctx, "bash", "-c", "ls -d /var/lib/postgresql/*/"+cluster+".verify* 2>/dev/null || true; systemctl list-units --all --plain --no-legend 'pgctrl-scratch*'")
		if err == nil && strings.TrimSpace(out) != "" {
			err = fmt.Errorf("left: %q", out)
		}
		return err
	}))
	now := archiveOf(ctx, t, h, folder)
	for name, was := range before {
		if now[name] != was {
			t.Errorf("%s was %q and is %q", name, was, now[name])
		}
	}
	for name := range now {
		if _, there := before[name]; !there && !strings.Contains(name, "/"+timeline) {
			t.Errorf("new in the repository: %s", name)
		}
	}
	for _, c := range []struct{ command, want string }{
		{"backup check", "proof of restore"}, {"backup list", "verified " + got.Label}, {"status", "VERIFIED " + got.Label},
	} {
		text, _ := hosts.Infra.Command(ctx, "bash", "-c", "pgctrl "+c.command+" "+cluster).CombinedOutput()
		if !strings.Contains(string(text), c.want) {
			t.Errorf("pgctrl %s: no %q in\n%s", c.command, c.want, text)
		}
	}
	ok(t, fleet.Until(ctx, 20*time.Second, "the server to say it in numbers", func(ctx context.Context) error {
		text, err := hosts.Infra.Exec(ctx, "curl", "-s", "http://127.0.0.1:9640/metrics")
		if err == nil && !strings.Contains(text, `pgctrl_backup_verified_timestamp_seconds{cluster="`+cluster+`"}`) {
			err = errors.New("it is not there")
		}
		return err
	}))
}

// TestADamagedBackupIsFound: bytes of the newest backup are others, and a proof says so; once they
// are put back, the next one ends it.
func TestADamagedBackupIsFound(t *testing.T) {
	ctx := begin(t)
	h := leading(ctx, t)
	backedUp(ctx, t, h, "the first full backup", backedUpWithin, func(b observed.Backup) bool { return b.Type == "full" })
	noBackupGoesOn(ctx, t)
	r := must[*observed.Repository](t)(repository(ctx, h))
	newest, _ := r.Newest()
	folder := strings.TrimPrefix(r.Where, "local:") + "/backup/" + cluster + "/" + newest.Label[:16]
	file := strings.TrimSpace(must[string](t)(h.Exec(ctx, "bash", "-c", "find "+folder+" -type f -not -name 'backup.manifest*' -printf '%s %p\\n' | sort -n | tail -n 1 | cut -d' ' -f2")))
	_, err := h.Exec(ctx, "bash", "-c", fmt.Sprintf("cp -a %[1]s /root/kept && dd if=/dev/urandom of=%[1]s bs=512 seek=20 count=8 conv=notrunc status=none", file))
	ok(t, err)
	defer func() {
		_, err := h.Exec(ctx, "bash", "-c", "cp -a /root/kept "+file+" && rm /root/kept")
		ok(t, err)
		out, err := hosts.Infra.Command(ctx, "pgctrl", "backup", "verify", cluster, "--wait", verifiedWithin).CombinedOutput()
		if err != nil {
			t.Errorf("after it was put back: %v\n%s", err, out)
		}
		ok(t, fleet.Until(ctx, 20*time.Second, "the status to say nothing of it any more", func(ctx context.Context) error {
			if text := statusText(ctx); strings.Contains(text, string(observed.VerificationFailed)) {
				return errors.New(text)
			}
			return nil
		}))
	}()
	began := time.Now()
	out, err := hosts.Infra.Command(ctx, "pgctrl", "backup", "verify", cluster, "--wait", verifiedWithin).CombinedOutput()
	t.Logf("with %s damaged, after %s:\n%s", file, time.Since(began).Round(time.Millisecond), out)
	if err == nil {
		t.Fatal("the proof says that it can be restored")
	}
	statusSays(ctx, t, string(observed.VerificationFailed), newest.Label)
	check, err := hosts.Infra.Command(ctx, "pgctrl", "backup", "check", cluster).CombinedOutput()
	if err == nil || !strings.Contains(string(check), "proof of restore") {
		t.Errorf("pgctrl backup check: %v\n%s", err, check)
	}
	if left, err := h.Exec(ctx, "bash", "-c", "ls -d /var/lib/postgresql/*/"+cluster+".verify* 2>/dev/null || true"); err != nil || strings.TrimSpace(left) != "" {
		t.Errorf("left: %q, %v", left, err)
	}
	if _, err := h.Exec(ctx, "systemctl", "status", plan.ScratchUnit(cluster)); err == nil {
		t.Error("its unit is left")
	}
}

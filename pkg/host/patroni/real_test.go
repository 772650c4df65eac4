package patroni

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/pgctrl/pgctrl/internal/freeport"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// real is one real Patroni on an embedded etcd, with a PostgreSQL of its own.
type real struct {
	t       *testing.T
	dir     string
	path    string
	rest    string
	pgPort  int
	etcd    string
	unit    plan.Unit
	program *Program
	log     string
}

func startReal(t *testing.T) *real {
	t.Helper()
	if _, err := exec.LookPath("patroni"); err != nil {
		t.Fatal("Patroni is not installed: apt-get install -y --no-install-recommends patroni postgresql-15")
	}
	dir, err := os.MkdirTemp("", "pat")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if out, err := exec.Command("chown", "postgres", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	r := &real{t: t, dir: dir, path: filepath.Join(dir, "pg.yml"), rest: fmt.Sprintf("127.0.0.1:%d", freeport.Take(t)), pgPort: freeport.Take(t),
		etcd: startEtcd(t), log: filepath.Join(dir, "log")}
	r.unit = plan.Unit{Unit: "patroni@pg.service", Files: []plan.File{{Path: r.path}}}
	r.program = NewProgram(Options{Log: zaptest.NewLogger(t), ProveWithin: 15 * time.Second,
		Journal: func(context.Context, string, int) string { b, _ := os.ReadFile(r.log); return string(b) }})
	r.write(r.config("one"))
	f, err := os.Create(r.log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("runuser", "-u", "postgres", "--", "patroni", r.path)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("runuser", "-u", "postgres", "--", filepath.Join(binDirForTest(t), "pg_ctl"), "-D", filepath.Join(dir, "data"), "-m", "immediate", "stop").Run()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			b, _ := os.ReadFile(r.log)
			t.Logf("Patroni said:\n%s", b)
		}
	})
	return r
}

func (r *real) config(hash string, more ...string) string {
	return fmt.Sprintf(`scope: pg
namespace: /pg/
name: pg-1
restapi:
  listen: %[1]s
  connect_address: 10.0.0.1:8008
  authentication: {username: patroni, password: secret}
  http_extra_headers: {X-Pgctrl-Config: %[6]s}
etcd3:
  hosts: ['%[2]s']
bootstrap:
  dcs: {ttl: 30, postgresql: {use_slots: true}}
  initdb: [encoding: UTF8, no-sync]
postgresql:
  listen: 127.0.0.1:%[3]d
  connect_address: 127.0.0.1:%[3]d
  bin_dir: %[4]s
  data_dir: %[5]s/data
  pgpass: %[5]s/pgpass
  use_unix_socket: true
  authentication:
    superuser: {username: postgres, password: x}
    replication: {username: replicator, password: x}
  parameters: {unix_socket_directories: '%[5]s', shared_buffers: 16MB, fsync: 'off'}
  pg_hba:
  - local all all trust
  - host all all 127.0.0.1/32 trust
%[7]s`, r.rest, r.etcd, r.pgPort, binDirForTest(r.t), r.dir, hash, strings.Join(more, ""))
}

func (r *real) write(content string) {
	r.t.Helper()
	if err := os.WriteFile(r.path, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *real) reload(content string) (time.Duration, error) {
	r.t.Helper()
	r.write(content)
	start := time.Now()
	if err := r.program.Reload(r.t.Context(), r.unit); err != nil {
		r.t.Fatal(err)
	}
	err := r.program.Prove(r.t.Context(), r.unit)
	return time.Since(start), err
}

// TestRealPatroni: what Patroni does with a file is found out from the outside.
func TestRealPatroni(t *testing.T) {
	r := startReal(t)
	l, err := ReadLocal(r.path)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(40 * time.Second); ; <-time.After(100 * time.Millisecond) {
		if a, err := l.Client.Status(t.Context()); err == nil && a.TakesWrites() {
			break
		} else if time.Now().After(end) {
			t.Fatalf("no primary: %+v %v", a, err)
		}
	}
	if err := r.program.Prove(t.Context(), r.unit); err != nil {
		t.Fatalf("after the start: %v", err)
	}

	took, err := r.reload(r.config("two", "tags: {offline: true, nofailover: false}\n"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a good file was proved after %.2f s", took.Seconds())

	// The same again is nothing new to Patroni, and in force.
	if _, err := r.reload(r.config("two", "tags: {offline: true, nofailover: false}\n")); err != nil {
		t.Fatal(err)
	}

	bad := strings.Replace(r.config("three"), "- local all all trust", "- local all all trust\n  - host all all nowhere banana", 1)
	_, err = r.reload(bad)
	refusal(t, err, observed.Rejected, "pg_hba.conf line", "banana")
	if _, err = r.reload(r.config("two")); err != nil {
		t.Fatalf("rolled back: %v", err)
	}

	// Patroni can't read it: it keeps the old one and nothing but its log says so.
	if err := os.Chmod(r.path, 0o600); err != nil {
		t.Fatal(err)
	}
	took, err = r.reload(r.config("four"))
	refusal(t, err, observed.Rejected, "header X-Pgctrl-Config", "Permission denied")
	t.Logf("an unreadable file was refused after %.1f s", took.Seconds())
	if err := os.Chmod(r.path, 0o644); err != nil {
		t.Fatal(err)
	}

	// Dynamic configuration, on the real thing.
	d := NewDriver(DriverOptions{ConfigPath: r.path})
	dyn := plan.Patroni{Patroni: "pg", Config: map[string]any{"ttl": 40, "failsafe_mode": true,
		"postgresql": map[string]any{"parameters": map[string]any{"work_mem": "8MB", "max_connections": 60, "gone": nil}}}}
	if err := d.Apply(t.Context(), dyn, 1); err != nil {
		t.Fatal(err)
	}
	if diff, err := d.Diff(t.Context(), dyn); err != nil || !diff.Empty() {
		t.Fatalf("%q %v", diff, err)
	}
	for end := time.Now().Add(20 * time.Second); ; <-time.After(50 * time.Millisecond) {
		if pending, err := d.Pending(t.Context()); err == nil && pending {
			break
		} else if time.Now().After(end) {
			t.Fatalf("max_connections does not wait for a restart: %v", err)
		}
	}
}

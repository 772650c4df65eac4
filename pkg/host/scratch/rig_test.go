package scratch

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgctrl/pgctrl/pkg/host/disk"
	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
)

// TestMain is pgagent as well, as far as the units run it.
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "scratch" {
		do := map[string]func(context.Context, string, interface{ Write([]byte) (int, error) }) error{
			"fetch": func(ctx context.Context, o string, w interface{ Write([]byte) (int, error) }) error {
				return Fetch(ctx, o, w)
			},
			"recover": func(ctx context.Context, o string, w interface{ Write([]byte) (int, error) }) error {
				return Recover(ctx, o, w)
			},
		}[os.Args[2]]
		if err := do(context.Background(), os.Args[4], os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// processes is a systemd that only runs programs.
type processes struct {
	mu      sync.Mutex
	units   map[string]*process
	started []systemd.Transient
}

type process struct {
	state systemd.State
	cmd   *exec.Cmd
	ended chan struct{}
	said  bytes.Buffer
}

func (p *processes) StartTransient(_ context.Context, t systemd.Transient) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := &process{cmd: exec.Command(t.Args[0], t.Args[1:]...), ended: make(chan struct{})}
	as, err := files.Credential(t.User)
	if err != nil {
		return err
	}
	u.cmd.Dir, u.cmd.Stderr, u.cmd.Stdout = "/", &u.said, &u.said
	u.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Setpgid: true}
	if err := u.cmd.Start(); err != nil {
		return err
	}
	u.state = systemd.State{LoadState: "loaded", ActiveState: "active", SubState: "running", Description: t.Description, MainPID: u.cmd.Process.Pid}
	if p.units == nil {
		p.units = map[string]*process{}
	}
	p.units[t.Unit], p.started = u, append(p.started, t)
	go func() {
		err := u.cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		u.state.MainPID, u.state.SubState = 0, "exited"
		if err != nil {
			u.state.ActiveState, u.state.SubState, u.state.Result, u.state.ExitStatus = "failed", "failed", "exit-code", u.cmd.ProcessState.ExitCode()
		}
		close(u.ended)
	}()
	return nil
}

func (p *processes) Status(_ context.Context, unit string) (systemd.State, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.units[unit]; u != nil {
		return u.state, nil
	}
	return systemd.State{LoadState: systemd.NotFound, ActiveState: "inactive", Description: unit}, nil
}

func (p *processes) Stop(_ context.Context, unit string) error {
	p.mu.Lock()
	u := p.units[unit]
	p.mu.Unlock()
	if u == nil {
		return nil
	}
	_ = syscall.Kill(-u.cmd.Process.Pid, syscall.SIGKILL)
	<-u.ended
	return nil
}

func (p *processes) Forget(_ context.Context, unit string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.units, unit)
}

func (p *processes) Feed(context.Context, string) error { return nil }

func (p *processes) Journal(_ context.Context, unit string, _ int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.units[unit]; u != nil {
		return u.said.String()
	}
	return ""
}

// rig is a PostgreSQL with a repository, and a driver beside it.
type rig struct {
	t      *testing.T
	dir    string
	bin    string
	label  string
	driver *Driver
	units  *processes
}

const port = "5497"

func newRig(t *testing.T) *rig {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if _, err := exec.LookPath("pgbackrest"); err != nil || len(found) == 0 {
		t.Fatal("programs are not installed: apt-get install -y --no-install-recommends postgresql-15 pgbackrest")
	}
	// In memory where there is room: a restore waits for the disk with each of its files.
	where := ""
	if room, err := disk.Of("/dev/shm"); err == nil && room.Free > 1<<30 {
		where = "/dev/shm"
	}
	dir, err := os.MkdirTemp(where, "scr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir, bin: filepath.Dir(found[len(found)-1]), units: &processes{}}
	r.as("", "chown", "postgres", dir)
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/pgagent", self, 0o755); err != nil {
		t.Fatal(err)
	}
	r.sh("mkdir repo spool lock sock; " + r.bin + "/initdb -D data -k -A trust --no-sync >/dev/null")
	r.write("c.conf", strings.ReplaceAll(`[c]
pg1-path=DIR/data
pg1-port=`+port+`
pg1-socket-path=DIR/sock
repo1-path=DIR/repo
repo1-retention-full=9
repo1-bundle=y
lock-path=DIR/lock
spool-path=DIR/spool
log-path=DIR
start-fast=y
`, "DIR", dir))
	r.sh(fmt.Sprintf(`cat >> data/postgresql.conf <<E
port=%s
listen_addresses=''
unix_socket_directories='%s/sock'
shared_buffers=16MB
fsync=off
autovacuum=off
archive_mode=on
archive_command='pgbackrest --config=%s/c.conf --stanza=c --log-level-console=off archive-push "%%p"'
max_connections=150
E
%s/pg_ctl -D data -l log -w start >/dev/null`, port, dir, dir, r.bin))
	t.Cleanup(func() { r.sh(r.bin + "/pg_ctl -D data -m immediate stop >/dev/null") })
	r.sh("pgbackrest --config=" + dir + "/c.conf --stanza=c --log-level-console=off stanza-create")
	r.psql("create schema pgctrl; create table pgctrl.heartbeat (id text primary key, at timestamptz not null); create table t as select generate_series(1, 50000) i")
	r.psql("alter system set work_mem = '5MB'; alter system set recovery_target_name = 'of an earlier restore'")
	r.backup()
	r.driver = New(Options{
		Node: "pg1", Systemd: r.units, State: dir + "/state", Program: dir + "/pgagent",
		Config: func(string) string { return dir + "/c.conf" },
		Hidden: func(string) ([]string, error) { return []string{dir + "/repo", dir + "/data"}, nil },
	})
	return r
}

func (r *rig) as(user, name string, args ...string) string {
	r.t.Helper()
	cmd := exec.Command(name, args...)
	if user != "" {
		as, err := files.Credential(user)
		if err != nil {
			r.t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	}
	cmd.Dir = r.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r *rig) sh(script string) string {
	r.t.Helper()
	return r.as("postgres", "sh", "-c", "set -e; "+script)
}

func (r *rig) write(name, content string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) psql(sql string) string {
	r.t.Helper()
	args := []string{"-XAtq", "-v", "ON_ERROR_STOP=1", "-h", r.dir + "/sock", "-p", port, "-d", "postgres"}
	for part := range strings.SplitSeq(sql, ";") {
		args = append(args, "-c", part)
	}
	return r.as("postgres", "psql", args...)
}

func (r *rig) backup() {
	r.t.Helper()
	r.sh("pgbackrest --config=" + r.dir + "/c.conf --stanza=c --log-level-console=off --type=full backup")
	r.label = r.sh("ls repo/backup/c | grep '^[0-9]*-[0-9]*F$' | tail -n 1")
}

// archived finishes the segment, waits for the archive to have it and says its name.
func (r *rig) archived() string {
	r.t.Helper()
	name := r.psql("insert into t values (0); select pg_walfile_name(pg_switch_wal())")
	for {
		if r.sh("ls repo/archive/c/*/*/"+name+"* 2>/dev/null | grep -v tmp$ || true") != "" {
			return name
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (r *rig) order(step string) Order {
	return Order{Step: step, Dir: r.dir + "/scr", Bin: r.bin, Backup: r.label, Target: Target{Type: "latest"}, Offline: true}
}

// restore makes one and waits for its end.
func (r *rig) restore(o Order) Run {
	r.t.Helper()
	if err := r.driver.Start(r.t.Context(), "c", o); err != nil {
		r.t.Fatal(err)
	}
	for {
		run, err := r.driver.Run(r.t.Context(), "c")
		if err != nil {
			r.t.Fatal(err)
		}
		if !run.Running {
			return run
		}
		time.Sleep(50 * time.Millisecond)
	}
}

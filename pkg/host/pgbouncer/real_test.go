package pgbouncer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgctrl/pgctrl/internal/freeport"
	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/host/systemd/systemdtest"
	"github.com/pgctrl/pgctrl/pkg/host/unit"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testUnit = "pgbouncer@pg.service"

// rig is a real PgBouncer under a unit driver. PostgreSQL is not needed: nobody logs in.
type rig struct {
	t       *testing.T
	dir     string // short, because sockets' paths must be
	port    int
	program *Program
	// programs are the driver's.
	programs map[string]unit.Program
	driver   *unit.Driver
	systemd  *systemdtest.Fake
	cmd      *exec.Cmd
	restart  int
	// secret is what the unit's files are filled with.
	secret func(name string) ([]byte, bool)
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if _, err := (&Program{o: Options{}.withDefaults()}).binary(); err != nil {
		t.Fatalf("this test asks the real PgBouncer, which is missing; apt-get install pgbouncer (%v)", err)
	}
	dir, err := os.MkdirTemp("/tmp", "pgb")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, port: freeport.Take(t), systemd: &systemdtest.Fake{}}
	r.secret = func(string) ([]byte, bool) { return []byte("hushhush"), true }
	t.Cleanup(func() { r.kill(syscall.SIGKILL); os.RemoveAll(dir) })
	for _, d := range []string{"", "etc", "run", "run/pg", "scratch"} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, d), 0o755), os.Chmod(filepath.Join(dir, d), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	r.systemd.AddTemplate("pgbouncer@.service")
	r.systemd.OnStart = func(string) error { return r.start() }
	r.systemd.OnStop = func(string) { r.kill(syscall.SIGTERM) }
	r.program = NewProgram(Options{
		RunDir: filepath.Join(dir, "run"), ScratchDir: filepath.Join(dir, "scratch"), Within: 5 * time.Second,
		Restart: func(ctx context.Context, name string) error {
			r.restart++
			return errors.Join(r.systemd.Stop(ctx, name), r.systemd.Start(ctx, name))
		},
	})
	as, err := files.Credential(r.program.o.User)
	if err != nil {
		t.Fatal(err)
	}
	if err := give(filepath.Join(dir, "run/pg"), as); err != nil {
		t.Fatal(err)
	}
	r.programs = map[string]unit.Program{plan.Pooler: r.program}
	r.driver = unit.New(unit.Options{
		StateDir: filepath.Join(dir, "state"), Systemd: r.systemd, Programs: r.programs,
		Secret: func(name string) ([]byte, bool) { return r.secret(name) },
		// What it dies of, it dies of at once here; the driver's own tests wait longer.
		Survive:    300 * time.Millisecond,
		AllowPaths: []string{filepath.Join(dir, "etc")}, AllowUnits: []string{testUnit},
	})
	return r
}

func (r *rig) ini() string { return filepath.Join(r.dir, "etc/pg.ini") }

func (r *rig) start() error {
	as, _ := files.Credential(r.program.o.User)
	// The unit runs as a user who may read what is root's and its group's.
	for _, f := range []string{r.ini(), filepath.Join(r.dir, "etc/pg.users")} {
		if err := os.Chmod(f, 0o644); err != nil {
			return err
		}
	}
	r.cmd = exec.Command("pgbouncer", "-q", r.ini())
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	return r.cmd.Start()
}

func (r *rig) kill(sig syscall.Signal) {
	if r.cmd != nil {
		_ = r.cmd.Process.Signal(sig)
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

func (r *rig) unit(settings ...string) plan.Unit {
	ini := fmt.Sprintf(`; a comment
[databases]
app = host=/nowhere port=5432 pool_size=7
* = host=/nowhere port=5432

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir = %s
auth_type = scram-sha-256
auth_file = %s
auth_user = pgctrl_pooler
auth_query = SELECT usename, passwd FROM pgctrl.user_lookup($1)
server_login_retry = 0.1
pool_mode = transaction
default_pool_size = 20
%s
`, r.port, filepath.Join(r.dir, "run/pg"), filepath.Join(r.dir, "etc/pg.users"), strings.Join(settings, "\n"))
	return plan.Unit{Unit: testUnit, Program: plan.Pooler, Files: []plan.File{
		{Path: r.ini(), Mode: "0644", Content: ini},
		{Path: filepath.Join(r.dir, "etc/pg.users"), Mode: "0644", Content: "\"pgctrl_pooler\" " + plan.SecretRef("pooler", plan.FormatUserlist) + "\n"},
	}}
}

func (r *rig) apply(u plan.Unit) error {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return r.driver.Apply(ctx, u, 1)
}

// shows is a setting as the running PgBouncer has it.
func (r *rig) shows(key string) string {
	r.t.Helper()
	for _, row := range r.ask("SHOW CONFIG") {
		if row["key"] == key {
			return row["value"]
		}
	}
	return ""
}

func (r *rig) ask(command string) []row {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := open(ctx, filepath.Join(r.dir, "run/pg"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.close()
	rows, err := c.ask(ctx, command)
	if err != nil {
		r.t.Fatal(err)
	}
	return rows
}

func TestReloadsAndNeverRestarts(t *testing.T) {
	r := newRig(t)
	if err := r.apply(r.unit()); err != nil {
		t.Fatal(err)
	}
	pid := r.cmd.Process.Pid
	if err := r.apply(r.unit("max_client_conn = 77")); err != nil {
		t.Fatal(err)
	}
	if got := r.shows("max_client_conn"); got != "77" || r.cmd.Process.Pid != pid || r.restart != 0 {
		t.Errorf("max_client_conn %q, process %d then %d, %d restarts", got, pid, r.cmd.Process.Pid, r.restart)
	}
	if diff, err := r.driver.Diff(context.Background(), r.unit("max_client_conn = 77")); err != nil || !diff.Empty() {
		t.Errorf("after that: %v, %v", diff, err)
	}
	// Only what PgBouncer reads at its start takes a restart.
	r.port = freeport.Take(t)
	if err := r.apply(r.unit()); err != nil {
		t.Fatal(err)
	}
	if got := r.shows("listen_port"); got != fmt.Sprint(r.port) || r.restart != 1 {
		t.Errorf("listen_port %q, want %d; %d restarts", got, r.port, r.restart)
	}
}

// TestR5BadFile: what PgBouncer refuses changes nothing, although 1.18 would answer
// RELOAD to it and apply the lines above the fault.
func TestR5BadFile(t *testing.T) {
	r := newRig(t)
	good := r.unit()
	if err := r.apply(good); err != nil {
		t.Fatal(err)
	}
	pid := r.cmd.Process.Pid
	before, _ := os.ReadFile(r.ini())
	for _, bad := range []struct{ settings, words string }{
		{"max_client_conn = 55\npool_mode = pooled", r.ini() + ":"},
		{"max_client_conn = 55\nno_such_setting = 1", "no_such_setting"},
		{"max_client_conn = 55\nserver_login_retry = soon", "server_login_retry"},
		{"max_client_conn = 55\nthis is no setting", "syntax error"},
	} {
		err := r.apply(r.unit(bad.settings))
		var no *plan.Refusal
		if !errors.As(err, &no) || no.Reason != observed.Rejected || !strings.Contains(no.Message, bad.words) || strings.Contains(no.Message, "hushhush") {
			t.Errorf("%q gave %v", bad.settings, err)
		}
		after, _ := os.ReadFile(r.ini())
		if got := r.shows("max_client_conn"); got != "100" || string(after) != string(before) || r.cmd.Process.Pid != pid {
			t.Errorf("%q: max_client_conn %q, file changed: %v", bad.settings, got, string(after) != string(before))
		}
	}
	if left, _ := filepath.Glob(filepath.Join(r.dir, "scratch/*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// trusting lets everything past the throwaway process.
type trusting struct{ *Program }

func (trusting) Validate(context.Context, unit.Staged) error { return nil }

// TestR5HalfApplied: what got past the throwaway process and is not wholly in force
// after RELOAD goes back, the half that is in force with it.
func TestR5HalfApplied(t *testing.T) {
	r := newRig(t)
	if err := r.apply(r.unit()); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(r.ini())
	r.programs[plan.Pooler] = trusting{r.program}
	err := r.apply(r.unit("max_client_conn = 55", "pool_mode = pooled"))
	var no *plan.Refusal
	if !errors.As(err, &no) || no.Reason != observed.RolledBack || !strings.Contains(no.Message, "pool_mode") {
		t.Fatalf("got %v", err)
	}
	after, _ := os.ReadFile(r.ini())
	if got := r.shows("max_client_conn"); got != "100" || string(after) != string(before) {
		t.Errorf("max_client_conn %q after %v, file changed: %v", got, no, string(after) != string(before))
	}
}

func TestPortOfSomebodyElse(t *testing.T) {
	r := newRig(t)
	r.program.o.Free = func(port int, name string) error {
		if port != r.port || name != testUnit {
			t.Errorf("asked about port %d for %s", port, name)
		}
		return &plan.Refusal{Reason: observed.PortInUse, Message: "nginx has it"}
	}
	var no *plan.Refusal
	if err := r.apply(r.unit()); !errors.As(err, &no) || no.Reason != observed.PortInUse {
		t.Errorf("got %v", err)
	}
}

// sinceLater is what the controller renders for later PgBouncers than 1.18 (Debian 12) only.
var sinceLater = regexp.MustCompile(`(?m)^max_prepared_statements = .*\n`)

// TestAcceptsGoldens: the throwaway process takes what the controller renders.
func TestAcceptsGoldens(t *testing.T) {
	files, _ := filepath.Glob("../../controllers/pgbouncer/testdata/*/*.ini")
	if len(files) != 2 {
		t.Fatalf("golden files: %v", files)
	}
	for _, f := range files {
		r := newRig(t)
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		users := filepath.Join(r.dir, "pg.users")
		if err := os.WriteFile(users, []byte("\"pgctrl_pooler\" \"hushhush\"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("pgbouncer", "--version").Output(); err != nil || strings.Contains(string(out), "PgBouncer 1.1") {
			b = sinceLater.ReplaceAll(b, nil)
		}
		ini := filepath.Join(r.dir, "staged.ini")
		if err := os.WriteFile(ini, b, 0o644); err != nil {
			t.Fatal(err)
		}
		u := plan.Unit{Unit: testUnit, Program: plan.Pooler, Files: []plan.File{{Path: "/etc/pgbouncer/pg.ini", Content: string(b)}}}
		s := unit.Staged{Unit: u, Paths: map[string]string{"/etc/pgbouncer/pg.ini": ini, "/etc/pgbouncer/pg-test.users": users}}
		if err := r.program.Validate(context.Background(), s); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

// TestVerifierLetsIn: the list of users may hold what a password is checked against.
func TestVerifierLetsIn(t *testing.T) {
	r := newRig(t)
	u := r.unit()
	u.Files[1].Content += "\"boss\" " + plan.SecretRef("boss", plan.FormatVerifier) + "\n"
	if err := r.apply(u); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(r.dir, "etc/pg.users")); !strings.Contains(string(b), `"boss" "SCRAM-SHA-256$4096:`) {
		t.Errorf("the list is %s", b)
	}
	for password, lets := range map[string]bool{"hushhush": true, "another": false} {
		c := exec.Command("psql", "-X", "-h", "127.0.0.1", "-p", fmt.Sprint(r.port), "-U", "boss", "-d", "app", "-c", "select 1")
		c.Env = []string{"PGPASSWORD=" + password, "PATH=/usr/bin", "PGCONNECT_TIMEOUT=2"}
		out, _ := c.CombinedOutput()
		if refused := strings.Contains(string(out), "authentication failed"); refused == lets {
			t.Errorf("password %s: %s", password, out)
		}
	}
}

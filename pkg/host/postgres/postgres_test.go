package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a real PostgreSQL in a folder of its own, reached the way the agent
// does: as root, through the peer map.
type server struct {
	t        *testing.T
	dir, bin string
	sub      string // data directory below dir
	cfg      Config
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := emptyServer(t)
	s.run("initdb", "-D", s.data(), "--no-sync", "--auth=peer", "-U", "postgres")
	s.write("pg_hba.conf", "local all postgres peer map=pgctrl\nlocal replication postgres peer map=pgctrl\n")
	s.write("pg_ident.conf", "pgctrl postgres postgres\npgctrl root postgres\n")
	s.write("postgresql.auto.conf", s.settings())
	return s
}

func emptyServer(t *testing.T) *server {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		t.Fatal("PostgreSQL is not installed: apt-get install -y --no-install-recommends postgresql-15")
	}
	dir, err := os.MkdirTemp("", "pgw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &server{t: t, dir: dir, sub: "data", bin: filepath.Dir(found[len(found)-1]), cfg: Config{Dir: dir, Port: 5499}}
	s.sh("chown", "postgres", dir)
	return s
}

// replica is a copy of s in the same folder that streams from it through a slot.
func (s *server) replica(slot string) *server {
	s.t.Helper()
	r := *s
	r.sub, r.cfg.Port = "replica", 5498
	s.run("pg_basebackup", "-h", s.dir, "-p", "5499", "-U", "postgres", "-c", "fast", "--no-sync", "-D", r.data())
	r.write("standby.signal", "")
	r.write("postgresql.auto.conf", r.settings()+fmt.Sprintf(
		"primary_conninfo = 'host=%s port=5499 user=postgres'\nprimary_slot_name = '%s'\nwal_retrieve_retry_interval = 100ms\n", s.dir, slot))
	return &r
}

func (s *server) settings() string {
	return fmt.Sprintf("port = %d\nlisten_addresses = ''\nunix_socket_directories = '%s'\nfsync = off\nshared_buffers = 16MB\n", s.cfg.Port, s.dir)
}

func (s *server) data() string { return filepath.Join(s.dir, s.sub) }

func (s *server) sh(name string, args ...string) {
	s.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func (s *server) run(prog string, args ...string) {
	s.t.Helper()
	s.sh("runuser", append([]string{"-u", "postgres", "--", filepath.Join(s.bin, prog)}, args...)...)
}

// write puts a file into the data directory, whole and readable from the first moment:
// a startup process that may not open a history file ends its PostgreSQL.
func (s *server) write(name, content string) {
	s.t.Helper()
	path := filepath.Join(s.data(), name)
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.sh("chown", "postgres", path+".new")
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) start() {
	s.t.Helper()
	s.run("pg_ctl", "-D", s.data(), "-l", filepath.Join(s.dir, s.sub+".log"), "-w", "start")
	s.t.Cleanup(func() {
		_ = exec.Command("runuser", "-u", "postgres", "--", filepath.Join(s.bin, "pg_ctl"), "-D", s.data(), "-m", "immediate", "stop").Run()
	})
}

func (s *server) stop(mode string) { s.run("pg_ctl", "-D", s.data(), "-m", mode, "-w", "stop") }

func (s *server) exec(sql string) {
	s.t.Helper()
	err := s.cfg.withConn(s.t.Context(), func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, sql)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// ask is the answer to a query of one text.
func (s *server) ask(sql string) (answer string) {
	s.t.Helper()
	err := s.cfg.withConn(s.t.Context(), func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, sql).Scan(&answer)
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return answer
}

// watch runs a watcher of s until the test ends.
func (s *server) watch() (*Watcher, *recorder) {
	var r recorder
	w := NewWatcher(s.cfg, r.on, zaptest.NewLogger(s.t))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.Run(ctx) })
	s.t.Cleanup(func() { cancel(); wg.Wait() })
	return w, &r
}

// recorder keeps the changes that a watcher reported.
type recorder struct {
	mu   sync.Mutex
	all  []State
	seen []time.Time
}

func (r *recorder) on(s State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all, r.seen = append(r.all, s), append(r.seen, time.Now())
}

// wait returns the first change from the given place on that ok accepts, and when
// it was reported.
func (r *recorder) wait(t *testing.T, from int, what string, ok func(State) bool) (State, time.Time, int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-time.After(time.Millisecond) {
		r.mu.Lock()
		for i := from; i < len(r.all); i++ {
			if ok(r.all[i]) {
				defer r.mu.Unlock()
				return r.all[i], r.seen[i], i + 1
			}
		}
		r.mu.Unlock()
	}
	t.Fatalf("never seen: %s; changes: %+v", what, r.all)
	return State{}, time.Time{}, 0
}

// TestWatcher follows one PostgreSQL from nothing through standby, promotion, stop
// and crash.
func TestWatcher(t *testing.T) {
	s := newServer(t)
	w, r := s.watch()

	_, _, at := r.wait(t, 0, "not running", func(s State) bool { return !s.Reachable })
	if now, err := w.Now(t.Context()); err != nil || now.Reachable {
		t.Errorf("Now without a server: %+v %v", now, err)
	}

	s.write("standby.signal", "")
	s.start()
	standby, _, at := r.wait(t, at, "a hot standby", func(s State) bool { return s.Reachable })
	if !standby.InRecovery || standby.System == "" || standby.Timeline != 0 || standby.Version < 130000 || standby.TakesWrites() {
		t.Errorf("standby: %+v", standby)
	}
	if now, err := w.Now(t.Context()); err != nil || !now.same(standby) || !now.At.After(standby.At) {
		t.Errorf("Now: %+v %v", now, err)
	}

	w.Poll(true)
	writable := s.watchPromotion()
	s.exec("select pg_promote(false)")
	primary, seen, at := r.wait(t, at, "promotion", State.TakesWrites)
	if primary.Timeline != 2 || primary.System != standby.System {
		t.Errorf("primary: %+v", primary)
	}
	t.Logf("promotion reported %.2f ms after a writer in a tight loop first succeeded", ms(seen.Sub(<-writable)))
	w.Poll(false)

	down := time.Now()
	s.stop("fast")
	_, seen, at = r.wait(t, at, "stop", func(s State) bool { return !s.Reachable })
	t.Logf("stop reported %.1f ms after pg_ctl was called", ms(seen.Sub(down)))

	s.start()
	back, _, at := r.wait(t, at, "start", func(s State) bool { return s.Reachable })
	if back.Timeline != 2 || back.System != primary.System || back.InRecovery {
		t.Errorf("back: %+v", back)
	}
	s.stop("immediate")
	r.wait(t, at, "crash", func(s State) bool { return !s.Reachable })
}

// watchPromotion tries to take a transaction id in a tight loop of its own and
// sends when that first worked, which is the truth the watcher is measured by.
func (s *server) watchPromotion() <-chan time.Time {
	s.t.Helper()
	out := make(chan time.Time, 1)
	ready := make(chan struct{})
	go func() {
		_ = s.cfg.withConn(context.Background(), func(ctx context.Context, c *pgx.Conn) error {
			close(ready)
			for {
				if _, err := c.Exec(ctx, "select pg_current_xact_id()"); err == nil {
					out <- time.Now()
					return nil
				}
			}
		})
	}()
	<-ready
	return out
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// TestFileErrors: what PostgreSQL would not take is told apart from what only
// waits for a restart.
func TestFileErrors(t *testing.T) {
	s := newServer(t)
	s.start()
	loaded, err := s.cfg.LoadedAt(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	check := func(want ...string) {
		t.Helper()
		got, err := s.cfg.FileErrors(t.Context())
		if err != nil || len(got) != len(want) {
			t.Fatalf("%q %v, want %q", got, err, want)
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("%q does not say %q", got[i], want[i])
			}
		}
		t.Log(got)
	}
	check()
	s.exec("alter system set max_connections = 50")
	s.run("pg_ctl", "-D", s.data(), "reload")
	for now := loaded; !now.After(loaded); {
		if now, err = s.cfg.LoadedAt(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	check()
	b, err := os.ReadFile(filepath.Join(s.data(), "postgresql.conf"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("postgresql.conf", string(b)+"work_mem = banana\n")
	s.write("pg_hba.conf", "local all postgres peer map=pgctrl\nhost all all nowhere banana\n")
	check("work_mem", "pg_hba.conf line 2")
}

// TestFileErrorsOfWhatIsGone: a setting that needs a restart and is in no file any more waits
// for that, as those of a recovery do that is over. Of it PostgreSQL names no setting.
func TestFileErrorsOfWhatIsGone(t *testing.T) {
	s := newServer(t)
	auto, err := os.ReadFile(filepath.Join(s.data(), "postgresql.auto.conf"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("postgresql.auto.conf", string(auto)+"recovery_target_time = '2026-03-01 12:00:00+00'\nmax_prepared_transactions = 7\n")
	s.start()
	loaded, err := s.cfg.LoadedAt(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.write("postgresql.auto.conf", string(auto))
	s.run("pg_ctl", "-D", s.data(), "reload")
	for now := loaded; !now.After(loaded); {
		if now, err = s.cfg.LoadedAt(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.cfg.FileErrors(t.Context()); err != nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
}

package haproxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/pgctrl/pgctrl/internal/freeport"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testUnit = "haproxy@pg.service"

// lab is a real HAProxy in master-worker mode before three servers that say who
// they are, each with a check endpoint that says what the test wants.
type lab struct {
	t       *testing.T
	dir     string
	binary  string
	port    int // the read-write service
	servers map[string]*member
	router  *Router
	program *Program
	master  *exec.Cmd
	log     string
}

// member stands for a PostgreSQL and its Patroni.
type member struct {
	name      string
	port      int
	checkPort int
	well      atomic.Bool // what /primary says
}

var memberNames = []string{"m1", "m2", "m3"}

func newLab(t *testing.T) *lab {
	t.Helper()
	binary, err := exec.LookPath("haproxy")
	if err != nil {
		binary = "/usr/sbin/haproxy"
		if _, err := os.Stat(binary); err != nil {
			t.Fatal("haproxy is not installed: apt-get install -y --no-install-recommends haproxy")
		}
	}
	// Socket paths are limited to 108 bytes, which t.TempDir can exceed.
	dir, err := os.MkdirTemp("", "hb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l := &lab{t: t, dir: dir, binary: binary, servers: map[string]*member{}, log: filepath.Join(dir, "log")}
	for _, name := range memberNames {
		l.servers[name] = newMember(t, name)
	}
	l.servers["m1"].well.Store(true)
	l.port = freeport.Take(t)
	l.router = NewRouter(Options{RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Log: zaptest.NewLogger(t)})
	t.Cleanup(l.router.Close)
	l.program = NewProgram(l.router)
	if err := os.MkdirAll(filepath.Join(dir, "run", "pg"), 0o755); err != nil {
		t.Fatal(err)
	}
	l.write(l.config())
	return l
}

func newMember(t *testing.T, name string) *member {
	m := &member{name: name}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.port = ln.Addr().(*net.TCPAddr).Port
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				fmt.Fprintln(c, name)
				_, _ = io.Copy(io.Discard, c)
			})
		}
	})
	check := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !m.well.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	m.checkPort = check.Listener.Addr().(*net.TCPAddr).Port
	t.Cleanup(func() { ln.Close(); conns.Wait(); check.Close() })
	return m
}

func (l *lab) path() string { return filepath.Join(l.dir, "pg.cfg") }

func (l *lab) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, `global
    stats socket %[1]s/run/pg/admin.sock mode 600 level admin expose-fd listeners
    server-state-file %[2]s
    hard-stop-after 60s
defaults
    mode tcp
    load-server-state-from-file global
    timeout connect 250ms
    retries 20
    option redispatch 1
    timeout client 1m
    timeout server 1m
frontend primary
    bind 127.0.0.1:%[3]d
    default_backend primary
backend primary
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 2s fastinter 1s downinter 1s rise 2 fall 3 on-marked-down shutdown-sessions
`, l.dir, l.router.StateFile(testUnit), l.port)
	for _, n := range memberNames {
		m := l.servers[n]
		fmt.Fprintf(&b, "    server %s 127.0.0.1:%d check port %d weight 100\n", n, m.port, m.checkPort)
	}
	b.WriteString("    server _hold 127.0.0.1:1 backup\n")
	b.WriteString("backend replica\n    option httpchk OPTIONS /read-only\n    default-server inter 2s on-marked-down shutdown-sessions\n")
	m := l.servers["m3"]
	fmt.Fprintf(&b, "    server m3 127.0.0.1:%d check port %d weight 100\n", m.port, m.checkPort)
	return b.String()
}

func (l *lab) write(cfg string) {
	l.t.Helper()
	if err := os.WriteFile(l.path(), []byte(cfg), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

// unit is the plan with one member as the confirmed primary; "" is none.
func (l *lab) unit(primary string) plan.Unit {
	routes := ReadRoutes(l.config())
	targets := plan.Targets{"primary": {}, "replica": {"m3": {Held: plan.Leave, Start: plan.Up}}}
	for _, n := range memberNames {
		t := plan.Target{Held: plan.Down, Start: plan.Down}
		if n == primary {
			t = plan.Target{Held: plan.Up, Start: plan.Up}
		}
		targets["primary"][n] = t
	}
	return plan.Unit{Unit: testUnit, Program: "haproxy", Routes: routes, Targets: targets,
		Files: []plan.File{{Path: "/etc/haproxy/pg.cfg"}}}
}

// start runs HAProxy as its unit would, without touching the state file.
func (l *lab) start() {
	l.t.Helper()
	f, err := os.OpenFile(l.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	l.master = exec.Command(l.binary, "-W", "-f", l.path(), "-S", l.router.master(testUnit), "-p", filepath.Join(l.dir, "pid"))
	l.master.Stdout, l.master.Stderr = f, f
	// In a group of its own, so that workers go with it whatever happens.
	l.master.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := l.master.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(l.stop)
}

func (l *lab) stop() {
	if l.master == nil {
		return
	}
	_ = syscall.Kill(-l.master.Process.Pid, syscall.SIGKILL)
	_ = l.master.Wait()
	l.master = nil
	if l.t.Failed() {
		b, _ := os.ReadFile(l.log)
		l.t.Logf("haproxy said:\n%s", b)
	}
}

// up starts HAProxy with a state file and waits until it answers.
func (l *lab) up(u plan.Unit) {
	l.t.Helper()
	must(l.t, l.program.BeforeStart(l.t.Context(), u))
	l.start()
	must(l.t, l.program.Prove(l.t.Context(), u))
}

func (l *lab) states() States {
	l.t.Helper()
	st, err := l.router.States(l.t.Context(), plan.Unit{Unit: testUnit})
	must(l.t, err)
	return st
}

// dial connects through the read-write service and says who answered; "" when
// nobody did.
func (l *lab) dial() (net.Conn, string) {
	return dialName(net.JoinHostPort("127.0.0.1", strconv.Itoa(l.port)))
}

func dialName(addr string) (net.Conn, string) {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return nil, ""
	}
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
	name, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		c.Close()
		return nil, ""
	}
	return c, strings.TrimSpace(name)
}

// sample connects again and again until stop is called, which returns how many
// connections each member got.
func (l *lab) sample() (stop func() map[string]int) {
	ctx, cancel := context.WithCancel(context.Background())
	got := map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				c, name := l.dial()
				if c != nil {
					c.Close()
				} else {
					select { // nobody listens yet: don't burn the processor
					case <-ctx.Done():
					case <-time.After(time.Millisecond):
					}
				}
				mu.Lock()
				got[name]++
				mu.Unlock()
			}
		})
	}
	return func() map[string]int { cancel(); wg.Wait(); return got }
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until polls for a condition.
func until(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// during runs check again and again for a while.
func during(d time.Duration, check func()) {
	for end := time.Now().Add(d); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		check()
	}
}

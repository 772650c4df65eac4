package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/agent/agenttest"
	"github.com/pgctrl/pgctrl/pkg/agent/config"
	"github.com/pgctrl/pgctrl/pkg/host/inventory"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a machine and a command line to use on it.
type bench struct {
	leaver            // nil but in the tests of leave
	t                 *testing.T
	dir               string
	host              *agenttest.Host
	checks            []inventory.CheckResult
	etcd, patroni     error
	written, units    map[string]string
	started           []string
	onStart           func()
	stdout, stderr    string
	settings, socket  string
	stateDir, program string
}

func newBench(t *testing.T) *bench {
	// A socket's path may have 108 bytes, and a test's folder is longer than that.
	dir, err := os.MkdirTemp("", "pgagent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &bench{
		t: t, dir: dir, host: agenttest.New("machine"), written: map[string]string{}, units: map[string]string{},
		settings: filepath.Join(dir, "agent.yaml"), socket: filepath.Join(dir, "sock"), stateDir: filepath.Join(dir, "state"),
		program: "/usr/local/bin/pgagent",
	}
}

// run runs a command line and returns its exit code.
func (b *bench) run(args ...string) int {
	b.t.Helper()
	var out, err bytes.Buffer
	env := map[string]string{"PGAGENT_NODE": "pg1", "PGAGENT_SOCKET": b.socket, "PGAGENT_STATE_DIR": b.stateDir}
	code := run(b.t.Context(), args, Streams{Out: &out, Err: &err, Getenv: func(k string) string { return env[k] }}, b)
	b.stdout, b.stderr = out.String(), err.String()
	return code
}

func (b *bench) wantOut(parts ...string) {
	b.t.Helper()
	for _, p := range parts {
		if !strings.Contains(b.stdout+b.stderr, p) {
			b.t.Errorf("no %q in\n%s%s", p, b.stdout, b.stderr)
		}
	}
}

// keep puts a plan where an agent keeps it.
func (b *bench) keep(p plan.Plan) { b.keepAs("haproxy", p) }

func (b *bench) keepAs(concern string, p plan.Plan) {
	b.t.Helper()
	dir := filepath.Join(b.stateDir, "plans", p.Cluster.Name)
	v, err := json.Marshal(map[string]any{"revision": 7, "plan": p})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, concern+".json"), v, 0o600)); err != nil {
		b.t.Fatal(err)
	}
}

// serve answers on the control socket.
func (b *bench) serve(h http.Handler) {
	b.t.Helper()
	l, err := net.Listen("unix", b.socket)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(serve(l, h, zap.NewNop()))
}

func (b *bench) agent() *agent.Agent {
	b.t.Helper()
	a, err := agent.New(agent.Options{
		Node: "pg1", Version: "test", StateDir: b.stateDir, Host: b.host.Wire(),
		Connect: func(context.Context) (*store.Client, error) { return nil, errors.New("no route to host") },
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

func (b *bench) Program() (string, error) { return b.program, nil }

func (b *bench) Write(path string, content []byte) (bool, error) {
	changed := b.written[path] != string(content)
	b.written[path] = string(content)
	return changed, nil
}

func (b *bench) Install(_ context.Context, unit string, content []byte) (bool, error) {
	changed := b.units[unit] != string(content)
	b.units[unit] = string(content)
	return changed, nil
}

func (b *bench) Start(_ context.Context, unit string, again bool) error {
	verb := "start "
	if again {
		verb = "restart "
	}
	b.started = append(b.started, verb+unit)
	if b.onStart != nil {
		b.onStart()
	}
	return nil
}

func (b *bench) Check(context.Context) []inventory.CheckResult { return b.checks }

func (b *bench) CheckEtcd(context.Context, config.Config) inventory.CheckResult {
	if b.etcd != nil {
		return inventory.CheckResult{Name: "etcd", Detail: b.etcd.Error()}
	}
	return inventory.CheckResult{Name: "etcd", OK: true, Detail: "answers"}
}

func (b *bench) Patroni(plan.Member) (patroni.Status, error) {
	return patroni.Status{State: "running", Role: patroni.Primary, Timeline: 3}, b.patroni
}

func (b *bench) Router(config.Config, *zap.Logger) (agent.Router, func()) {
	return b.host.Wire().Router, func() {}
}

func haproxyPlan() plan.Plan {
	return plan.Plan{
		Schema: plan.Schema, Cluster: plan.Cluster{Name: "pg-test", Member: "pg-test-1", Members: []plan.Member{{Name: "pg-test-1", Node: "pg1", Address: "127.0.0.1", RESTPort: 8008, Port: 5432}}},
		Resources: plan.Resources{plan.Unit{
			Unit: "haproxy@pg-test.service", Program: "haproxy",
			Routes: map[string]plan.Route{"primary": {Role: plan.RoutePrimary, Servers: []plan.RouteServer{{Name: "pg-test-1"}}}},
		}},
	}
}

func TestHAProxyStateWithoutAgentIsConservative(t *testing.T) {
	b := newBench(t)
	if code := b.run("haproxy-state", "pg-test"); code != 1 {
		t.Errorf("exit code %d without a plan", code)
	}
	b.wantOut("no plan for the HAProxy of pg-test is kept")
	b.keep(haproxyPlan())
	if code := b.run("haproxy-state", "pg-test"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.stderr)
	}
	b.wantOut("writing the conservative state")
	if c := b.host.Composed(); len(c) != 1 || c[0].Unit != "haproxy@pg-test.service" || c[0].Targets != nil {
		t.Errorf("composed %+v", c)
	}
}

func TestHAProxyStateAsksTheAgent(t *testing.T) {
	b := newBench(t)
	b.keep(haproxyPlan())
	b.serve(b.agent().Control())
	if code := b.run("haproxy-state", "pg-test"); code != 0 || b.stderr != "" {
		t.Fatalf("exit code %d: %s", code, b.stderr)
	}
	if c := b.host.Composed(); len(c) != 1 {
		t.Errorf("composed %d times", len(c))
	}
}

func TestHAProxyStateDoesNotWaitForAHungAgent(t *testing.T) {
	b := newBench(t)
	b.keep(haproxyPlan())
	hung := make(chan struct{})
	b.serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hung }))
	defer close(hung)
	start := time.Now()
	if code := b.run("haproxy-state", "pg-test"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.stderr)
	}
	if took := time.Since(start); took > 2*askTime {
		t.Errorf("took %s", took)
	}
}

func TestStatus(t *testing.T) {
	b := newBench(t)
	b.keep(haproxyPlan())
	if code := b.run("status"); code != 1 {
		t.Errorf("exit code %d without an agent", code)
	}
	b.wantOut("pg-test", "haproxy  7     kept", "no agent answers", "systemctl status pgagent",
		"PostgreSQL is running, role primary, timeline 3, says its Patroni")
	b.patroni = errors.New("connection refused")
	b.run("status")
	b.wantOut("PostgreSQL does not answer")
	b.serve(b.agent().Control())
	if code := b.run("status"); code != 0 {
		t.Errorf("exit code %d: %s", code, b.stderr)
	}
	b.wantOut("pg1", "pg-test", "not followed yet", "StaleView")
	if strings.Contains(b.stdout, "\x1b") {
		t.Error("colours without a terminal")
	}
	b.run("status", "-o", "json")
	var st agent.Status
	if err := json.Unmarshal([]byte(b.stdout), &st); err != nil || len(st.Clusters) != 1 {
		t.Errorf("%v in %s", err, b.stdout)
	}
}

// TestStatusOfADistrustedStore: also without an agent, from disk.
func TestStatusOfADistrustedStore(t *testing.T) {
	b := newBench(t)
	b.keep(haproxyPlan())
	memory := `{"seen":{"incarnation":"S1","revision":412,"at":"2026-08-01T00:00:00Z"},"distrust":{"incarnation":"S1","why":"etcd went back in time"}}`
	if err := os.WriteFile(filepath.Join(b.stateDir, "store.json"), []byte(memory), 0o600); err != nil {
		t.Fatal(err)
	}
	b.run("status")
	b.wantOut("StoreChanged: etcd went back in time; everything is kept", "next: pgctrl etcd accept", "knows incarnation S1 at revision 412")
}

func TestCheck(t *testing.T) {
	b := newBench(t)
	b.checks = []inventory.CheckResult{
		{Name: "patroni", Next: aptInstall + "patroni", Detail: "not installed"},
		{Name: "haproxy", Next: aptInstall + "haproxy", Detail: "not installed"},
		{Name: "promtail", Next: aptInstall + "promtail", Optional: true},
	}
	if code := b.run("check"); code != 1 {
		t.Errorf("exit code %d with programs missing", code)
	}
	b.wantOut("next:  apt-get install -y patroni haproxy\n")
	b.checks = b.checks[2:]
	if code := b.run("check"); code != 0 {
		t.Errorf("exit code %d with nothing needed missing: %s", code, b.stdout)
	}
}

func TestJoin(t *testing.T) {
	b := newBench(t)
	b.onStart = func() {
		b.onStart = nil
		b.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(agent.Status{Node: "pg1", Speaks: true, Announced: true})
		}))
	}
	args := []string{"join", "--endpoints", "http://10.0.0.1:2379"}
	if code := b.run(args...); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.stderr)
	}
	b.wantOut("joined    node pg1 is announced")
	if f := b.written[config.DefaultFile]; !strings.Contains(f, "endpoints: [http://10.0.0.1:2379]") || strings.Contains(f, "socket") {
		t.Errorf("settings:\n%s", f)
	}
	if u := b.units[agentUnit]; !strings.Contains(u, "ExecStart=/usr/local/bin/pgagent run\n") {
		t.Errorf("unit:\n%s", u)
	}
	if code := b.run(args...); code != 0 || strings.Join(b.started, ", ") != "restart pgagent.service, start pgagent.service" {
		t.Errorf("exit code %d, started %v", code, b.started)
	}
	b.wantOut("unchanged")
}

func TestJoinWithoutEtcdWritesNothing(t *testing.T) {
	b := newBench(t)
	b.etcd = errors.New("connection refused")
	if code := b.run("join"); code != 1 || len(b.written)+len(b.units)+len(b.started) != 0 {
		t.Errorf("exit code %d, wrote %v", code, b.written)
	}
	b.wantOut("Nothing was written")
}

func TestJoinSaysWhyTheNodeIsNotAnnounced(t *testing.T) {
	b := newBench(t)
	b.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(agent.Status{Problem: "node name pg1 is held by the machine x"})
	}))
	if code := b.run("join", "--wait", "200ms"); code != 1 {
		t.Errorf("exit code %d", code)
	}
	b.wantOut("node name pg1 is held by the machine x")
}

func TestOneAgentPerStateDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir); err == nil || !strings.Contains(err.Error(), "another pgagent runs") {
		t.Errorf("a second agent got the directory: %v", err)
	}
	unlock()
	unlock, err = lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestControlSocketIsForRootAlone(t *testing.T) {
	b := newBench(t)
	l, err := listenControl(b.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(b.socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	b := newBench(t)
	for _, c := range (&app{machine: b}).root().Commands() {
		if c.Name() == "config" || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if c.Short == "" || c.Example == "" {
			t.Errorf("%s has no summary or no example", c.Name())
		}
	}
}

package unit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/configs"
	"github.com/pgctrl/pgctrl/pkg/host/systemd/systemdtest"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const unitUnderTest = "haproxy@c.service"

// world is a host with one program whose behaviour its configuration tells.
type world struct {
	t       *testing.T
	dir     string
	systemd *systemdtest.Fake
	secrets map[string]string
	version string
	restart bool
	silent  bool // the running program doesn't answer
	survive time.Duration
	fault   func(step, path string) error
	kill    func() // called at every instruction that a kill could come before

	mu      sync.Mutex
	running string // the content that the running process has loaded
	asked   []string
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, dir: t.TempDir(), restart: true, version: "1", survive: DefaultSurvive,
		secrets: map[string]string{"postgres": "s3cr't"}, kill: func() {},
	}
	w.systemd = &systemdtest.Fake{
		OnStart: w.start,
		OnStop:  func(string) { w.setRunning("") },
		Before:  func(string, string) error { w.kill(); return nil },
	}
	return w
}

func (w *world) file() string { return filepath.Join(w.dir, "etc", "c.cfg") }

func (w *world) unit(content string) plan.Unit {
	return plan.Unit{
		Unit: unitUnderTest, Program: "haproxy",
		Files: []plan.File{
			{Path: w.file(), Mode: "0640", Content: content},
			{Path: w.file() + ".second", Mode: "0644", Content: "second"},
		},
	}
}

func (w *world) driver() *Driver {
	d := New(Options{
		StateDir: filepath.Join(w.dir, "state"), Systemd: w.systemd, Programs: map[string]Program{"haproxy": w},
		Secret: func(name string) ([]byte, bool) {
			v, ok := w.secrets[name]
			return []byte(v), ok
		},
		Templates:  map[string]configs.Template{"haproxy@.service": {Content: []byte("[Service]")}},
		AllowPaths: []string{filepath.Join(w.dir, "etc") + "/"}, AllowUnits: []string{"haproxy@*.service"},
		Version: func(string) string { return w.version }, Survive: w.survive,
		Fault: func(step, path string) error {
			w.kill()
			if w.fault != nil {
				return w.fault(step, path)
			}
			return nil
		},
	})
	d.step = func(string) { w.kill() }
	return d
}

func (w *world) setRunning(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = s
}

func (w *world) getRunning() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running
}

func (w *world) ask(what string) {
	w.kill()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, what)
}

// questions returns what the program was asked since the last call.
func (w *world) questions() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := strings.Join(w.asked, " ")
	w.asked = nil
	return out
}

func (w *world) onDisk() string {
	b, err := os.ReadFile(w.file())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	return string(b)
}

func (w *world) Validate(_ context.Context, s Staged) error {
	w.ask("validate")
	b, err := os.ReadFile(s.Paths[w.file()])
	if err != nil {
		return err
	}
	switch content := string(b); {
	case strings.Contains(content, "rejected"):
		return &plan.Refusal{Reason: observed.Rejected, Message: "haproxy -c: unknown keyword in " + content}
	case strings.Contains(content, "port-taken"):
		return &plan.Refusal{Reason: observed.PortInUse, Message: "port 5433 is held by nginx"}
	case strings.Contains(content, "unaskable"):
		return errors.New("exec haproxy: resource temporarily unavailable")
	}
	return nil
}

func (w *world) BeforeStart(context.Context, plan.Unit) error {
	w.ask("compose")
	return nil
}

func (w *world) start(unit string) error {
	content := w.onDisk()
	if strings.Contains(content, "start-fails") {
		return fmt.Errorf("cannot bind socket")
	}
	w.setRunning(content)
	w.dieOf(content, unit)
	return nil
}

func (w *world) dieOf(content, unit string) {
	if strings.Contains(content, "dies") {
		time.AfterFunc(2*time.Second, func() {
			if w.getRunning() == content {
				w.systemd.Die(unit, strings.Contains(content, "again"), "segmentation fault")
			}
		})
	}
}

func (w *world) Reload(_ context.Context, u plan.Unit) error {
	w.ask("reload")
	content := w.onDisk()
	switch {
	case w.silent:
		return errors.New("connect to master.sock: timeout")
	case strings.Contains(content, "reload-refused"):
		return &plan.Refusal{Reason: observed.Rejected, Message: "show proc: failed 1"}
	case strings.Contains(content, "half-applied"):
		w.setRunning("half of it")
		return nil
	}
	w.setRunning(content)
	w.dieOf(content, u.Unit)
	return nil
}

func (w *world) Prove(context.Context, plan.Unit) error {
	w.ask("prove")
	switch {
	case w.silent:
		return &plan.Refusal{Reason: observed.NotAnswering, Message: "admin.sock: timeout"}
	case w.getRunning() != w.onDisk():
		return &plan.Refusal{Reason: observed.Rejected, Message: "it has something else in force"}
	}
	return nil
}

func (w *world) Restart() bool { return w.restart }

// apply applies content with a fresh driver or the given one.
func (w *world) apply(d *Driver, content string) error {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return d.Apply(ctx, w.unit(content), 1)
}

func (w *world) mustApply(d *Driver, content string) {
	w.t.Helper()
	if err := w.apply(d, content); err != nil {
		w.t.Fatalf("apply %q: %v", content, err)
	}
}

// inForce checks that content is on disk, loaded, and that the unit is as it should be.
func (w *world) inForce(content string) {
	w.t.Helper()
	if got := w.onDisk(); got != content {
		w.t.Errorf("on disk: %q, want %q", got, content)
	}
	if got := w.getRunning(); got != content {
		w.t.Errorf("loaded: %q, want %q", got, content)
	}
	st, err := w.systemd.Status(context.Background(), unitUnderTest)
	if err != nil {
		w.t.Fatal(err)
	}
	if up := content != ""; st.Active() != up || st.Enabled() != up {
		w.t.Errorf("unit: active %v, enabled %v", st.Active(), st.Enabled())
	}
	if left, _ := filepath.Glob(filepath.Join(w.dir, "state", "stage", "*")); len(left) > 0 {
		w.t.Errorf("staged files are left: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(w.dir, "etc", ".*")); len(left) > 0 {
		w.t.Errorf("left beside the files: %v", left)
	}
}

func refusal(t *testing.T, err error, reason observed.Reason) *plan.Refusal {
	t.Helper()
	var r *plan.Refusal
	if !errors.As(err, &r) || r.Reason != reason {
		t.Fatalf("got %v, want %s", err, reason)
	}
	return r
}

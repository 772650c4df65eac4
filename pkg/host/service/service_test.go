package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/unit"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// world is a program that answers, and what was done to it.
type world struct {
	ready   int    // what it answers when it is asked whether it is ready
	mark    int    // how often it took its files
	failed  bool   // it refuses them
	runs    string // LISTEN of the running process
	did     []string
	stopped bool // it has no process
	foreign bool // the port is another program's
	server  *httptest.Server
}

const name = "thing@pg-test.service"

func newWorld(t *testing.T, s Spec) (*world, *Program, plan.Unit) {
	w := &world{ready: http.StatusOK}
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost && w.failed:
			http.Error(rw, "line 3: no such thing", http.StatusInternalServerError)
		case r.Method == http.MethodPost:
			w.did = append(w.did, "post "+r.URL.Path)
		default:
			rw.WriteHeader(w.ready)
		}
	}))
	t.Cleanup(w.server.Close)
	w.runs = strings.TrimPrefix(w.server.URL, "http://")
	s.Port, s.ReadyPath = PortFromEnvironment(ListenVariable), "/ready"
	p := New("thing", s, Options{
		Within: 300 * time.Millisecond,
		Restart: func(context.Context, string) error {
			w.did = append(w.did, "restart")
			return nil
		},
		Hangup: func(context.Context, string) error {
			w.did = append(w.did, "hangup")
			if !w.failed {
				w.mark++
			}
			return nil
		},
		Environment: func(context.Context, string) ([]string, error) {
			if w.stopped {
				return nil, fmt.Errorf("thing: %w", ErrNoProcess)
			}
			return []string{"LISTEN=" + w.runs}, nil
		},
		Free: func(int, string) error {
			if w.foreign {
				return &plan.Refusal{Reason: observed.PortInUse}
			}
			return nil
		},
	})
	return w, p, plan.Unit{Unit: name, Program: "thing", Files: []plan.File{
		{Path: "/etc/thing.env", Content: "# a comment\nLISTEN=\"" + w.runs + "\"\n"},
	}}
}

func (w *world) loaded(context.Context, Get) (Loaded, error) {
	return Loaded{Mark: fmt.Sprint(w.mark), Failed: w.failed}, nil
}

func reason(t *testing.T, err error) observed.Reason {
	t.Helper()
	var no *plan.Refusal
	if err == nil {
		return ""
	}
	if !errors.As(err, &no) {
		t.Fatalf("%v is no refusal", err)
	}
	return no.Reason
}

func TestReload(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		what string
		spec Spec
		set  func(*world)
		did  string
		says observed.Reason
	}{
		{"reads its files at its start only", Spec{Reload: Restart}, nil, "restart", ""},
		{"reads them again", Spec{Reload: Hangup}, nil, "hangup", ""},
		{"was started with other settings", Spec{Reload: Hangup}, func(w *world) { w.runs = "localhost:1" }, "restart", ""},
		{"is asked", Spec{Reload: Post, ReloadPath: "/reload"}, nil, "post /reload", ""},
		{"is asked and says no", Spec{Reload: Post, ReloadPath: "/reload"}, func(w *world) { w.failed = true }, "", observed.Rejected},
	} {
		w, p, u := newWorld(t, c.spec)
		if c.set != nil {
			c.set(w)
		}
		if got := reason(t, p.Reload(ctx, u)); got != c.says || strings.Join(w.did, " ") != c.did {
			t.Errorf("%s: did %v, refused by %q, want %s, %q", c.what, w.did, got, c.did, c.says)
		}
	}
}

func TestProve(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		what  string
		set   func(*world)
		after func(*world) // between the reload and the proof
		says  observed.Reason
	}{
		{"all is well", nil, nil, ""},
		{"it is not ready", nil, func(w *world) { w.ready = http.StatusServiceUnavailable }, observed.NotAnswering},
		{"it is not there", nil, func(w *world) { w.server.Close() }, observed.NotAnswering},
		{"another program answers", nil, func(w *world) { w.foreign = true }, observed.PortInUse},
		{"it runs with what was before", nil, func(w *world) { w.runs = "localhost:1" }, observed.NotAnswering},
		{"it has not read its files", nil, func(w *world) { w.mark = 0 }, observed.NotAnswering},
		{"it refuses its files", nil, func(w *world) { w.failed = true }, observed.Rejected},
		{"it refuses its files again", func(w *world) { w.failed = true }, nil, observed.Rejected},
		{"it takes files after others that it refused", func(w *world) { w.failed = true }, func(w *world) { w.failed, w.mark = false, 1 }, ""},
	} {
		w, p, u := newWorld(t, Spec{Reload: Hangup})
		p.spec.Loaded = w.loaded
		if c.set != nil {
			c.set(w)
		}
		if err := p.Reload(ctx, u); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		if c.after != nil {
			c.after(w)
		}
		if got := reason(t, p.Prove(ctx, u)); got != c.says {
			t.Errorf("%s: refused by %q, want %q", c.what, got, c.says)
		}
	}
}

// TestProveWithoutReload: after a start, and by an agent that was killed after it had told
// the program.
func TestProveWithoutReload(t *testing.T) {
	w, p, u := newWorld(t, Spec{Reload: Hangup})
	p.spec.Loaded = w.loaded
	if err := p.Prove(context.Background(), u); err != nil {
		t.Error(err)
	}
}

// TestProveDoesNotWaitForTheDead: whoever stopped the unit again is answered by its repair.
func TestProveDoesNotWaitForTheDead(t *testing.T) {
	w, p, u := newWorld(t, Spec{Reload: Restart, Within: time.Minute})
	w.server.Close()
	w.stopped = true
	start := time.Now()
	if got := reason(t, p.Prove(context.Background(), u)); got != observed.NotAnswering || time.Since(start) > 10*time.Second {
		t.Errorf("refused by %q after %s", got, time.Since(start))
	}
}

func TestMissingProgram(t *testing.T) {
	_, p, u := newWorld(t, Spec{Package: "things", Binary: "/no/such/thing"})
	if got := reason(t, p.BeforeStart(context.Background(), u)); got != observed.MissingProgram {
		t.Errorf("it is started: %q", got)
	}
	if got := reason(t, p.Validate(context.Background(), unit.Staged{Unit: u})); got != observed.MissingProgram {
		t.Errorf("it is valid: %q", got)
	}
}

// TestChecksPromtool: what promtool says of staged files, about their own places.
func TestChecksPromtool(t *testing.T) {
	const config, rules = PrometheusDir + "/prometheus.yml", RulesDir + "/pgctrl.yml"
	for _, c := range []struct{ what, config, rules, says string }{
		{"both good", "global: {scrape_interval: 10s}\n", "groups: []\n", ""},
		{"configuration", "global: {scrape_intervall: 10s}\n", "groups: []\n", "parsing YAML file " + config + ": yaml: unmarshal errors"},
		{"rules", "global: {scrape_interval: 10s}\n", "groups: [{name: a, rules: [{alert: b, expr: up ==== 0}]}]\n", "promtool: " + rules + ": 1:45: group \"a\", rule 1, \"b\": could not parse expression"},
	} {
		dir := t.TempDir()
		s := unit.Staged{Dir: dir, Paths: map[string]string{}, Unit: plan.Unit{
			Unit: "pgctrl-prometheus.service", Program: "prometheus", Files: []plan.File{
				{Path: PrometheusDir + "/prometheus.env", Content: "LISTEN=:9090\n"},
				{Path: config, Content: c.config}, {Path: rules, Content: c.rules},
			},
		}}
		for _, f := range s.Unit.Files {
			s.Paths[f.Path] = filepath.Join(dir, filepath.Base(f.Path))
			if err := os.WriteFile(s.Paths[f.Path], []byte(f.Content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := New("prometheus", Specs["prometheus"], Options{}).Validate(context.Background(), s)
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.says != "" && (reason(t, err) != observed.Rejected || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %v, want %s", c.what, err, c.says)
		}
	}
}

func TestMissingChecker(t *testing.T) {
	s := Specs["prometheus"]
	s.Checks = []Check{{Pattern: "/x", Command: []string{"no-such-promtool"}}}
	err := New("prometheus", s, Options{}).Validate(context.Background(), unit.Staged{
		Unit: plan.Unit{Files: []plan.File{{Path: "/x"}}}, Paths: map[string]string{"/x": "/dev/null"},
	})
	var no *plan.Refusal
	if !errors.As(err, &no) || no.Reason != observed.MissingProgram || !strings.HasSuffix(no.Next, " prometheus") {
		t.Errorf("%v", err)
	}
}

func TestPort(t *testing.T) {
	for content, want := range map[string]string{
		"LISTEN=:9630\n": "9630", "LISTEN=\"[::1]:1\"\n": "1", "": "no file sets LISTEN", "LISTEN=9630": "expected an address", "LISTEN=:0": "expected a port",
	} {
		n, err := PortFromEnvironment(ListenVariable)(plan.Unit{Files: []plan.File{{Path: "/a.env", Content: content}}})
		if got := fmt.Sprint(n, err); !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %s", content, got, want)
		}
	}
	if n, err := PortFromLine("http_listen_port")(plan.Unit{Files: []plan.File{{Path: "/p.yml", Content: "server:\n  http_listen_port: 9080\n"}}}); n != 9080 || err != nil {
		t.Error(n, err)
	}
}

// TestPrometheusSaysWhatItHas: the real one.
func TestPrometheusSaysWhatItHas(t *testing.T) {
	w := startPrometheus(t)
	w.put(t, "global: {scrape_interval: 9s}\n")
	if err := w.apply(); err != nil {
		t.Errorf("a good file: %v", err)
	}
	w.put(t, "global: {scrape_intervall: 9s}\n")
	if err := w.apply(); reason(t, err) != observed.Rejected {
		t.Errorf("a bad file: %v", err)
	}
	if err := w.apply(); reason(t, err) != observed.Rejected {
		t.Errorf("a bad file once more: %v", err)
	}
	w.put(t, "global: {scrape_interval: 8s}\n")
	if err := w.apply(); err != nil {
		t.Errorf("a good file after it: %v", err)
	}
}

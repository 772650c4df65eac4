package patroni

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/pgctrl/pgctrl/pkg/host/patroni/patronitest"
	"github.com/pgctrl/pgctrl/pkg/host/postgres"
	"github.com/pgctrl/pgctrl/pkg/host/unit"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		http.DefaultClient.CloseIdleConnections()
		os.Exit(code)
	}), goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

// binDirForTest is where the newest installed PostgreSQL has its programs.
func binDirForTest(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		t.Fatal("PostgreSQL is not installed: apt-get install -y --no-install-recommends postgresql-15")
	}
	return filepath.Dir(found[len(found)-1])
}

const template = `scope: 'pg'
namespace: '/pg/'
name: 'pg-1'
restapi:
  listen: '127.0.0.1:8008'
  connect_address: '10.0.0.1:8008'
  authentication:
    username: patroni
    password: 'secret'
  http_extra_headers:
    X-Pgctrl-Config: 'one'
etcd3:
  protocol: http
  hosts:
  - '10.0.0.9:2379'
bootstrap:
  dcs:
    ttl: 30
    postgresql:
      use_slots: true
      parameters:
        max_connections: 100
  initdb:
  - encoding: UTF8
  - data-checksums
postgresql:
  listen: '*:5432'
  connect_address: '10.0.0.1:5432'
  bin_dir: BINDIR
  data_dir: /var/lib/postgresql/15/pg
  authentication:
    superuser: {username: postgres, password: 'top secret'}
    replication: {username: replicator, password: 'x'}
  parameters:
    unix_socket_directories: /var/run/postgresql
  pg_hba:
  - local all postgres peer map=pgctrl
tags:
  nofailover: false
  offline: true
`

func config(t *testing.T, swaps ...string) string {
	t.Helper()
	swaps = append(swaps, "BINDIR", binDirForTest(t))
	out := template
	for i := 0; i < len(swaps); i += 2 {
		if !strings.Contains(out, swaps[i]) {
			t.Fatalf("the template has no %q", swaps[i])
		}
		out = strings.ReplaceAll(out, swaps[i], swaps[i+1])
	}
	return out
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pg.yml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func refusal(t *testing.T, err error, reason observed.Reason, words ...string) {
	t.Helper()
	var r *plan.Refusal
	if !errors.As(err, &r) || r.Reason != reason {
		t.Fatalf("%v, not a refusal with reason %s", err, reason)
	}
	for _, w := range words {
		if !strings.Contains(r.Message, w) {
			t.Errorf("message %q does not say %q", r.Message, w)
		}
	}
	t.Log(r)
}

func TestCompare(t *testing.T) {
	type m = map[string]any
	for _, c := range []struct {
		name            string
		present, wanted m
		diff            int
		patch           m
	}{
		{"nothing wanted", m{"ttl": 30}, nil, 0, m{}},
		{"equal as text", m{"ttl": "30", "b": true}, m{"ttl": 30, "b": true}, 0, m{}},
		{"a decoded plan has floats", m{"lag": 1048576}, m{"lag": float64(1048576)}, 0, m{}},
		{"true is not the text true", m{"b": "true"}, m{"b": true}, 1, m{"b": true}},
		{"float and int differ to Python", m{"f": 1}, m{"f": 1.5}, 1, m{"f": 1.5}},
		{"added", m{}, m{"ttl": 30}, 1, m{"ttl": 30}},
		{"gone already", m{}, m{"x": nil, "pg": m{"p": m{"y": nil}}}, 0, m{}},
		{"gone", m{"pg": m{"x": 1, "y": 2}}, m{"pg": m{"x": nil}}, 1, m{"pg": m{"x": nil}}},
		{"deep", m{"pg": m{"x": 1, "y": 2}}, m{"pg": m{"x": 1, "y": 3}}, 1, m{"pg": m{"y": 3}}},
		{"no null under a new mapping", m{}, m{"pg": m{"x": nil, "y": 3}}, 1, m{"pg": m{"y": 3}}},
		{"a mapping in place of a value", m{"pg": 1}, m{"pg": m{"x": nil, "y": m{"z": 1, "q": nil}}}, 1, m{"pg": m{"y": m{"z": 1}}}},
		{"lists", m{"l": []any{"a", 1}}, m{"l": []any{"a", 1.0}}, 0, m{}},
		{"other lists", m{"l": []any{"a"}}, m{"l": []any{"b"}}, 1, m{"l": []any{"b"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			present := normal(c.present).(map[string]any)
			diff, patch := compare(present, c.wanted)
			if len(diff) != c.diff {
				t.Errorf("%d differences: %s", len(diff), diff)
			}
			if d := cmp.Diff(normal(c.patch), normal(patch)); d != "" {
				t.Error(d)
			}
			// What is merged differs no more.
			if left, _ := compare(merged(present, patch), c.wanted); !left.Empty() {
				t.Errorf("after the patch: %s", left)
			}
		})
	}
}

func TestDriver(t *testing.T) {
	fake := patronitest.New("pg", "pg-1")
	defer fake.Close()
	d := NewDriver(DriverOptions{ConfigPath: write(t, config(t, "127.0.0.1:8008", fake.Addr()))})
	r := plan.Patroni{Patroni: "pg", Config: map[string]any{"ttl": 40, "maximum_lag_on_failover": 1048576,
		"postgresql": map[string]any{"parameters": map[string]any{"work_mem": "64MB", "gone": nil}}}}
	diff, err := d.Diff(t.Context(), r)
	if err != nil || len(diff) != 2 {
		t.Fatalf("%q %v", diff, err)
	}
	t.Log(diff)
	if err := d.Apply(t.Context(), r, 7); err != nil {
		t.Fatal(err)
	}
	if diff, err := d.Diff(t.Context(), r); err != nil || !diff.Empty() {
		t.Fatalf("%q %v", diff, err)
	}
	if err := d.Apply(t.Context(), r, 7); err != nil || len(fake.Patches()) != 1 {
		t.Errorf("applied again: %v, %d patches", err, len(fake.Patches()))
	}
	if err := d.Apply(t.Context(), r, 6); !errors.Is(err, plan.ErrStale) {
		t.Errorf("an earlier epoch: %v", err)
	}

	with := func(path string, value any) plan.Patroni {
		c := map[string]any{path: value}
		if path != "ttl" && path != "tll" {
			c = map[string]any{"postgresql": map[string]any{"parameters": c}}
		}
		return plan.Patroni{Patroni: "pg", Config: c}
	}
	for _, bad := range []struct {
		r    plan.Patroni
		word string
	}{
		{with("ttl", "soon"), "ttl: soon is not a whole number"},
		{with("ttl", 25), "less than loop_wait"},
		{with("tll", 40), "knows no such setting"},
		{with("max_connections", 5), "25"},
		{with("work_mem", "banana"), `invalid value for parameter "work_mem": "banana"`},
		{with("wrok_mem", "64MB"), `unrecognized configuration parameter "wrok_mem"`},
		{with("include", "/etc/shadow"), "not the name of a parameter"},
	} {
		refusal(t, d.Apply(t.Context(), bad.r, 7), observed.Rejected, bad.word)
	}
	if n := len(fake.Patches()); n != 1 {
		t.Errorf("%d patches: a refused one was written", n)
	}
	fake.SetStatus(map[string]any{"pending_restart": true})
	if pending, err := d.Pending(t.Context()); err != nil || !pending {
		t.Errorf("pending %v %v", pending, err)
	}
	fake.Refuse(http.StatusServiceUnavailable)
	refusal(t, d.Apply(t.Context(), with("ttl", 50), 8), observed.NotAnswering)
	fake.Refuse(0)
	fake.Password = "other"
	refusal(t, d.Apply(t.Context(), with("ttl", 50), 8), observed.ApplyFailed, "password")
	if _, err := d.Diff(t.Context(), plan.Patroni{Patroni: "other"}); err == nil {
		t.Error("another scope's configuration was compared")
	}
	if err := d.Remove(t.Context(), r, 9); err != nil || fake.Config()["ttl"] != float64(40) {
		t.Errorf("Remove: %v, %v", err, fake.Config())
	}
}

func TestValidate(t *testing.T) {
	p := NewProgram(Options{})
	validate := func(content string) error {
		u := plan.Unit{Unit: "patroni@pg.service", Files: []plan.File{{Path: "/etc/patroni/pg.yml"}}}
		return p.Validate(t.Context(), unit.Staged{Unit: u, Paths: map[string]string{"/etc/patroni/pg.yml": write(t, content)}})
	}
	if err := validate(config(t)); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{
		{"scope: 'pg'\n", "", "scope: is missing"},
		{"scope: 'pg'", "scope: 'pg'\nscope: x", "not YAML"},
		{"restapi:", "resttapi:", "resttapi: Patroni knows no such setting"},
		{"'127.0.0.1:8008'", "'127.0.0.1'", "restapi.listen"},
		{"'10.0.0.1:5432'", "'127.0.0.1:5432'", "others can't reach this member"},
		{"ttl: 30", "ttl: 20", "bootstrap.dcs.ttl: 20 is less than loop_wait"},
		{"ttl: 30", "ttl: soon", "bootstrap.dcs.ttl: soon is not a whole number"},
		{"max_connections: 100", "max_connections: 100\n        work_mem: banana", "work_mem"},
		{"unix_socket_directories: /var/run/postgresql", "nosuch: 1", "nosuch"},
		{"- local all postgres peer map=pgctrl", "- {a: b}", "pg_hba: entry 1"},
		{"nofailover: false", "nofailover: maybe", "tags.nofailover"},
		{"data_dir: /var/lib/postgresql/15/pg", "data_dir: pg", "absolute"},
		{"  hosts:\n  - '10.0.0.9:2379'", "  hosts: []", "etcd3.hosts: is empty"},
	} {
		refusal(t, validate(config(t, c[0], c[1])), observed.Rejected, "/etc/patroni/pg.yml: ", c[2])
	}
	err := validate(config(t, "'top secret'", "{a: top secret}"))
	refusal(t, err, observed.Rejected, "password: is not text")
	if strings.Contains(err.Error(), "top secret") {
		t.Error("a secret in a message")
	}
	refusal(t, validate(strings.ReplaceAll(config(t), binDirForTest(t), "/usr/lib/postgresql/99/bin")), observed.MissingProgram)
	missing := NewProgram(Options{Binary: "patroni-that-is-not-there"})
	refusal(t, missing.Validate(t.Context(), unit.Staged{}), observed.MissingProgram)
}

// fakePostgres is a PostgreSQL that was reloaded and has mistakes in its files.
type fakePostgres struct {
	mu     sync.Mutex
	loaded time.Time
	errors []string
}

func (f *fakePostgres) LoadedAt(context.Context) (time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.loaded, nil
}

func (f *fakePostgres) FileErrors(context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.errors, nil
}

func (f *fakePostgres) reload(errors ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loaded, f.errors = f.loaded.Add(time.Second), errors
}

func TestReloadAndProve(t *testing.T) {
	fake := patronitest.New("pg", "pg-1")
	defer fake.Close()
	pg := &fakePostgres{loaded: time.Now(), errors: []string{"pg_hba.conf line 3: old mistake"}}
	hups := 0
	p := NewProgram(Options{
		Postgres: func(postgres.Config) Server { return pg },
		Hup:      func(context.Context, string) error { hups++; return nil },
		Journal: func(context.Context, string, int) string {
			return "Traceback (most recent call last):\n  File\nyaml.Error: bad\n"
		},
		ProveWithin: 2 * time.Second, Settle: 200 * time.Millisecond, Log: zaptest.NewLogger(t),
	})
	path := write(t, config(t, "127.0.0.1:8008", fake.Addr()))
	u := plan.Unit{Unit: "patroni@pg.service", Files: []plan.File{{Path: path}}}
	reload := func(on func(*patronitest.Server)) error {
		fake.OnReload = on
		if err := p.Reload(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		return p.Prove(t.Context(), u)
	}
	takes := func(s *patronitest.Server) {
		s.SetHeader("X-Pgctrl-Config", "one")
		s.SetStatus(map[string]any{"tags": map[string]any{"offline": true}})
	}

	// Patroni read nothing, but had PostgreSQL reload.
	refusal(t, reload(func(*patronitest.Server) { pg.reload(pg.errors...) }), observed.Rejected, "header X-Pgctrl-Config", "tag offline", "yaml.Error: bad")
	// Nothing happened at all.
	refusal(t, reload(func(*patronitest.Server) {}), observed.NotAnswering)
	// It took the file.
	if err := reload(func(s *patronitest.Server) { takes(s); pg.reload("pg_hba.conf line 4: old mistake") }); err != nil {
		t.Fatal(err)
	}
	// It took the file, and PostgreSQL can't read a new line.
	refusal(t, reload(func(*patronitest.Server) {
		pg.reload("pg_hba.conf line 4: old mistake", "pg_hba.conf line 9: new mistake")
	}), observed.Rejected, "new mistake")
	if reloads, wakes := fake.Counts(); reloads != 4 || wakes != 4 || hups != 0 {
		t.Errorf("%d reloads, %d wakes, %d hups", reloads, wakes, hups)
	}
	// The password changed: the running Patroni does not know it, so systemd tells it.
	fake.Password = "old"
	if err := p.Reload(t.Context(), u); err != nil || hups != 1 {
		t.Errorf("%v, %d hups", err, hups)
	}
	// Without a reload before it, what Patroni shows is the proof.
	p = NewProgram(Options{Postgres: func(postgres.Config) Server { return pg }, ProveWithin: time.Second})
	if err := p.Prove(t.Context(), u); err != nil {
		t.Error(err)
	}
	if p.Restart() {
		t.Error("a stopped Patroni is nobody's to start but people's and operations'")
	}
	fake.Close()
	refusal(t, p.Prove(t.Context(), u), observed.NotAnswering)
	refusal(t, p.Reload(t.Context(), u), observed.NotAnswering)
}

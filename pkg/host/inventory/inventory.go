// Package inventory says what a host has: programs and their versions, who holds
// which port, and what the distribution started by itself. Takeover makes room
// for what a plan needs: what is empty or default is stopped and disabled, what
// holds somebody's data is refused and never touched.
package inventory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Systemd is what taking over needs of it.
type Systemd interface {
	Status(ctx context.Context, unit string) (systemd.State, error)
	Stop(ctx context.Context, unit string) error
	Start(ctx context.Context, unit string) error
	Enable(ctx context.Context, unit string) error
	Disable(ctx context.Context, unit string) error
	DaemonReload(ctx context.Context) error
}

// Host is this machine. The fields are for tests.
type Host struct {
	// Root is put before every path that is read or written; empty is the machine.
	Root    string
	Systemd Systemd
	// Record is the file that says what was taken over, and how it was before; GiveBack
	// reads it. Empty: nothing is recorded.
	Record string
	// Run runs a program and returns what it printed, standard error included.
	Run func(ctx context.Context, name string, args ...string) ([]byte, error)

	mu    sync.Mutex
	known map[string]version // by binary
}

type version struct {
	text  string
	mtime time.Time
	size  int64
}

// New returns this machine.
func New(s Systemd) *Host { return &Host{Systemd: s, Run: run} }

// runTimeout bounds one version question or one look into a database. Patroni
// needs a second on a small machine.
const runTimeout = 20 * time.Second

func run(ctx context.Context, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "/" // the agent's own folder may be closed to the user that psql runs as
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	return cmd.CombinedOutput()
}

func (h *Host) path(p string) string { return filepath.Join("/", h.Root, p) }

// MachineID tells this machine from every other one.
func (h *Host) MachineID() (string, error) {
	b, err := os.ReadFile(h.path("/etc/machine-id"))
	if err != nil {
		return "", fmt.Errorf("read machine id: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if id == "" || id == "uninitialized" {
		return "", errors.New("read machine id: /etc/machine-id is not initialised; run systemd-machine-id-setup")
	}
	return id, nil
}

// program is a program of the stack.
type program struct {
	name, binary string
	pkg          string // empty: the distribution has none
	args         []string
}

// grafana says where programs come from that Debian has not.
const grafana = "   (from Grafana's archive, apt.grafana.com: docs/LOGS.md)"

// programs are those that the stack uses, in the order that `pgagent check` shows.
var programs = []program{
	{"patroni", "/usr/bin/patroni", "patroni", []string{"--version"}},
	{"haproxy", "/usr/sbin/haproxy", "haproxy", []string{"-v"}},
	{"pgbouncer", "/usr/sbin/pgbouncer", "pgbouncer", []string{"--version"}},
	{"pgbackrest", "/usr/bin/pgbackrest", "pgbackrest", []string{"version"}},
	{"dnsmasq", "/usr/sbin/dnsmasq", "dnsmasq", []string{"--version"}},
	{"prometheus", "/usr/bin/prometheus", "prometheus", []string{"--version"}},
	{"postgres_exporter", "/usr/bin/prometheus-postgres-exporter", "prometheus-postgres-exporter", []string{"--version"}},
	{"promtail", "/usr/bin/promtail", "promtail" + grafana, []string{"--version"}},
	{"loki", "/usr/bin/loki", "loki" + grafana, []string{"--version"}},
}

// number is the first thing in a program's answer that looks like a version.
var number = regexp.MustCompile(`\d+(\.\d+)+`)

// postgresGlob is where Debian and its kin install PostgreSQL's major versions
// side by side.
const postgresGlob = "/usr/lib/postgresql/*/bin/postgres"

// Programs returns what is installed: versions by name, and PostgreSQL's major
// versions, ascending. A program is asked once and again when its binary changed.
func (h *Host) Programs(ctx context.Context) (map[string]string, []int, error) {
	ask := slices.Clone(programs)
	found, err := filepath.Glob(h.path(postgresGlob))
	if err != nil {
		return nil, nil, fmt.Errorf("look for postgresql: %w", err)
	}
	var majors []int
	for _, bin := range found {
		major, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(bin))))
		if err != nil {
			continue // 9.6 and its like are not supported
		}
		majors = append(majors, major)
		ask = append(ask, program{postgresName(major), fmt.Sprintf("/usr/lib/postgresql/%d/bin/postgres", major), "", []string{"--version"}})
	}
	slices.Sort(majors)
	out := map[string]string{}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2) // Python programs take a core each
	for _, p := range ask {
		g.Go(func() error {
			v, ok := h.version(ctx, p)
			mu.Lock()
			defer mu.Unlock()
			if ok {
				out[p.name] = v
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, fmt.Errorf("ask programs for their versions: %w", err)
	}
	return out, majors, nil
}

func postgresName(major int) string { return "postgresql-" + strconv.Itoa(major) }

// version asks one program. One that is there and won't say is "unknown".
func (h *Host) version(ctx context.Context, p program) (string, bool) {
	info, err := os.Stat(h.path(p.binary))
	if err != nil || info.IsDir() {
		return "", false
	}
	h.mu.Lock()
	v, ok := h.known[p.binary]
	h.mu.Unlock()
	if ok && v.mtime.Equal(info.ModTime()) && v.size == info.Size() {
		return v.text, true
	}
	v = version{mtime: info.ModTime(), size: info.Size()}
	out, err := h.Run(ctx, p.binary, p.args...)
	if v.text = number.FindString(string(out)); v.text == "" {
		return "unknown", true // not kept: a timeout should not last
	}
	if err != nil {
		return v.text, true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known == nil {
		h.known = map[string]version{}
	}
	h.known[p.binary] = v
	return v.text, true
}

// Version returns one program's version; empty when it is not installed.
func (h *Host) Version(ctx context.Context, name string) string {
	p, ok := find(name)
	if !ok {
		return ""
	}
	v, _ := h.version(ctx, p)
	return v
}

// Missing reports whether a program is absent, and the command that installs it;
// the command is empty when the distribution has no package.
// Names are those of Programs; "postgresql-15" is a major version.
func (h *Host) Missing(name string) (install string, missing bool) {
	p, ok := find(name)
	if !ok {
		return "", true
	}
	if _, err := os.Stat(h.path(p.binary)); err == nil {
		return "", false
	}
	if p.pkg == "" {
		return "", true
	}
	return "apt-get install -y " + p.pkg, true
}

// Require returns a refusal that names the missing program and how to install it,
// or nil.
func (h *Host) Require(name string) error {
	install, missing := h.Missing(name)
	if !missing {
		return nil
	}
	return &plan.Refusal{Reason: observed.MissingProgram, Message: name + " is not installed on this node", Next: install}
}

func find(name string) (program, bool) {
	for _, p := range programs {
		if p.name == name {
			return p, true
		}
	}
	if major, ok := strings.CutPrefix(name, "postgresql-"); ok {
		if _, err := strconv.Atoi(major); err == nil {
			return program{name, "/usr/lib/postgresql/" + major + "/bin/postgres", name, []string{"--version"}}, true
		}
	}
	return program{}, false
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

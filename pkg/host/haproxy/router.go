package haproxy

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Options says where things are. The zero value of a field is its default.
type Options struct {
	// Binary is the program to validate with; looked up in PATH and /usr/sbin.
	Binary string
	// RunDir holds a folder per cluster with admin.sock and master.sock.
	RunDir string
	// StateDir holds a server-state file per cluster.
	StateDir string
	// ProveWithin bounds how long a reload may take to show in `show proc`. Loading
	// takes well below a second; a loaded two-core host was seen to need three.
	ProveWithin time.Duration
	// Journal returns the last lines of a unit, for messages; may be nil.
	Journal func(ctx context.Context, unit string, lines int) string
	Log     *zap.Logger
}

// The defaults of Options.
const (
	DefaultRunDir      = "/run/haproxy-pgctrl"
	DefaultStateDir    = "/var/lib/pgagent/haproxy"
	DefaultProveWithin = 10 * time.Second
)

// Router makes running HAProxies follow targets. Its methods may be called at the
// same time; those for one unit wait for one another.
type Router struct {
	o Options

	mu    sync.Mutex
	units map[string]*unitState
	// claims are the ports that units were found free and have not all bound yet.
	claims claims

	// cuts counts the background work that ends sessions in old workers.
	cuts sync.WaitGroup
	stop context.CancelFunc
	life context.Context
}

// unitState is what the router remembers of one HAProxy. Losing it costs one
// superfluous edge.
type unitState struct {
	mu sync.Mutex
	// targets is what was asked for last; written is the state file's content.
	targets plan.Targets
	written string
	// before is `show proc` as it was when a reload began.
	before *proc
	// edge: the next Assert is an edge, whatever its caller says.
	edge bool
	// cut ends the work of the last edge on old workers.
	cut context.CancelFunc
	// last is what the servers were doing at the last Assert; nil when that is not known.
	last States
	// read is what parsed was last read from.
	read   string
	parsed States
	// contested is what Contested says.
	contested bool
	// undone is what was set by hand and put back, until Repairs is asked.
	undone []Hand
}

// NewRouter makes a router. Close ends what it does in the background.
func NewRouter(o Options) *Router {
	if o.RunDir == "" {
		o.RunDir = DefaultRunDir
	}
	if o.StateDir == "" {
		o.StateDir = DefaultStateDir
	}
	if o.ProveWithin == 0 {
		o.ProveWithin = DefaultProveWithin
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	r := &Router{o: o, units: map[string]*unitState{}}
	r.life, r.stop = context.WithCancel(context.Background())
	return r
}

// Close ends the background work and waits for it. Nothing on the host changes.
func (r *Router) Close() {
	r.stop()
	r.cuts.Wait()
}

// cluster is the instance name of a template unit: "pg" of "haproxy@pg.service".
func cluster(unit string) string {
	_, name, ok := strings.Cut(strings.TrimSuffix(unit, ".service"), "@")
	if !ok {
		return strings.TrimSuffix(unit, ".service")
	}
	return name
}

func (r *Router) admin(unit string) string {
	return filepath.Join(r.o.RunDir, cluster(unit), "admin.sock")
}

func (r *Router) master(unit string) string {
	return filepath.Join(r.o.RunDir, cluster(unit), "master.sock")
}

// StateFile is where the server-state file of a unit is.
func (r *Router) StateFile(unit string) string {
	return filepath.Join(r.o.StateDir, cluster(unit)+".state")
}

func (r *Router) unit(name string) *unitState {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.units[name]
	if u == nil {
		u = &unitState{edge: true}
		r.units[name] = u
	}
	return u
}

// parse is parseStates for one that mostly reads the same again. The answer is shared.
func (u *unitState) parse(text string) (States, error) {
	if u.parsed != nil && sameStates(u.read, text) {
		return u.parsed, nil
	}
	s, err := parseStates(text)
	u.read, u.parsed = text, s
	return s, err
}

// States reads what the running worker does with each server.
func (r *Router) States(ctx context.Context, unit plan.Unit) (States, error) {
	text, err := ask(ctx, r.admin(unit.Unit), "show servers state")
	if err != nil {
		return nil, fmt.Errorf("read servers of %s: %w", unit.Unit, err)
	}
	return parseStates(text)
}

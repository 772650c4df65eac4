// Package unit makes systemd units so: the unit, the files that only it reads and
// what it takes for the program to work with them are one transaction (R5), in
// force as a whole or not at all.
//
//	stage -> validate -> journal -> swap files -> tell (start or reload) -> prove -> survive -> journal
//
// Before the swap, a refusal changes nothing. After it, everything goes back as it
// was: files, whether the unit ran, whether it was enabled. The refused content is
// remembered with the program's words and not tried again until the content or
// the program's version changes. Two exceptions: content that replaced nothing
// (nothing can be harmed), and a first death (somebody's kill -9 looks the same).
//
// A unit's journal is one file, replaced atomically before each step that could
// not be told from its outcome alone. An agent that is killed anywhere reads it at
// its next Apply and finishes: forward when the same content is still wanted,
// back when it is not.
package unit

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/configs"
	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Defaults.
const (
	// DefaultSurvive is how long new content must live before it counts: a program
	// that dies of it does so within two seconds in the cases R5 names.
	DefaultSurvive = 3 * time.Second
	// surviveEvery is how often it is looked at meanwhile.
	surviveEvery = 250 * time.Millisecond
	// retryFirst is when a refused content may be tried again that did not replace
	// a working one: nothing can be harmed, and what was missing may be there now.
	retryFirst = 30 * time.Second
	// retryDeath is when content that the program died of is tried a second and last
	// time: long enough for people to have seen the first.
	retryDeath = 5 * time.Minute
)

// Staged is a unit whose files are written with their final content in a private
// folder, for the program to judge before anything changes.
type Staged struct {
	Unit plan.Unit
	// Dir holds the files under their own base names.
	Dir string
	// Paths maps each file's final path to its staged one.
	Paths map[string]string
}

// Program knows one program: how to judge, reload and prove its configuration.
// A *plan.Refusal is the program's no; any other error means that it could not be
// asked, which says nothing about the configuration.
type Program interface {
	// Validate judges the staged files and touches nothing else.
	Validate(ctx context.Context, s Staged) error
	// BeforeStart runs right before every start and every reload.
	BeforeStart(ctx context.Context, u plan.Unit) error
	// Reload brings the files now in place into force without dropping sessions.
	Reload(ctx context.Context, u plan.Unit) error
	// Prove asks the running program whether what is in place is in force. It may
	// be called without a Reload before it, by an agent that was killed in between.
	Prove(ctx context.Context, u plan.Unit) error
	// Restart says whether the agent may start the unit again when it finds it
	// stopped. If not, it only ever starts it the first time.
	Restart() bool
}

// Outsider is a Program whose configuration names files that are not the unit's own.
type Outsider interface {
	// Outside identifies what is in them, empty when there are none: with another answer
	// it is another configuration. content has the unit's files as they are to be.
	Outside(content map[string][]byte) string
}

// Surviving is a Program that says itself how long new content must live before it counts:
// one that does everything it could die of before it answers needs no longer.
type Surviving interface{ Survive() time.Duration }

// Systemd is what the driver needs of it.
type Systemd interface {
	Status(ctx context.Context, unit string) (systemd.State, error)
	// Brief has no process, restarts and result.
	Brief(ctx context.Context, unit string) (systemd.State, error)
	Start(ctx context.Context, unit string) error
	Stop(ctx context.Context, unit string) error
	Enable(ctx context.Context, unit string) error
	Disable(ctx context.Context, unit string) error
	Unmask(ctx context.Context, unit string) error
	InstallTemplate(ctx context.Context, name string, content []byte) (bool, error)
	Journal(ctx context.Context, unit string, lines int) string
}

// Options are all settings of a Driver.
type Options struct {
	// StateDir holds the journals (StateDir/units) and staged files (StateDir/stage).
	StateDir string
	Systemd  Systemd
	// Programs are known by the word in plan.Unit.Program.
	Programs map[string]Program
	// Secret returns a secret of the driver's cluster.
	Secret func(name string) ([]byte, bool)
	// Templates are unit files by name, as in "haproxy@.service".
	Templates map[string]configs.Template
	// AllowPaths are the folders that units' files may be in; AllowUnits are
	// patterns of unit names. A plan that asks for others is refused.
	AllowPaths []string
	AllowUnits []string
	// Version returns a program's installed version; a remembered refusal is void
	// under another one. May be nil.
	Version func(program string) string
	// Survive is DefaultSurvive when zero.
	Survive time.Duration
	Log     *zap.Logger
	// Fault is given to the file system layer. For tests.
	Fault func(step, path string) error
}

// Driver is the plan.Driver for units. Calls for different units run side by
// side; calls for one unit wait for each other.
type Driver struct {
	opts    Options
	journal journal
	fs      files.FS // the units' files
	step    func(name string)
	// verifiers are those in the units' files.
	verifiers verifiers

	mu     sync.Mutex
	busy   map[string]chan struct{} // holds one token while a unit is worked on
	epochs map[string]plan.Epoch    // the highest acted at; in memory only (ROLES section 7)
}

var _ plan.Driver[plan.Unit] = (*Driver)(nil)

// unitName keeps a unit's name from leading anywhere else when it is part of a path.
var unitName = regexp.MustCompile(`^[A-Za-z0-9_.-]+(@[A-Za-z0-9_.-]+)?\.service$`)

// New returns a Driver. It touches nothing.
func New(o Options) *Driver {
	if o.Survive == 0 {
		o.Survive = DefaultSurvive
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Driver{
		opts:    o,
		journal: journal{dir: path.Join(o.StateDir, "units"), fs: files.FS{Fault: o.Fault}},
		fs:      files.FS{Allow: o.AllowPaths, Fault: o.Fault},
		step:    func(string) {},
		busy:    map[string]chan struct{}{},
		epochs:  map[string]plan.Epoch{},
	}
}

// enter waits for the unit's turn.
func (d *Driver) enter(ctx context.Context, unit string) (leave func(), err error) {
	d.mu.Lock()
	turn, ok := d.busy[unit]
	if !ok {
		turn = make(chan struct{}, 1)
		d.busy[unit] = turn
	}
	d.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for %s: %w", unit, ctx.Err())
	}
}

// fence refuses an epoch lower than one acted at (R7).
func (d *Driver) fence(unit string, at plan.Epoch) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at < d.epochs[unit] {
		return fmt.Errorf("apply %s at epoch %d: %w: epoch %d", unit, at, plan.ErrStale, d.epochs[unit])
	}
	d.epochs[unit] = at
	return nil
}

// allowed checks a unit against what the agent's own configuration permits.
func (d *Driver) allowed(u plan.Unit) (Program, error) {
	if !unitName.MatchString(u.Unit) || !matchesAny(d.opts.AllowUnits, u.Unit) {
		return nil, fmt.Errorf("unit %q is not one this agent may touch (%v)", u.Unit, d.opts.AllowUnits)
	}
	for _, f := range u.Files {
		if err := d.fs.Permitted(f.Path); err != nil {
			return nil, fmt.Errorf("unit %s: %w", u.Unit, err)
		}
	}
	p, ok := d.opts.Programs[u.Program]
	if !ok {
		return nil, &plan.Refusal{
			Reason:  observed.UnsupportedSchema,
			Message: fmt.Sprintf("unit %s runs %q, a program this agent does not know", u.Unit, u.Program),
		}
	}
	return p, nil
}

func matchesAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, name); err == nil && ok {
			return true
		}
	}
	return false
}

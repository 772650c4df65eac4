// Package service runs programs that answer over HTTP and hold no data of a cluster:
// exporters, Prometheus, Loki, promtail. What they differ in is a Spec, a line or two
// each; how a change of their files is made is the unit driver's.
//
// What is in force is asked of the running process, not of clocks: the settings that it
// reads at its start only are in its environment, and a program that reads its files again
// says itself whether it did.
package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/unit"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// DefaultWithin is how long a program may take until it answers, as long as PgBouncer's.
// Prometheus reads what it has on disk first: with 2 GB of it that takes a few seconds.
const DefaultWithin = 10 * time.Second

// Reload is how a program takes new files.
type Reload int

const (
	// Restart stops it and starts it again: it reads its files at its start only.
	Restart Reload = iota
	// Hangup has its unit reload it. When what it reads at its start only differs, it is
	// restarted all the same.
	Hangup
	// Post asks it at Spec.ReloadPath, and its answer is the verdict.
	Post
)

// Check is a program that judges those staged files that are to be in certain places.
type Check struct {
	// Pattern is of the files' final paths, as path.Match has it.
	Pattern string
	// Command is the program and its arguments; the staged file's path is put at the end.
	Command []string
}

// Spec is one program.
type Spec struct {
	// Package is what Debian calls it, for the command that installs it.
	Package string
	Checks  []Check
	Reload  Reload
	// ReloadPath is for Post.
	ReloadPath string
	// Port reads from the unit's files where it listens.
	Port func(u plan.Unit) (int, error)
	// ReadyPath answers 200 when the program is at work.
	ReadyPath string
	// Binary is the program's path, to say that it is missing; empty: it can't be.
	Binary string
	// Within is how long it may take until it answers; 0: as long as Options says.
	Within time.Duration
	// Survive is how long it must live with new files; 0: as long as every unit.
	Survive time.Duration
	// Loaded asks a program that reads its files again which of them it has; nil: it can't
	// say.
	Loaded func(ctx context.Context, get Get) (Loaded, error)
}

// Get returns what the program answers at a path with 200.
type Get func(ctx context.Context, path string) ([]byte, error)

// Loaded is what a program says of the files that it read last.
type Loaded struct {
	// Mark is another one after each time that it took its files.
	Mark string
	// Failed says that it refused those that it read last, and goes on with older ones.
	Failed bool
}

// Options are what a Program needs of the host.
type Options struct {
	// Restart stops the unit and starts it again; Hangup has systemd reload it.
	Restart, Hangup func(ctx context.Context, unit string) error
	// Environment is that of the unit's main process.
	Environment func(ctx context.Context, unit string) ([]string, error)
	// Free refuses a port that anybody but the unit has.
	Free func(port int, unit string) error
	// Journal is the end of the unit's journal; may be nil.
	Journal func(ctx context.Context, unit string, lines int) string
	// Within is DefaultWithin when zero.
	Within time.Duration
}

// Program is the unit.Program of one Spec.
type Program struct {
	name string
	spec Spec
	o    Options
	http *http.Client

	mu     sync.Mutex
	before map[string]Loaded // what a unit said right before its reload
}

var (
	_ unit.Program   = (*Program)(nil)
	_ unit.Surviving = (*Program)(nil)
)

// Programs are those of Specs, by the word in plan.Unit.Program.
func Programs(o Options) map[string]unit.Program {
	out := map[string]unit.Program{}
	for name, spec := range Specs {
		out[name] = New(name, spec, o)
	}
	return out
}

// New makes one program.
func New(name string, spec Spec, o Options) *Program {
	if o.Within == 0 {
		o.Within = DefaultWithin
	}
	return &Program{name: name, spec: spec, o: o, before: map[string]Loaded{}, http: client()}
}

// Restart reports that the agent may start it again: a stopped one is drift (R9).
func (p *Program) Restart() bool { return true }

// Survive implements unit.Surviving.
func (p *Program) Survive() time.Duration { return p.spec.Survive }

// BeforeStart looks whether there is anything to start: systemd would try for ever.
func (p *Program) BeforeStart(context.Context, plan.Unit) error {
	if p.spec.Binary == "" {
		return nil
	}
	if _, err := os.Stat(p.spec.Binary); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return p.missing(p.name)
}

// Validate asks the checkers about the staged files, and whether the port is free.
func (p *Program) Validate(ctx context.Context, s unit.Staged) error {
	if err := p.BeforeStart(ctx, s.Unit); err != nil {
		return err
	}
	for _, f := range s.Unit.Files {
		for _, c := range p.spec.Checks {
			if ok, err := path.Match(c.Pattern, f.Path); err != nil || !ok {
				continue
			}
			if err := p.check(ctx, c.Command, s.Paths[f.Path], f.Path); err != nil {
				return err
			}
		}
	}
	port, err := p.spec.Port(s.Unit)
	if err != nil {
		return &plan.Refusal{Reason: observed.Rejected, Message: err.Error()}
	}
	if p.o.Free == nil {
		return nil
	}
	return p.o.Free(port, s.Unit.Unit)
}

// Reload brings the files now in place into force.
func (p *Program) Reload(ctx context.Context, u plan.Unit) error {
	if p.spec.Reload == Restart {
		return p.o.Restart(ctx, u.Unit)
	}
	stale, err := p.staleEnvironment(ctx, u)
	switch {
	case err != nil:
		return notAnswering(u.Unit, err)
	case len(stale) > 0:
		return p.o.Restart(ctx, u.Unit)
	}
	get, err := p.getter(u)
	if err != nil {
		return err
	}
	if p.spec.Loaded != nil {
		before, err := p.spec.Loaded(ctx, get)
		if err != nil {
			return notAnswering(u.Unit, err)
		}
		p.remember(u.Unit, &before)
	}
	if p.spec.Reload == Post {
		return p.post(ctx, u)
	}
	return p.o.Hangup(ctx, u.Unit)
}

// Prove waits until the program answers on its own port, was started with the settings
// that it reads at its start only, and has taken the files that it was told to read.
func (p *Program) Prove(ctx context.Context, u plan.Unit) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(p.spec.Within, p.o.Within))
	defer cancel()
	before := p.remember(u.Unit, nil)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error     // why it is not proven yet
	var dead time.Time // since when it has no process
	for {
		err := p.proof(ctx, u, before)
		var no *plan.Refusal
		switch {
		case err == nil || errors.As(err, &no):
			return err
		case last == nil || ctx.Err() == nil: // else our patience ended, and not the program
			last = err
		}
		if !p.gone(ctx, u.Unit) {
			dead = time.Time{}
		} else if dead.IsZero() {
			dead = time.Now()
		} else if time.Since(dead) > goneFor {
			return notAnswering(u.Unit, last) // somebody stopped it again: that is drift, and not waited for
		}
		select {
		case <-ctx.Done():
			if errors.Is(last, errFailedBefore) {
				return p.refusedFiles(u.Unit)
			}
			return notAnswering(u.Unit, last)
		case <-tick.C:
		}
	}
}

// ErrNoProcess is Options.Environment's answer of a unit that has none.
var ErrNoProcess = errors.New("it has no process")

// goneFor is how long a unit may be without a process while it is being proven: systemd
// starts one that ended again after RestartSec, 100 to 500 ms.
const goneFor = 700 * time.Millisecond

func (p *Program) gone(ctx context.Context, name string) bool {
	if p.o.Environment == nil {
		return false
	}
	_, err := p.o.Environment(context.WithoutCancel(ctx), name)
	return errors.Is(err, ErrNoProcess)
}

// errFailedBefore: it refused its files, and did so before it was told to read them again.
var errFailedBefore = errors.New("it did not take its files")

// proof is one attempt.
func (p *Program) proof(ctx context.Context, u plan.Unit, before *Loaded) error {
	get, err := p.getter(u)
	if err != nil {
		return err
	}
	if _, err := get(ctx, p.spec.ReadyPath); err != nil {
		return err
	}
	port, err := p.spec.Port(u)
	if err != nil {
		return err
	}
	if p.o.Free != nil { // another program may answer there as well
		if err := p.o.Free(port, u.Unit); err != nil {
			return err
		}
	}
	stale, err := p.staleEnvironment(context.WithoutCancel(ctx), u)
	switch {
	case err != nil:
		return err
	case len(stale) > 0:
		return fmt.Errorf("it runs with another %s than its file says", stale[0])
	case p.spec.Loaded == nil:
		return nil
	}
	now, err := p.spec.Loaded(ctx, get)
	switch {
	case err != nil:
		return err
	case now.Failed && before != nil && before.Failed:
		return errFailedBefore // or it has not looked yet
	case now.Failed:
		return p.refusedFiles(u.Unit)
	case before != nil && before.Mark == now.Mark:
		return errors.New("it has not read its files again yet")
	}
	return nil
}

// remember takes what a unit said before its reload, or gives it back, once.
func (p *Program) remember(name string, l *Loaded) *Loaded {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l != nil {
		p.before[name] = *l
		return nil
	}
	had, ok := p.before[name]
	delete(p.before, name)
	if !ok {
		return nil
	}
	return &had
}

// staleEnvironment lists the variables that the running process has not as its files say.
func (p *Program) staleEnvironment(ctx context.Context, u plan.Unit) ([]string, error) {
	if p.o.Environment == nil {
		return nil, nil
	}
	has, err := p.o.Environment(ctx, u.Unit)
	if err != nil {
		return nil, err
	}
	var out []string
	for name, value := range Environment(u) {
		if !slices.Contains(has, name+"="+value) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Package systemdtest is systemd in memory for tests, and the table that it and
// the real one both have to pass.
package systemdtest

import (
	"context"
	"fmt"
	"sync"

	"github.com/pgctrl/pgctrl/pkg/host/systemd"
)

// Fake is systemd in memory. The zero value has no units.
type Fake struct {
	// OnStart decides whether a unit's program comes up; nil: it does. An error's
	// text is what the journal then ends with.
	OnStart func(unit string) error
	// OnStop is told when a unit's program ends by Stop.
	OnStop func(unit string)
	// OnReload is ExecReload.
	OnReload func(unit string) error
	// Before is called before every act with its name ("start", "enable" ...), not
	// before questions; an error stands for systemd failing.
	Before func(op, unit string) error

	mu        sync.Mutex
	templates map[string]string
	vendor    map[string]bool // came with a package
	units     map[string]*systemd.State
	lastPID   int
	journal   map[string]string
	acts      []string
}

// AddTemplate installs a unit file, as a package would.
func (f *Fake) AddTemplate(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addTemplate(name, "")
	f.vendor[name] = true
}

func (f *Fake) addTemplate(name, content string) {
	if f.templates == nil {
		f.templates, f.vendor = map[string]string{}, map[string]bool{}
	}
	f.templates[name] = content
}

// Acts lists what was done, as in "start haproxy@c.service", and forgets it.
func (f *Fake) Acts() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.acts
	f.acts = nil
	return out
}

// Die makes a unit's program end by itself; with restart, systemd starts it again.
func (f *Fake) Die(unit string, restart bool, words string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.unit(unit)
	f.note(unit, words)
	if restart {
		f.lastPID++
		s.MainPID, s.Restarts = f.lastPID, s.Restarts+1
		return
	}
	s.ActiveState, s.SubState, s.MainPID, s.Result = "failed", "failed", 0, "exit-code"
}

func (f *Fake) note(unit, words string) {
	if f.journal == nil {
		f.journal = map[string]string{}
	}
	f.journal[unit] = words
}

// unit returns the stored state, made up for a unit that has a template.
func (f *Fake) unit(name string) *systemd.State {
	if f.units == nil {
		f.units = map[string]*systemd.State{}
	}
	s, ok := f.units[name]
	if !ok {
		s = &systemd.State{ActiveState: "inactive", SubState: "dead"}
		f.units[name] = s
	}
	switch _, exists := f.templates[systemd.TemplateOf(name)]; {
	case s.UnitFileState == "masked":
		s.LoadState = "masked"
	case !exists:
		s.LoadState, s.UnitFileState = systemd.NotFound, ""
	default:
		s.LoadState, s.FragmentPath = "loaded", systemd.DefaultUnitDir+"/"+systemd.TemplateOf(name)
		if f.vendor[systemd.TemplateOf(name)] {
			s.FragmentPath = "/usr/lib/systemd/system/" + systemd.TemplateOf(name)
		}
		if s.UnitFileState == "" {
			s.UnitFileState = "disabled"
		}
	}
	return s
}

func (f *Fake) act(op, unit string) error {
	if f.Before != nil {
		if err := f.Before(op, unit); err != nil {
			return fmt.Errorf("%s %s: %w", op, unit, err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acts = append(f.acts, op+" "+unit)
	if s := f.unit(unit); !s.Exists() && op != "mask" && op != "unmask" && op != "disable" && op != "stop" {
		return fmt.Errorf("%s %s: %w", op, unit, systemd.ErrNoUnit)
	}
	return nil
}

func (f *Fake) set(unit string, change func(*systemd.State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.unit(unit))
}

// Status returns a unit's state.
func (f *Fake) Status(ctx context.Context, unit string) (systemd.State, error) {
	if err := ctx.Err(); err != nil {
		return systemd.State{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return *f.unit(unit), nil
}

// Brief is Status without what only a service has.
func (f *Fake) Brief(ctx context.Context, unit string) (systemd.State, error) {
	s, err := f.Status(ctx, unit)
	s.MainPID, s.Restarts, s.Result, s.ExitStatus = 0, 0, "", 0
	return s, err
}

// Start starts a unit.
func (f *Fake) Start(_ context.Context, unit string) error {
	if err := f.act("start", unit); err != nil {
		return err
	}
	s, _ := f.Status(context.Background(), unit)
	switch {
	case s.Masked():
		return fmt.Errorf("start %s: unit is masked", unit)
	case s.Active():
		return nil
	}
	if f.OnStart != nil {
		if err := f.OnStart(unit); err != nil {
			f.set(unit, func(s *systemd.State) {
				s.ActiveState, s.SubState, s.Result = "failed", "failed", "exit-code"
				f.note(unit, err.Error())
			})
			return &systemd.JobError{Op: "start", Unit: unit, Result: "failed", Tail: err.Error()}
		}
	}
	f.set(unit, func(s *systemd.State) {
		f.lastPID++
		s.ActiveState, s.SubState, s.MainPID, s.Restarts, s.Result = "active", "running", 1000+f.lastPID, 0, "success"
	})
	return nil
}

// Stop stops a unit.
func (f *Fake) Stop(_ context.Context, unit string) error {
	if err := f.act("stop", unit); err != nil {
		return err
	}
	if f.OnStop != nil {
		f.OnStop(unit)
	}
	f.set(unit, func(s *systemd.State) { s.ActiveState, s.SubState, s.MainPID = "inactive", "dead", 0 })
	return nil
}

// ReloadUnit runs a unit's ExecReload.
func (f *Fake) ReloadUnit(_ context.Context, unit string) error {
	if err := f.act("reload", unit); err != nil {
		return err
	}
	s, _ := f.Status(context.Background(), unit)
	if !s.Active() {
		return fmt.Errorf("reload %s: unit is not active", unit)
	}
	if f.OnReload != nil {
		return f.OnReload(unit)
	}
	return nil
}

// Enable makes a unit start at boot.
func (f *Fake) Enable(_ context.Context, unit string) error {
	if err := f.act("enable", unit); err != nil {
		return err
	}
	if s, _ := f.Status(context.Background(), unit); s.Masked() {
		return fmt.Errorf("enable %s: unit is masked", unit)
	}
	f.set(unit, func(s *systemd.State) { s.UnitFileState = "enabled" })
	return nil
}

// Disable makes a unit not start at boot.
func (f *Fake) Disable(_ context.Context, unit string) error {
	if err := f.act("disable", unit); err != nil {
		return err
	}
	f.set(unit, func(s *systemd.State) {
		if s.UnitFileState == "enabled" {
			s.UnitFileState = "disabled"
		}
	})
	return nil
}

// Mask makes a unit impossible to start.
func (f *Fake) Mask(_ context.Context, unit string) error {
	if err := f.act("mask", unit); err != nil {
		return err
	}
	f.set(unit, func(s *systemd.State) { s.UnitFileState = "masked" })
	return nil
}

// Unmask undoes Mask.
func (f *Fake) Unmask(_ context.Context, unit string) error {
	if err := f.act("unmask", unit); err != nil {
		return err
	}
	f.set(unit, func(s *systemd.State) {
		if s.Masked() {
			s.UnitFileState = ""
		}
	})
	return nil
}

// DaemonReload does nothing.
func (f *Fake) DaemonReload(context.Context) error { return nil }

// Journal returns a unit's last words.
func (f *Fake) Journal(_ context.Context, unit string, _ int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.journal[unit]
}

// InstallTemplate installs a unit file.
func (f *Fake) InstallTemplate(_ context.Context, name string, content []byte) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old, ok := f.templates[name]; ok && old == string(content) {
		return false, nil
	}
	f.acts = append(f.acts, "install "+name)
	f.addTemplate(name, string(content))
	f.vendor[name] = false
	return true, nil
}

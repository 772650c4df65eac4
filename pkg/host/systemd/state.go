package systemd

import (
	"fmt"
	"strings"
	"time"
)

// NotFound is the load state of a unit that doesn't exist.
const NotFound = "not-found"

// State is what systemd says about a unit, in its own words.
type State struct {
	LoadState     string // loaded, not-found, masked, error ...
	ActiveState   string // active, reloading, inactive, failed, activating, deactivating
	SubState      string
	UnitFileState string // enabled, disabled, static, masked, masked-runtime ...
	FragmentPath  string
	Result        string // success, exit-code, signal, watchdog ...
	Description   string
	// ExitStatus is what the main process ended with, of the last run.
	ExitStatus int
	// Began is when it last left the inactive state; zero when it never did.
	Began    time.Time
	MainPID  int
	Restarts int // by systemd itself, since it was last started by a job
}

// Exists reports whether there is a unit file.
func (s State) Exists() bool { return s.LoadState != NotFound && s.LoadState != "" }

// Active reports whether the unit runs.
func (s State) Active() bool { return s.ActiveState == "active" || s.ActiveState == "reloading" }

// Masked reports whether somebody masked the unit.
func (s State) Masked() bool {
	return s.LoadState == "masked" || strings.HasPrefix(s.UnitFileState, "masked")
}

// Enabled reports whether the unit comes back after a boot, or is of a kind that
// can't be enabled and needn't be.
func (s State) Enabled() bool {
	switch s.UnitFileState {
	case "enabled", "alias", "static", "indirect", "generated", "linked-runtime", "transient":
		return true
	}
	return false // enabled-runtime is gone after a boot
}

// TemplateOf returns the name of the unit file that a unit comes from:
// "haproxy@.service" for "haproxy@c.service".
func TemplateOf(unit string) string {
	prefix, rest, ok := strings.Cut(unit, "@")
	if !ok {
		return unit
	}
	return prefix + "@" + rest[max(0, strings.LastIndexByte(rest, '.')):]
}

// JobError is a job that systemd ended with something else than "done".
type JobError struct {
	Op, Unit string
	Result   string // failed, timeout, canceled, dependency, skipped ...
	// Tail is the end of the unit's journal: the program's own words.
	Tail string
}

// Refused reports that the unit itself is to blame, and not a job of somebody else's that came
// between, nor a unit that it needs.
func (e *JobError) Refused() bool { return e.Result != "canceled" && e.Result != "dependency" }

// Error implements error.
func (e *JobError) Error() string {
	s := fmt.Sprintf("%s %s: systemd says %q", e.Op, e.Unit, e.Result)
	if e.Tail != "" {
		s += "; its journal ends with: " + e.Tail
	}
	return s
}

package unit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// phase is how far a change has come. It is on disk before the step it names begins.
type phase string

const (
	// settled: no change is under way.
	settled phase = ""
	// swapping: the files may be a mixture; the program has not been told.
	swapping phase = "swapping"
	// telling: the program may have been started or reloaded.
	telling phase = "telling"
	// told: it was, and said yes; whether it lives with it is not proven.
	told phase = "told"
	// undoing: everything is on its way back.
	undoing phase = "undoing"
	// removing: the unit is being taken away.
	removing phase = "removing"
)

// record is all that is known about one unit. It holds file contents and thus
// passwords: mode 0600 in a folder of mode 0700.
type record struct {
	Unit  string `json:"unit"`
	Phase phase  `json:"phase,omitempty"`
	// Loaded is what the program was last proven to have in force.
	Loaded *loaded `json:"loaded,omitempty"`
	// Change is the change under way; nil when settled.
	Change *change `json:"change,omitempty"`
	// Repair says that the files are as loaded, or will be, and the program may
	// have read something else meanwhile.
	Repair bool `json:"repair,omitempty"`
	// Refused is the content that was last refused.
	Refused *refused `json:"refused,omitempty"`
	// Original is what was there before the first change; Remove brings it back.
	Original files.Snapshot `json:"original,omitempty"`
}

// loaded is content in force.
type loaded struct {
	Hash  string         `json:"hash"`
	Unit  plan.Unit      `json:"unit"` // as planned: without secrets
	Files files.Snapshot `json:"files"`
	// Outside is what the files named beyond themselves.
	Outside string `json:"outside,omitempty"`
}

// change is one change from a known state.
type change struct {
	Hash string `json:"hash"`
	// Base is how the files were before it.
	Base files.Snapshot `json:"base"`
	// Active and Enabled are how the unit was before it.
	Active  bool `json:"active"`
	Enabled bool `json:"enabled"`
	// Told says that the program may know of the new content.
	Told bool `json:"told,omitempty"`
	// PID is the process that must still be there when the content is proven, and
	// Restarts how often systemd had restarted it.
	PID      int `json:"pid,omitempty"`
	Restarts int `json:"restarts,omitempty"`
	// Verdict is why it is being undone; nil when not the content is to blame.
	Verdict *refused `json:"verdict,omitempty"`
}

// refused is content that is not tried again.
type refused struct {
	Hash    string       `json:"hash"`
	Version string       `json:"version"`
	Refusal plan.Refusal `json:"refusal"`
	At      time.Time    `json:"at"`
	// First says that there was nothing working in its place.
	First bool `json:"first,omitempty"`
	// Deaths is how often the program died of it. Somebody's kill -9 looks the same,
	// so the first death is given a second trial later, and the second is final.
	Deaths int `json:"deaths,omitempty"`
}

// stands reports whether content is still refused without being tried.
func (r *refused) stands(hash, version string, now time.Time) bool {
	if r == nil || r.Hash != hash || r.Version != version {
		return false
	}
	wait := time.Duration(0)
	switch {
	case r.First:
		wait = retryFirst
	case r.Deaths == 1:
		wait = retryDeath
	default:
		return true
	}
	// A clock that was set back must not make the wait longer.
	age := now.Sub(r.At)
	return age >= 0 && age < wait
}

// journal keeps the records.
type journal struct {
	dir string
	fs  files.FS
}

func (j journal) path(unit string) string { return filepath.Join(j.dir, unit+".json") }

func (j journal) load(unit string) (*record, error) {
	r := &record{Unit: unit}
	b, err := os.ReadFile(j.path(unit))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal of %s: %w", unit, err)
	}
	if err := json.Unmarshal(b, r); err != nil {
		// Written atomically, so this is a damaged disk or a hand. Guessing what is in
		// force could lose a working configuration.
		return nil, fmt.Errorf("read journal of %s: %w; move %s away to start afresh", unit, err, j.path(unit))
	}
	return r, nil
}

func (j journal) save(r *record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write journal of %s: %w", r.Unit, err)
	}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return fmt.Errorf("write journal of %s: %w", r.Unit, err)
	}
	if err := j.fs.Sweep(j.path(r.Unit)); err != nil {
		return fmt.Errorf("write journal of %s: %w", r.Unit, err)
	}
	if err := j.fs.AtomicWrite(j.path(r.Unit), b, 0o600, ""); err != nil {
		return fmt.Errorf("write journal of %s: %w", r.Unit, err)
	}
	return nil
}

func (j journal) forget(unit string) error {
	if err := j.fs.Remove(j.path(unit)); err != nil {
		return fmt.Errorf("remove journal of %s: %w", unit, err)
	}
	return nil
}

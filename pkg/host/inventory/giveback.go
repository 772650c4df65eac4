package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/host/files"
)

// Taken is one service of the distribution that was taken over, as it was found.
type Taken struct {
	Unit string `json:"unit"`
	// Active and Enabled: it ran; it would have been started at boot.
	Active  bool `json:"active,omitempty"`
	Enabled bool `json:"enabled,omitempty"`
	// Adopted: it was not stopped but used, so giving it back may mean stopping it.
	Adopted bool `json:"adopted,omitempty"`
	// Files are the files that were changed, as they were.
	Files files.Snapshot `json:"files,omitempty"`
}

// taken reads the record; a missing one is empty.
func (h *Host) taken() ([]Taken, error) {
	if h.Record == "" {
		return nil, nil
	}
	b, err := os.ReadFile(h.Record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []Taken
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was taken over: %w", err)
	}
	return out, nil
}

// note records a service before it is touched. What is recorded already stays: a
// takeover that was interrupted finds its own traces, not what was there before.
func (h *Host) note(t Taken) error {
	if h.Record == "" {
		return nil
	}
	all, err := h.taken()
	if err != nil || slices.ContainsFunc(all, func(o Taken) bool { return o.Unit == t.Unit }) {
		return err
	}
	b, err := json.Marshal(append(all, t))
	if err != nil {
		return fmt.Errorf("record what is taken over: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(h.Record), 0o700); err != nil {
		return fmt.Errorf("record what is taken over: %w", err)
	}
	if err := files.AtomicWrite(h.Record, b, 0o600, ""); err != nil {
		return fmt.Errorf("record what is taken over: %w", err)
	}
	return nil
}

func (h *Host) noteCluster(c debianCluster) error {
	before, err := files.FS{}.Snapshot(h.path(c.folder() + "/start.conf"))
	if err != nil {
		return fmt.Errorf("record what is taken over: %w", err)
	}
	return h.note(Taken{Unit: c.unit(), Active: true, Files: before})
}

// GiveBack undoes every takeover, the last one first: files as they were, enabled
// and running as found. A file that somebody changed since is theirs and left so.
// It says in a sentence each what it did, and may be repeated.
func (h *Host) GiveBack(ctx context.Context) ([]string, error) {
	all, err := h.taken()
	if err != nil {
		return nil, err
	}
	var did []string
	for len(all) > 0 {
		t := all[len(all)-1]
		said, err := h.giveBack(ctx, t)
		if err != nil {
			return did, fmt.Errorf("give back %s: %w", t.Unit, err)
		}
		did, all = append(did, said), all[:len(all)-1]
	}
	if h.Record == "" {
		return did, nil
	}
	if err := os.Remove(h.Record); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return did, fmt.Errorf("forget what was taken over: %w", err)
	}
	return did, nil
}

func (h *Host) giveBack(ctx context.Context, t Taken) (string, error) {
	for _, f := range t.Files {
		b, err := os.ReadFile(f.Path)
		if err != nil || string(b) != disabledCluster {
			continue // somebody's own by now
		}
		if err := (files.FS{}).Restore(files.Snapshot{f}); err != nil {
			return "", err
		}
	}
	if len(t.Files) > 0 {
		if err := h.Systemd.DaemonReload(ctx); err != nil { // Debian's generator reads start.conf
			return "", err
		}
	}
	st, err := h.Systemd.Status(ctx, t.Unit)
	if err != nil {
		return "", err
	}
	if !st.Exists() {
		return t.Unit + " is not there any more", nil
	}
	if t.Enabled && !st.Enabled() {
		if err := h.Systemd.Enable(ctx, t.Unit); err != nil {
			return "", err
		}
	}
	if t.Active && !running(st) {
		if err := h.Systemd.Start(ctx, t.Unit); err != nil {
			return "", err
		}
	}
	if t.Adopted && !t.Enabled && st.Enabled() {
		if err := h.Systemd.Disable(ctx, t.Unit); err != nil {
			return "", err
		}
	}
	if t.Adopted && !t.Active && running(st) {
		if err := h.Systemd.Stop(ctx, t.Unit); err != nil {
			return "", err
		}
	}
	return t.Unit + " is as it was found", nil
}

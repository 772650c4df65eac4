// Package file writes files whose readers notice by themselves: one rename, so that a
// reader finds the old content or the new one, and nothing to validate or reload.
package file

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Options say what a driver may do.
type Options struct {
	// AllowPaths are the files that may be written.
	AllowPaths []string
	// Secret looks up the cluster's secrets, from memory.
	Secret func(name string) ([]byte, bool)
}

// Driver implements plan.Driver for files by themselves. Make one with New.
type Driver struct {
	opts Options
	fs   files.FS

	mu sync.Mutex
	// at is the highest epoch acted on, by path. It is not kept on disk: what an agent
	// knows after its start is read from etcd, in order.
	at map[string]plan.Epoch
}

// New returns a driver that writes the files of one cluster.
func New(o Options) *Driver { return &Driver{opts: o, at: map[string]plan.Epoch{}} }

// Diff implements plan.Driver.
func (d *Driver) Diff(_ context.Context, w plan.Watched) (plan.Diff, error) {
	want, err := d.want(w)
	if err != nil {
		return nil, err
	}
	diff, err := d.fs.Compare(want)
	if err != nil || !diff.Any() {
		return nil, err
	}
	return plan.Diff{w.File + " " + diff.String()}, nil
}

// Apply implements plan.Driver.
func (d *Driver) Apply(_ context.Context, w plan.Watched, at plan.Epoch) error {
	want, err := d.want(w)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fence(w.File, at); err != nil {
		return err
	}
	if err := d.fs.Sweep(w.File); err != nil { // of an agent that was killed while writing
		return err
	}
	p, err := d.fs.PrepareSaved(want)
	if err != nil {
		return err
	}
	return p.Commit()
}

// Remove implements plan.Driver.
func (d *Driver) Remove(_ context.Context, w plan.Watched, at plan.Epoch) error {
	if err := d.allowed(w.File); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fence(w.File, at); err != nil {
		return err
	}
	if err := d.fs.Sweep(w.File); err != nil {
		return err
	}
	return d.fs.Remove(w.File)
}

// fence refuses an epoch lower than one acted at (R7). The caller holds mu.
func (d *Driver) fence(path string, at plan.Epoch) error {
	if at < d.at[path] {
		return fmt.Errorf("write %s at epoch %d: %w (%d)", path, at, plan.ErrStale, d.at[path])
	}
	d.at[path] = at
	return nil
}

func (d *Driver) allowed(path string) error {
	for _, a := range d.opts.AllowPaths {
		if a == path {
			return nil
		}
	}
	return &plan.Refusal{
		Reason:  observed.Rejected,
		Message: fmt.Sprintf("%s is not a file that this agent may write (%s)", path, strings.Join(d.opts.AllowPaths, ", ")),
	}
}

// want is the file as it should be, with everything filled in.
func (d *Driver) want(w plan.Watched) (files.Saved, error) {
	if err := d.allowed(w.File); err != nil {
		return files.Saved{}, err
	}
	refuse := func(err error) (files.Saved, error) {
		return files.Saved{}, &plan.Refusal{Reason: observed.Rejected, Message: fmt.Sprintf("%s: %s", w.File, err)}
	}
	if w.Follows() {
		return refuse(fmt.Errorf("who leads was not filled in"))
	}
	missing := ""
	content, err := plan.Expand(w.Content, plan.Values{Secret: func(name string) ([]byte, bool) {
		if d.opts.Secret == nil {
			missing = name
			return nil, false
		}
		v, ok := d.opts.Secret(name)
		if !ok {
			missing = name
		}
		return v, ok
	}})
	switch {
	case missing != "":
		return files.Saved{}, &plan.Refusal{
			Reason: observed.WaitingForSecret, Message: fmt.Sprintf("%s needs secret %s, which is not known here (yet)", w.File, missing),
		}
	case err != nil:
		return refuse(err)
	}
	mode, err := files.ParseMode(w.Mode)
	if err != nil {
		return refuse(err)
	}
	owner := w.Owner
	if owner == "root:root" {
		owner = "" // whom the agent runs as, so that tests need not be root
	}
	return files.Want(w.File, []byte(content), mode, owner)
}

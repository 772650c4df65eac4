package unit

import (
	"context"

	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Remove stops and disables a unit and puts its files back as they were before
// the first Apply. A unit that was never applied here is not touched. Data
// folders are no unit's files.
func (d *Driver) Remove(ctx context.Context, u plan.Unit, at plan.Epoch) error {
	prog, err := d.allowed(u)
	if err != nil {
		return err
	}
	leave, err := d.enter(ctx, u.Unit)
	if err != nil {
		return err
	}
	defer leave()
	if err := d.fence(u.Unit, at); err != nil {
		return err
	}
	rec, err := d.journal.load(u.Unit)
	if err != nil {
		return err
	}
	if rec.Loaded == nil && rec.Phase == settled {
		return d.journal.forget(u.Unit)
	}
	t := &task{Driver: d, prog: prog, rec: rec, want: want{unit: u}}
	return t.remove(ctx)
}

// remove journals first that nothing is in force: an Apply that comes after a kill
// in the middle then begins anew instead of repairing what this took away.
func (t *task) remove(ctx context.Context) error {
	if t.rec.Phase != removing {
		t.rec.Loaded, t.rec.Repair, t.rec.Refused = nil, false, nil
		t.rec.Change = &change{Base: append(files.Snapshot(nil), t.rec.Original...)}
		if err := t.save(removing); err != nil {
			return err
		}
	}
	for _, undo := range []func() error{
		func() error { return t.opts.Systemd.Stop(ctx, t.rec.Unit) },
		func() error { return t.opts.Systemd.Disable(ctx, t.rec.Unit) },
		func() error { return t.fs.Restore(t.rec.Original) },
		t.retire,
		func() error { return t.journal.forget(t.rec.Unit) },
	} {
		t.step("removing")
		if err := undo(); err != nil {
			return err
		}
	}
	return nil
}

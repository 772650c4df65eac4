package unit

import (
	"context"

	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Remove stops and disables a unit and puts its files back as they were before
// the first Apply; an adopted one runs on without what was ours. A unit that was never applied here is not touched. Data
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
	if rec.Loaded != nil { // pgagent leave has nothing but the unit's name
		u.Adopted = u.Adopted || rec.Loaded.Unit.Adopted
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
	stop := func() error { return t.opts.Systemd.Stop(ctx, t.rec.Unit) }
	disable := func() error { return t.opts.Systemd.Disable(ctx, t.rec.Unit) }
	restore := func() error { return t.fs.Restore(t.rec.Original) }
	steps := []func() error{stop, disable, restore}
	if t.want.unit.Adopted {
		steps = []func() error{restore, func() error { return t.tellOwner(ctx) }}
	}
	for _, undo := range append(steps,
		t.retire,
		func() error { return t.journal.forget(t.rec.Unit) },
	) {
		t.step("removing")
		if err := undo(); err != nil {
			return err
		}
	}
	return nil
}

// tellOwner has an adopted program read that what was ours is gone.
func (t *task) tellOwner(ctx context.Context) error {
	st, err := t.opts.Systemd.Status(ctx, t.rec.Unit)
	if err != nil || !st.Active() {
		return err
	}
	return t.prog.Reload(ctx, t.want.unit)
}

package unit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Apply makes a unit so. Content that is in force already is only guarded against
// drift; new content goes through the whole transaction, which takes Survive
// longer than the program needs.
func (d *Driver) Apply(ctx context.Context, u plan.Unit, at plan.Epoch) error {
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
	if err := d.unstage(u.Unit); err != nil {
		return err
	}
	rec, err := d.journal.load(u.Unit)
	if err != nil {
		return err
	}
	w, err := d.resolve(u)
	t := &task{Driver: d, prog: prog, rec: rec, want: w}
	if err != nil {
		return w.clean(t.unresolved(ctx, err))
	}
	return w.clean(t.apply(ctx))
}

// task is one call's work on one unit.
type task struct {
	*Driver
	prog Program
	rec  *record
	want want
}

func (t *task) apply(ctx context.Context) error {
	rec, hash := t.rec, t.want.hash
	if rec.Phase == undoing {
		if err := t.undo(ctx); err != nil && (rec.Change.Hash == hash || ctx.Err() != nil) {
			return err
		}
		// Other content is wanted now; it may get what the old one doesn't get.
	}
	inForce := rec.Loaded != nil && rec.Loaded.Hash == hash
	switch {
	case rec.Phase == settled && inForce:
		return t.keep(ctx)
	case !inForce && rec.Refused.stands(hash, t.version(), time.Now()):
		return t.stillRefused(ctx)
	default:
		return t.change(ctx)
	}
}

// unresolved guards what is in force while what is wanted can't be known, as at a
// boot without etcd. A change that was under way waits: undoing a first start
// because a password is out of reach would stop a database.
func (t *task) unresolved(ctx context.Context, why error) error {
	if t.rec.Phase != settled || t.rec.Loaded == nil {
		return why
	}
	same := sameSource(t.rec.Loaded.Unit, t.want.unit)
	if err := t.keep(ctx); err != nil {
		// The journal's words may hold a password that can't be recognised now.
		var job *systemd.JobError
		if errors.As(err, &job) {
			err = fmt.Errorf("%s %s: systemd says %q; see journalctl -u %s", job.Op, job.Unit, job.Result, job.Unit)
		}
		return err
	}
	if same && errors.Is(why, errNoSecret) {
		return nil
	}
	return why
}

// stillRefused returns the remembered no, and keeps what is in force so.
func (t *task) stillRefused(ctx context.Context) error {
	if t.rec.Phase != settled {
		if err := t.undo(ctx); err != nil {
			return err
		}
	}
	if t.rec.Loaded != nil {
		if err := t.keep(ctx); err != nil {
			return err
		}
	}
	r := t.rec.Refused.Refusal
	return &r
}

func (t *task) version() string {
	if t.opts.Version == nil {
		return ""
	}
	return t.opts.Version(t.want.unit.Program)
}

// save journals a phase. What it names begins only when this has returned nil.
func (t *task) save(p phase) error {
	t.step("before " + string(p))
	t.rec.Phase = p
	if err := t.journal.save(t.rec); err != nil {
		return err
	}
	t.step("after " + string(p))
	return nil
}

// Forget makes the next Apply try content that was refused.
func (d *Driver) Forget(ctx context.Context, unit string) error {
	leave, err := d.enter(ctx, unit)
	if err != nil {
		return err
	}
	defer leave()
	rec, err := d.journal.load(unit)
	if err != nil || rec.Refused == nil {
		return err
	}
	rec.Refused = nil
	return d.journal.save(rec)
}

// stopped is the answer for a unit that only people and Patroni stop.
func stopped(unit string) *plan.Refusal {
	return &plan.Refusal{
		Reason:  observed.Stopped,
		Message: unit + " is stopped; pgctrl starts it only the first time",
		Next:    "systemctl start " + trimService(unit),
	}
}

func trimService(unit string) string {
	const suffix = ".service"
	return unit[:len(unit)-len(suffix)]
}

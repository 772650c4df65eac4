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

// refuseBefore handles a no that came before anything changed. If an earlier
// attempt had changed something, that goes back.
func (t *task) refuseBefore(ctx context.Context, no error) error {
	var r *plan.Refusal
	if !errors.As(no, &r) || ctx.Err() != nil {
		return no // a fault on the way to the question, or the agent ends
	}
	var verdict *refused // only the content's own fault is remembered
	if r.Reason == observed.Rejected {
		verdict = t.verdict(*r)
	}
	switch {
	case t.rec.Phase != settled && r.Reason == observed.NotAnswering:
		return r // nothing is known; where the change stands is in the journal
	case t.rec.Phase != settled:
		t.rec.Change.Verdict = verdict
		return t.afterUndo(ctx, r)
	case verdict != nil:
		t.rec.Refused = verdict
		if err := t.save(settled); err != nil {
			return errors.Join(r, err)
		}
	}
	if t.rec.Loaded != nil {
		if err := t.keep(ctx); err != nil {
			return err
		}
	}
	return r
}

// refuseAfter handles what went wrong once the program was told. A no, or a death,
// is undone and remembered; what the host refused is undone; silence is neither.
func (t *task) refuseAfter(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err // the agent ends, or its patience; the journal says where to go on
	}
	var r *plan.Refusal
	var job *systemd.JobError
	var host hostError
	switch {
	case errors.As(err, &job) && job.Refused():
		job.Tail = lastLines(job.Tail)
		r = &plan.Refusal{Reason: observed.RolledBack, Message: job.Error()}
	case errors.As(err, &r) && r.Reason != observed.NotAnswering:
		if r.Reason == observed.Rejected {
			back := *r
			back.Reason, r = observed.RolledBack, &back
		}
	case errors.As(err, &host):
		return errors.Join(host.error, t.undo(ctx))
	default:
		// It could not be asked. Has it died of it, or is it only silent?
		st, statusErr := t.opts.Systemd.Status(ctx, t.rec.Unit)
		if statusErr != nil || !errors.As(t.died(ctx, st), &r) {
			return t.asRefusal(ctx, err)
		}
		err = death{r}
	}
	if r.Reason == observed.RolledBack {
		v := t.verdict(*r)
		if old := t.rec.Refused; isDeath(err) && old != nil && old.Hash == v.Hash && old.Version == v.Version {
			v.Deaths = old.Deaths
		}
		if isDeath(err) {
			v.Deaths++
		}
		t.rec.Change.Verdict = v
	}
	return t.afterUndo(ctx, r)
}

func (t *task) verdict(r plan.Refusal) *refused {
	var clean *plan.Refusal
	if errors.As(t.want.clean(&r), &clean) {
		r = *clean
	}
	return &refused{Hash: t.want.hash, Version: t.version(), Refusal: r, At: time.Now(), First: t.rec.Loaded == nil}
}

// afterUndo undoes and returns the refusal, or says that even that failed.
func (t *task) afterUndo(ctx context.Context, r *plan.Refusal) error {
	if err := t.undo(ctx); err != nil {
		return &plan.Refusal{
			Reason:  observed.ApplyFailed,
			Message: fmt.Sprintf("%s; and putting the old configuration back failed, it is tried again: %v", r.Message, err),
			Next:    "journalctl -u " + trimService(t.rec.Unit),
		}
	}
	return r
}

// undo puts everything back as it was before the change: files, whether the
// program runs and what it has loaded, whether the unit is enabled. It can be
// interrupted and repeated.
func (t *task) undo(ctx context.Context) error {
	c := t.rec.Change
	saved := t.save(undoing) // on a full disk going back matters more than noting it
	for _, f := range c.Base {
		if err := t.fs.Sweep(f.Path); err != nil {
			return errors.Join(saved, err)
		}
	}
	if err := t.fs.Restore(c.Base); err != nil {
		return errors.Join(saved, err)
	}
	t.step("after restore")
	if c.Told {
		if err := t.undoProgram(ctx); err != nil {
			return errors.Join(saved, err)
		}
	}
	t.step("after undo")
	if c.Verdict != nil {
		t.rec.Refused = c.Verdict
	}
	t.rec.Change = nil
	return t.save(settled)
}

func (t *task) undoProgram(ctx context.Context) error {
	c, unit := t.rec.Change, t.rec.Unit
	st, err := t.opts.Systemd.Status(ctx, unit)
	if err != nil {
		return err
	}
	var errs []error
	switch {
	case c.Active:
		errs = append(errs, t.revive(ctx, st))
	case st.Exists() && st.ActiveState != "inactive" && st.ActiveState != "failed":
		errs = append(errs, t.opts.Systemd.Stop(ctx, unit))
	}
	if !c.Enabled && st.Enabled() {
		errs = append(errs, t.opts.Systemd.Disable(ctx, unit))
	}
	return errors.Join(errs...)
}

// revive brings the old content into force again. A refusal of content that was
// there before is reported once and not fought over: there is nothing better.
func (t *task) revive(ctx context.Context, st systemd.State) error {
	old := t.oldUnit()
	err := t.prog.BeforeStart(ctx, old)
	if err == nil && st.Active() {
		err = t.prog.Reload(ctx, old)
	} else if err == nil {
		err = t.opts.Systemd.Start(ctx, t.rec.Unit)
	}
	if err == nil {
		err = t.prog.Prove(ctx, old)
	}
	var no *plan.Refusal
	if errors.As(err, &no) && no.Reason != observed.NotAnswering && t.rec.Loaded == nil {
		t.opts.Log.Sugar().Errorf("put %s back: the configuration found there is refused as well: %v", t.rec.Unit, no)
		return nil
	}
	return err
}

// oldUnit is the unit in force, with the targets of this moment. A server that
// the new routes don't have starts down if it would take writes, and as HAProxy's
// checks find it otherwise.
func (t *task) oldUnit() plan.Unit {
	if t.rec.Loaded == nil {
		return t.want.unit
	}
	old := t.rec.Loaded.Unit
	if len(old.Routes) == 0 {
		return old
	}
	old.Targets = make(plan.Targets, len(old.Routes))
	for backend, route := range old.Routes {
		servers := make(map[string]plan.Target, len(route.Servers))
		for _, s := range route.Servers {
			target, ok := t.want.unit.Targets[backend][s.Name]
			switch {
			case ok && t.want.unit.Routes[backend].Role == route.Role:
			case route.Role == plan.RoutePrimary:
				target = plan.Target{Held: plan.Leave, Start: plan.Down}
			default:
				target = plan.Target{Held: plan.Leave, Start: plan.Up}
			}
			servers[s.Name] = target
		}
		old.Targets[backend] = servers
	}
	return old
}

package unit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// change is the transaction. An interrupted one is continued: the base it began
// from stays the base, however often it is begun again.
func (t *task) change(ctx context.Context) error {
	if err := t.template(ctx); err != nil {
		return err
	}
	st, err := t.opts.Systemd.Status(ctx, t.rec.Unit)
	if err != nil {
		return err
	}
	if t.leftStopped(st) {
		return errors.Join(stopped(t.rec.Unit), t.keepFiles())
	}
	if t.wasTold() && t.died(ctx, st) != nil { // while no agent was watching
		return t.refuseAfter(ctx, t.died(ctx, st))
	}
	if !t.proofIsMissing(st) {
		if err := t.validate(ctx); err != nil {
			return t.refuseBefore(ctx, err)
		}
		if err := t.begin(st); err != nil {
			return err
		}
		if err := t.swap(); err != nil {
			return errors.Join(err, t.undo(ctx))
		}
		if err := t.tell(ctx, st); err != nil {
			return t.refuseAfter(ctx, err)
		}
	}
	if err := t.prove(ctx); err != nil {
		return t.refuseAfter(ctx, err)
	}
	t.step("before commit")
	t.rec.Loaded = &loaded{Hash: t.want.hash, Unit: t.want.unit, Files: t.want.files, Outside: t.want.outside}
	t.rec.Change, t.rec.Refused, t.rec.Repair = nil, nil, false
	return t.save(settled)
}

// leftStopped: a unit that only people start is down, and not because of this
// change. Nothing is swapped under it, because nothing could be proven.
func (t *task) leftStopped(st systemd.State) bool {
	c := t.rec.Change
	switch {
	case t.prog.Restart() || st.Active():
		return false
	case t.rec.Phase == told && wasStopped(st):
		return true // it had its first start
	case t.rec.Loaded == nil:
		return false
	}
	return c == nil || !c.Told || c.Active && wasStopped(st)
}

// wasStopped: by a stop job, so by a person, and not by its own failure.
func wasStopped(st systemd.State) bool {
	return st.ActiveState == "inactive" && (st.Result == "success" || st.Result == "")
}

// wasTold: a process is known that took this very content, or was about to.
func (t *task) wasTold() bool {
	c := t.rec.Change
	return (t.rec.Phase == telling || t.rec.Phase == told) && c.Hash == t.want.hash && c.PID != 0
}

// proofIsMissing: the program took this very content before the agent was killed,
// or before it stopped answering. Asking it is enough; another reload is not needed.
func (t *task) proofIsMissing(st systemd.State) bool {
	if t.rec.Phase != told || wasStopped(st) || t.rec.Change.Hash != t.want.hash {
		return false
	}
	for _, f := range t.want.files {
		if d, err := t.fs.Compare(f); err != nil || d.Any() {
			return false
		}
	}
	return true
}

func (t *task) validate(ctx context.Context) (err error) {
	t.step("before validate")
	defer func() { err = errors.Join(err, t.unstage(t.rec.Unit)) }()
	s, err := t.stage(t.want)
	if err != nil {
		return err
	}
	if err := t.prog.Validate(ctx, s); err != nil {
		return t.asRefusal(ctx, err)
	}
	return nil
}

// asRefusal makes an answer that could not be had into NotAnswering; the caller's
// own end is not the program's fault.
func (t *task) asRefusal(ctx context.Context, err error) error {
	var r *plan.Refusal
	if errors.As(err, &r) || ctx.Err() != nil {
		return err
	}
	return &plan.Refusal{
		Reason:  observed.NotAnswering,
		Message: fmt.Sprintf("%s could not be asked about the new configuration: %v", t.want.unit.Program, err),
	}
}

// begin journals the state to come back to.
func (t *task) begin(st systemd.State) error {
	rec := t.rec
	paths := map[string]bool{}
	var all []string
	for _, f := range append(t.loadedFiles(), t.want.files...) {
		if !paths[f.Path] {
			paths[f.Path] = true
			all = append(all, f.Path)
		}
	}
	now, err := t.fs.Snapshot(all...)
	if err != nil {
		return err
	}
	c := rec.Change
	if c == nil {
		// What should be running is, as far as going back is concerned.
		should := rec.Loaded != nil && t.prog.Restart()
		c = &change{Active: st.Active() || should, Enabled: st.Enabled() || should}
	}
	for _, s := range now {
		if _, known := rec.Original.Find(s.Path); !known {
			rec.Original = append(rec.Original, s)
		}
		if _, known := c.Base.Find(s.Path); known {
			continue
		}
		// What was proven is better to come back to than what drifted since.
		if good, ok := files.Snapshot(t.loadedFiles()).Find(s.Path); ok {
			s = good
		}
		c.Base = append(c.Base, s)
	}
	c.Hash, c.Verdict = t.want.hash, nil
	rec.Change = c
	return t.save(swapping)
}

func (t *task) loadedFiles() files.Snapshot {
	if t.rec.Loaded == nil {
		return nil
	}
	return append(files.Snapshot(nil), t.rec.Loaded.Files...)
}

// swap puts the files into place. All are written before the first is renamed, so
// a full disk shows itself while nothing has changed.
func (t *task) swap() error {
	if err := t.put(t.want.files); err != nil {
		return err
	}
	for _, f := range t.loadedFiles() { // files that the unit no longer has
		if _, still := t.want.files.Find(f.Path); !still {
			if err := t.fs.Remove(f.Path); err != nil {
				return err
			}
		}
	}
	return nil
}

// put writes those files that are not so already.
func (t *task) put(fs files.Snapshot) error {
	var ready []*files.Pending
	defer func() {
		for _, p := range ready {
			p.Discard()
		}
	}()
	for _, f := range fs {
		if err := t.fs.Sweep(f.Path); err != nil {
			return err
		}
		diff, err := t.fs.Compare(f)
		if err != nil {
			return err
		}
		if !diff.Any() {
			continue
		}
		p, err := t.fs.PrepareSaved(f)
		if err != nil {
			return err
		}
		ready = append(ready, p)
	}
	for _, p := range ready {
		t.step("before rename")
		if err := p.Commit(); err != nil {
			return err
		}
	}
	return nil
}

// hostError is something the host refused, as opposed to the program.
type hostError struct{ error }

func (e hostError) Unwrap() error { return e.error }

// tell has the program start with the files, or reload them.
func (t *task) tell(ctx context.Context, st systemd.State) error {
	t.rec.Change.Told = true
	t.rec.Change.PID, t.rec.Change.Restarts = st.MainPID, st.Restarts
	if err := t.save(telling); err != nil {
		return hostError{err}
	}
	if err := t.prog.BeforeStart(ctx, t.want.unit); err != nil {
		return hostError{err}
	}
	t.step("after BeforeStart")
	if err := t.enable(ctx, st); err != nil {
		return hostError{err}
	}
	if st.Active() {
		if err := t.prog.Reload(ctx, t.want.unit); err != nil {
			return err
		}
		t.step("after reload")
	} else {
		if err := t.opts.Systemd.Start(ctx, t.rec.Unit); err != nil {
			return hostError{err}
		}
		t.step("after start")
		now, err := t.opts.Systemd.Status(ctx, t.rec.Unit)
		if err != nil {
			return err
		}
		t.rec.Change.PID, t.rec.Change.Restarts = now.MainPID, now.Restarts
	}
	if err := t.save(told); err != nil {
		return hostError{err}
	}
	return nil
}

// prove asks the program, then watches it live with the new content for a while.
func (t *task) prove(ctx context.Context) error {
	t.step("before prove")
	if err := t.prog.Prove(ctx, t.want.unit); err != nil {
		return err
	}
	t.step("after prove")
	tick := time.NewTicker(surviveEvery)
	defer tick.Stop()
	c, survive := t.rec.Change, t.opts.Survive
	if s, says := t.prog.(Surviving); says && s.Survive() > 0 {
		survive = min(survive, s.Survive())
	}
	for end := time.Now().Add(survive); ; {
		st, err := t.opts.Systemd.Status(ctx, t.rec.Unit)
		if err != nil {
			return err
		}
		switch err := t.died(ctx, st); {
		case err != nil:
			return err
		case wasStopped(st):
			return fmt.Errorf("%s was stopped while its new configuration was being proven", t.rec.Unit)
		case st.MainPID != c.PID:
			// Restarted by a person: that process has read the new content as well.
			c.PID, c.Restarts, end = st.MainPID, st.Restarts, time.Now().Add(survive)
		case !time.Now().Before(end):
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("watch %s with its new configuration: %w", t.rec.Unit, ctx.Err())
		}
	}
}

// died returns a refusal when the program did not live with the new content: it
// failed, or systemd had to start it again. A new process alone proves nothing; a
// person's restart and a reboot of the host make one as well.
func (t *task) died(ctx context.Context, st systemd.State) error {
	up := st.Active() && st.Restarts <= t.rec.Change.Restarts
	if up || wasStopped(st) {
		return nil
	}
	words := lastLines(t.opts.Systemd.Journal(ctx, t.rec.Unit, 20))
	return death{&plan.Refusal{
		Reason:  observed.RolledBack,
		Message: fmt.Sprintf("%s died of its new configuration: %s", t.rec.Unit, words),
	}}
}

// death is a refusal that nobody spoke.
type death struct{ *plan.Refusal }

func (d death) Unwrap() error { return d.Refusal }

func isDeath(err error) bool {
	var d death
	return errors.As(err, &d)
}

// lastLines keeps the end of a program's words, on one line: a message is read in
// a table, and the journal has the rest.
func lastLines(words string) string {
	const enough = 6
	lines := strings.Split(strings.TrimSpace(words), "\n")
	return strings.Join(lines[max(0, len(lines)-enough):], " | ")
}

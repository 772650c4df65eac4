package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

const (
	// runLook is how often a backup is looked at, and at most how often how far it is is
	// written.
	runLook = 2 * time.Second
	// keepEvery is how often systemd is told that somebody looks after it: four times before
	// it would end it.
	keepEvery = plan.BackupLost / 4
	// heedEvery is how often it is looked whether a step is still to be done.
	heedEvery = time.Second
	// stepRetry is how soon a step is taken up again that etcd got in the way of.
	stepRetry = 5 * time.Second
	// labelTries and labelPause bound the search for what a backup is called, in a repository
	// that took it a moment ago.
	labelTries = 3
	labelPause = 5 * time.Second
)

// Why a step beside others is given up; the causes of its context.
var (
	errStepGone  = errors.New("nobody asks for it any more")
	errLedByElse = errors.New("another member leads")
	errCutOff    = fmt.Errorf("the agent was cut off from etcd for %s", plan.BackupLost)
)

// beside carries out a step that others go on beside: a backup of hours holds up nothing.
func (c *cluster) beside(ctx context.Context, e kv.KV) {
	gone := make(chan struct{})
	c.mu.Lock()
	_, doing := c.doing[e.Key]
	if !doing {
		c.doing[e.Key] = gone
	}
	c.mu.Unlock()
	if doing {
		c.log.Warn("step not taken: it is being carried out", zap.String("key", e.Key))
		return
	}
	// Whoever asked waits for an answer until the deadline, a day; an etcd that does not
	// answer, or did and was not heard, must not be the reason that there is none.
	for withdrawn := false; ; {
		err := c.step(ctx, e, gone)
		if err == nil || ctx.Err() != nil {
			break
		}
		c.log.Error("step not carried out", zap.String("key", e.Key), zap.Error(err))
		if withdrawn {
			break
		}
		select {
		case <-ctx.Done():
		case <-gone:
			withdrawn = true // what was begun is ended, once more
		case <-time.After(stepRetry):
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.doing[e.Key] == gone {
		delete(c.doing, e.Key)
	}
}

// withdrawn ends what is done for a step that was deleted.
func (c *cluster) withdrawn(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if gone := c.doing[key]; gone != nil {
		close(gone)
		delete(c.doing, key)
	}
}

// act does a step beside others. begun: an earlier run of the agent began it.
func (s *stepper) act(ctx context.Context, own plan.Member, begun bool) error {
	host := s.a.o.Host
	heeded, stop := s.heed(ctx)
	defer stop()
	var r observed.StepResult
	var err error
	switch s.Act {
	case plan.ActStanza: // doing it again is a proof and nothing more
		if err = host.Backups.Stanza(heeded, s.name, own); err == nil {
			r.Message = "the stanza is there, and WAL reaches the archive"
			_, _ = s.backups.look(heeded) // the report says what became of that
		}
	case plan.ActArchive: // and so is this
		var lsn string
		if lsn, err = host.Backups.Archive(heeded, s.name, own); err == nil {
			r.Message = "the archive has everything up to " + lsn
		}
	case plan.ActBackup:
		r, err = s.backup(heeded, begun)
	case plan.ActHeartbeat: // the row of an earlier run is written over
		r, err = s.heartbeat(heeded, own)
	case plan.ActVerify:
		r, err = s.verify(heeded, begun)
	default:
		r, err = s.restore(heeded, own, begun)
	}
	why := context.Cause(heeded)
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // the agent ends; a backup goes on, and the next run takes it up
	case err == nil:
		r.State = observed.StepDone
		if err := s.say(ctx, &r); err != nil {
			return err
		}
		s.ended(ctx, true) // how it ended has been said
		return nil
	case why != nil:
		err = why
	}
	s.ended(ctx, false) // first, since whoever reads the answer may begin another one
	return s.gaveUp(ctx, err)
}

// ended stops and forgets the unit of a step that has one.
func (s *stepper) ended(ctx context.Context, well bool) {
	switch s.Act {
	case plan.ActBackup:
		s.endRun(ctx)
	case plan.ActPrepare:
		s.endScratch(ctx, s.Restore.Prepared(), !well)
	case plan.ActVerify:
		s.endScratch(ctx, s.Verify.Folder(), true)
	}
}

// heed is a context that ends with its cause when the step is not to be done any more:
// it was withdrawn, another member leads, or this agent can't know either.
func (s *stepper) heed(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(heedEvery)
		defer ticker.Stop()
		for known := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case <-s.gone:
				cancel(errStepGone)
			case now := <-ticker.C:
				view := s.look()
				switch {
				case !s.stillAsked(): // it went before anybody heeded that
					cancel(errStepGone)
				case !fresh(view, now):
					if now.Sub(known) >= plan.BackupLost {
						cancel(errCutOff)
					}
				case s.OnPrimary() && view.Leader.Member != "" && view.Leader.Member != s.Member:
					cancel(errLedByElse)
				default:
					known = view.FreshAt
				}
			}
		}
	}()
	return ctx, func() { cancel(nil); <-ended }
}

// stillAsked reports whether the step is there, as far as this agent knows.
func (s *stepper) stillAsked() bool {
	m := s.a.plans.Load()
	if m == nil {
		return true
	}
	_, there := m.Snapshot().Get(s.asked.Key)
	return there
}

// look is the present view.
func (c *cluster) look() plan.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lookLocked().view
}

// backup takes one backup, or follows the one that an earlier run of the agent began.
func (s *stepper) backup(ctx context.Context, begun bool) (observed.StepResult, error) {
	runs := s.a.o.Host.BackupRuns
	if !begun {
		if err := runs.Start(ctx, s.name, s.order(ctx)); err != nil {
			return observed.StepResult{}, err
		}
	}
	ticker := time.NewTicker(runLook)
	defer ticker.Stop()
	for kept, warned := (time.Time{}), false; ; {
		now := time.Now()
		if now.Sub(kept) >= keepEvery && fresh(s.look(), now) {
			if err := runs.Keep(ctx, s.name); err != nil && ctx.Err() == nil && !warned {
				warned = true // it is tried again every two seconds
				s.log.Warn("systemd was not told that the backup is looked after", zap.Error(err))
			} else if err == nil {
				kept, warned = now, false
			}
		}
		run, err := runs.Run(ctx, s.name)
		switch {
		case err != nil:
			s.log.Warn("backup not looked at", zap.Error(err)) // systemd may be away for a moment
		case run.Step == s.id && run.Running:
			s.progress(ctx, run.Progress)
		case run.Step == s.id && run.Err != nil:
			return observed.StepResult{}, run.Err
		default: // it went well, or the host was booted since
			return s.named(ctx, run.Step == s.id)
		}
		select {
		case <-ctx.Done():
			return observed.StepResult{}, ctx.Err()
		case <-ticker.C:
		}
	}
}

// progress writes how far the backup is, when that is news.
func (s *stepper) progress(ctx context.Context, p *observed.Progress) {
	if p == nil || s.last.Progress != nil && *p == *s.last.Progress {
		return
	}
	r := s.last
	r.Progress, r.Message = p, "copying"
	if err := s.say(ctx, &r); err != nil && ctx.Err() == nil {
		s.log.Debug("how far the backup is was not written", zap.Error(err))
	}
}

// named finds the backup that the step made. well: its run is known to have ended well.
func (s *stepper) named(ctx context.Context, well bool) (observed.StepResult, error) {
	var r *observed.Repository
	var err error
	for try := range labelTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return observed.StepResult{}, ctx.Err()
			case <-time.After(labelPause):
			}
		}
		if r, err = s.backups.look(ctx); err == nil {
			break
		}
	}
	b, found := made(r, s.id)
	switch {
	case found:
		r := observed.StepResult{Label: b.Label, Message: "backup " + b.Label}
		if b.From != "" && b.From != s.Member {
			r.Message += ", copied from " + b.From
		} else if s.Standby {
			r.Message += ", copied from the primary, since no replica could be"
		}
		return r, nil
	case well && err != nil:
		return observed.StepResult{Message: "it was taken; what it is called is not known: " + err.Error()}, nil
	case well:
		return observed.StepResult{}, &plan.Refusal{Reason: observed.BackupFailed, Message: "pgBackRest ended well and the repository has no backup of this step",
			Next: "pgctrl backup check " + s.name}
	case err != nil:
		return observed.StepResult{}, fmt.Errorf("the backup does not run any more, and whether it was taken is not known: %w", err)
	}
	return observed.StepResult{}, &plan.Refusal{Reason: observed.BackupFailed, Next: "pgctrl status " + s.name,
		Message: "the backup was cut short, as when the host is booted; the next one takes up what was copied"}
}

// endRun stops the step's backup, and nobody else's.
func (s *stepper) endRun(ctx context.Context) {
	runs := s.a.o.Host.BackupRuns
	run, err := runs.Run(ctx, s.name)
	if err == nil && run.Step == s.id {
		err = runs.End(ctx, s.name)
	}
	if err != nil {
		s.log.Error("backup not stopped; systemd does that once nobody looks after it", zap.Error(err))
	}
}

// gaveUp says why nothing came of the step.
func (s *stepper) gaveUp(ctx context.Context, err error) error {
	r := &observed.StepResult{State: observed.StepFailed, Reason: observed.BackupFailed, Message: err.Error(), Next: "pgctrl status " + s.name}
	if s.Act.Restores() {
		r.Reason = observed.RestoreFailed
	}
	var refusal *plan.Refusal
	switch {
	case errors.As(err, &refusal):
		r.Reason, r.Message, r.Next = refusal.Reason, refusal.Message, refusal.Next
	case errors.Is(err, errLedByElse):
		r.Reason = observed.LeaderChanged
	case errors.Is(err, errCutOff):
		r.Reason = observed.AgentCutOff
	}
	said := s.say(ctx, r)
	if errors.Is(err, errStepGone) && errors.Is(said, store.ErrConflict) {
		return nil // whoever withdrew the step took the answer along
	}
	return said
}

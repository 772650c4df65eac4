package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// The steps of a restore in place. Each is done again from the beginning by an agent that was
// started anew: it looks at what is there and does what is missing.

const (
	// LeadWithin is how long restored data may take to lead: PostgreSQL starts on data that
	// were shut down cleanly, and Patroni takes a free leader key within its loop_wait, 10 s.
	LeadWithin = 2 * time.Minute
	// BackWithin is how long data that were put back may take until PostgreSQL runs on them.
	BackWithin = 3 * time.Minute
	// endedFor is how long Patroni must have ended until it is believed not to come.
	endedFor = 5 * time.Second
)

// InPlace changes the data directory of a member whose Patroni stands still. What it refuses
// is a *plan.Refusal.
type InPlace interface {
	// CanSwap refuses a data directory that can't be renamed. Nothing is stopped for it.
	CanSwap(r plan.Restore) error
	// Left are folders in which a restore was prepared, whoever's.
	Left(r plan.Restore) []string
	// Aside stops Patroni and PostgreSQL and renames the data; where they are now is empty when
	// there were none.
	Aside(ctx context.Context, cluster string, r plan.Restore) (where string, err error)
	// Swap is Aside, and puts what was prepared in the place of the data.
	Swap(ctx context.Context, cluster string, r plan.Restore) error
	// Kept reports whether former data are aside.
	Kept(r plan.Restore) bool
	// Back stops them and has the former data in their place again.
	Back(ctx context.Context, cluster string, r plan.Restore) error
	// Start starts Patroni; Runs is an error with its last words when it does not run.
	Start(ctx context.Context, cluster string) error
	Runs(ctx context.Context, cluster string) error
	// Discard deletes what a restore made and kept here.
	Discard(r plan.Restore) (removed []string, err error)
}

// restore does a step of a restore in place.
func (s *stepper) restore(ctx context.Context, own plan.Member, begun bool) (r observed.StepResult, err error) {
	host, what := s.a.o.Host.InPlace, *s.Restore
	// An agent that was started anew goes on with what was judged before, once it sees who leads.
	for begun && !fresh(s.look(), time.Now()) {
		if !idle.For(ctx, StepLook) {
			return r, ctx.Err()
		}
	}
	leads := s.look().Leader.Member
	if s.Act == plan.ActAside && leads == s.Member || s.Act == plan.ActSwap && leads != "" && leads != s.Member {
		return r, errLedByElse
	}
	switch s.Act {
	case plan.ActPrepare:
		return s.prepare(ctx, begun)
	case plan.ActAside:
		var where string
		if where, err = host.Aside(ctx, s.name, what); where != "" {
			r.Message = "stopped; its data are kept in " + where
		} else {
			r.Message = "stopped; it had no data"
		}
		return r, err
	case plan.ActSwap:
		r.Message = "stopped; the restored data are in place, the former ones are kept in " + what.Before()
		return r, host.Swap(ctx, s.name, what)
	case plan.ActLead:
		return s.lead(ctx, own)
	case plan.ActFollow:
		return s.rejoin(ctx, own, begun)
	case plan.ActBack:
		return s.putBack(ctx, own)
	}
	removed, err := host.Discard(what)
	r.Message = "there was nothing to remove"
	if len(removed) > 0 {
		r.Message = "removed " + strings.Join(removed, ", ")
	}
	return r, err
}

// prepare restores the backup beside the data and recovers it up to the target there.
func (s *stepper) prepare(ctx context.Context, begun bool) (observed.StepResult, error) {
	runs, host, r := s.a.o.Host.Scratch, s.a.o.Host.InPlace, *s.Restore
	if err := host.CanSwap(r); err != nil {
		return observed.StepResult{}, err
	}
	if !begun {
		for _, dir := range host.Left(r) {
			if err := runs.Remove(ctx, s.name, dir); err != nil {
				s.log.Warn("what a restore that was not finished left was not removed", zap.String("folder", dir), zap.Error(err))
			}
		}
		err := runs.Start(ctx, s.name, ScratchOrder{
			Step: s.id, Dir: r.Prepared(), Bin: r.Bin, Backup: r.Backup, Target: plan.RecoveryTarget{Type: r.Target, Value: r.Value}, Keep: true,
		})
		if err != nil {
			return observed.StepResult{}, err
		}
	}
	got, err := s.watchScratch(ctx)
	if err != nil {
		return observed.StepResult{}, err
	}
	s.mu.Lock()
	view := s.lookLocked().view
	s.mu.Unlock()
	if p := view.Primary; p != nil && got.Timeline > 0 && got.Timeline <= p.Timeline {
		return observed.StepResult{}, &plan.Refusal{Reason: observed.RestoreFailed, Next: "pgctrl restore --help (into a new cluster)", Message: fmt.Sprintf(
			"the restored data are on timeline %d, and the cluster is on %d already: the repository does not know the cluster's history", got.Timeline, p.Timeline)}
	}
	if view.System != "" && got.System != "" && got.System != view.System {
		return observed.StepResult{}, &plan.Refusal{Reason: observed.RestoreFailed, Message: "the backup is one of another database, with system identifier " + got.System}
	}
	said := "recovered up to " + got.LSN
	if !got.At.IsZero() {
		said += ", whose last transaction is of " + got.At.UTC().Format(time.RFC3339)
	}
	return observed.StepResult{Label: got.Label, Message: said}, nil
}

// watchScratch looks after the restore beside the data until it has ended.
func (s *stepper) watchScratch(ctx context.Context) (observed.Recovered, error) {
	runs := s.a.o.Host.Scratch
	ticker := time.NewTicker(runLook)
	defer ticker.Stop()
	for kept := (time.Time{}); ; {
		now := time.Now()
		if now.Sub(kept) >= keepEvery && fresh(s.look(), now) && runs.Keep(ctx, s.name) == nil {
			kept = now
		}
		run, err := runs.Run(ctx, s.name)
		switch {
		case err != nil:
			s.log.Warn("restore not looked at", zap.Error(err)) // systemd may be away for a moment
		case run.Step == s.id && run.Running:
			s.tell(ctx, run.Progress, run.Message)
		case run.Step == s.id && run.Err != nil:
			return observed.Recovered{}, run.Err
		case run.Step == s.id && run.Result != nil:
			return *run.Result, nil
		default:
			return observed.Recovered{}, &plan.Refusal{Reason: observed.RestoreFailed, Next: "pgctrl status " + s.name, Message: "it was cut short, as when the host is booted"}
		}
		select {
		case <-ctx.Done():
			return observed.Recovered{}, ctx.Err()
		case <-ticker.C:
		}
	}
}

// tell writes how far it is, when that is news.
func (s *stepper) tell(ctx context.Context, p *observed.Progress, message string) {
	same := p == nil && s.last.Progress == nil || p != nil && s.last.Progress != nil && *p == *s.last.Progress
	if same && message == s.last.Message {
		return
	}
	r := s.last
	r.Progress, r.Message = p, message
	if err := s.say(ctx, &r); err != nil && ctx.Err() == nil {
		s.log.Debug("how far it is was not written", zap.Error(err))
	}
}

// endScratch stops the step's restore, and removes what it made.
func (s *stepper) endScratch(ctx context.Context, dir string, remove bool) {
	runs := s.a.o.Host.Scratch
	run, err := runs.Run(ctx, s.name)
	if err == nil && run.Step == s.id {
		err = runs.End(ctx, s.name)
	}
	if remove && err == nil {
		err = runs.Remove(ctx, s.name, dir)
	}
	if err != nil {
		s.log.Error("a restore beside the data was not ended whole", zap.Error(err))
	}
}

// lead starts Patroni on the restored data and waits until they take writes.
//
// Patroni lets nobody lead whose WAL ends before the place that the last leader wrote into its
// key status, and restored data do. That key and what else says who could lead of the data
// that are gone goes while nobody leads and every Patroni stands still.
func (s *stepper) lead(ctx context.Context, own plan.Member) (observed.StepResult, error) {
	forgotten, err := s.forgetPosition(ctx)
	if err != nil {
		return observed.StepResult{}, err
	}
	if err := s.a.o.Host.InPlace.Start(ctx, s.name); err != nil {
		return observed.StepResult{}, err
	}
	began := time.Now()
	return observed.StepResult{Message: "takes writes"}, s.until(ctx, own, LeadWithin, func(v plan.View) (bool, error) {
		switch {
		case v.Leader.Member == "" && !forgotten:
			// The key of the former leadership outlived its Patroni, and is gone now.
			forgotten, err = s.forgetPosition(ctx)
			return false, err
		case v.Leader.Member != "" && v.Leader.Member != s.Member:
			return false, errLedByElse
		}
		// The former data's confirmation is still there, and their leader key may be.
		confirmed := v.Confirmed() && plan.Epoch(v.Primary.Epoch) == v.Leader.Epoch
		return confirmed && v.Leader.Member == s.Member && s.takesWrites(began), nil
	})
}

// takesWrites reports whether this node's PostgreSQL said since then that it does.
func (s *stepper) takesWrites(since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	local := s.proofs.Local
	return local.Reachable && !local.InRecovery && !local.At.Before(since)
}

// forgetPosition deletes what Patroni keeps of who may lead, while nobody does; false: somebody
// leads.
func (s *stepper) forgetPosition(ctx context.Context) (bool, error) {
	var ops []store.Op
	for _, key := range s.a.o.Layout.Positions(s.name) {
		ops = append(ops, store.Delete(key))
	}
	_, err := s.client.Commit(ctx, []store.Guard{store.ModIs(s.a.o.Layout.Leader(s.name), 0)}, ops)
	if errors.Is(err, store.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// rejoin starts Patroni on an empty place and waits until it has copied the leader's data and
// streams.
func (s *stepper) rejoin(ctx context.Context, own plan.Member, begun bool) (observed.StepResult, error) {
	host := s.a.o.Host.InPlace
	if host.Runs(ctx, s.name) != nil || !begun && !host.Kept(*s.Restore) {
		// Data that are there are of before: a host that was booted meanwhile copied them. Where the
		// former ones are aside, a Patroni that runs was started here, and copies: perhaps for hours,
		// in which this was asked once more.
		if _, err := host.Aside(ctx, s.name, *s.Restore); err != nil {
			return observed.StepResult{}, err
		}
		if err := host.Start(ctx, s.name); err != nil {
			return observed.StepResult{}, err
		}
	}
	return observed.StepResult{Message: "copied and streaming"}, s.until(ctx, own, 0, func(plan.View) (bool, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.replication == observed.ReplicationStreaming, nil
	})
}

// putBack has the former data in their place and PostgreSQL run on them.
func (s *stepper) putBack(ctx context.Context, own plan.Member) (observed.StepResult, error) {
	host := s.a.o.Host.InPlace
	leads, err := s.leads(ctx)
	switch {
	case err != nil:
		return observed.StepResult{}, err
	case leads:
		// Clients write to what it leads with: the restored data, or the former ones.
		if host.Kept(*s.Restore) {
			return observed.StepResult{Reason: observed.Leading, Message: "leads, and is left so; data that were set aside here stay so"}, nil
		}
		return observed.StepResult{Message: "leads on its former data"}, nil
	}
	if err := host.Back(ctx, s.name, *s.Restore); err != nil {
		return observed.StepResult{}, err
	}
	if err := host.Start(ctx, s.name); err != nil {
		return observed.StepResult{}, err
	}
	return observed.StepResult{Message: "runs on its former data"}, s.until(ctx, own, BackWithin, func(plan.View) (bool, error) {
		at, err := s.a.o.Host.Peers.Status(ctx, own)
		up := err == nil && at.Started != ""
		if s.Member == s.Restore.First {
			// The others follow it, and none of them may come before it.
			up = up && s.look().Leader.Member != ""
		}
		return up, nil
	})
}

// leads reports whether clients write to the member. A leader key in its name is not enough: it
// outlives a Patroni that was killed for up to its ttl, and one that takes it promotes
// afterwards. What becomes of it is waited for.
func (s *stepper) leads(ctx context.Context) (bool, error) {
	for began := time.Now(); s.look().Leader.Member == s.Member; {
		switch now := time.Now(); {
		case s.takesWrites(now.Add(-ProofFor)):
			return true, nil
		case now.Sub(began) > BackWithin:
			return false, &plan.Refusal{
				Reason: observed.NotAnswering, Next: s.journal(),
				Message: fmt.Sprintf("holds the leader key for %s, and its PostgreSQL takes no writes", BackWithin),
			}
		}
		if !idle.For(ctx, StepLook) {
			return false, ctx.Err()
		}
	}
	return false, nil
}

// until waits for what comes of a start, and says meanwhile what Patroni is at. It ends when
// Patroni does, and after limit; 0: as long as somebody asks for it.
func (s *stepper) until(ctx context.Context, own plan.Member, limit time.Duration, is func(plan.View) (bool, error)) error {
	began, up, said := time.Now(), time.Now(), ""
	for {
		ok, err := is(s.look())
		if ok || err != nil {
			return err
		}
		now := time.Now()
		runs := s.a.o.Host.InPlace.Runs(ctx, s.name)
		if runs == nil {
			up = now
		}
		switch {
		case now.Sub(up) > endedFor:
			return &plan.Refusal{Reason: observed.RestoreFailed, Message: runs.Error(), Next: s.journal()}
		case limit > 0 && now.Sub(began) > limit:
			return &plan.Refusal{Reason: observed.NotAnswering, Message: fmt.Sprintf("not there after %s; Patroni says %q", limit, said), Next: s.journal()}
		}
		if at, err := s.a.o.Host.Peers.Status(ctx, own); err == nil && at.State != said {
			said = at.State
			s.tell(ctx, nil, said)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(StepLook):
		}
	}
}

func (s *stepper) journal() string {
	return "journalctl -n 60 -u patroni@" + s.name + " (on " + s.a.o.Node + ")"
}

package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// Steps: one act asked of this node, once, by a person's command. What came of it is
// written beside it; "accepted" goes before the act, so that an agent started anew
// never does it twice.

const (
	// StepWait is how long a step waits for a fresh view before it is left undone.
	StepWait = 10 * time.Second
	// BusyFor is how long Patroni is asked again while it does something else. Bringing up a
	// PostgreSQL takes it as long as there is WAL to be replayed.
	BusyFor = 2 * time.Minute
	// StepLook is how often the progress of a copy is looked at.
	StepLook = 500 * time.Millisecond
)

// stepAsked hands a step to its cluster. It runs on the mirror's goroutine.
func (a *Agent) stepAsked(ch store.Change) {
	if ch.New == nil {
		for _, c := range a.all() {
			c.withdrawn(ch.Key)
		}
		return
	}
	s, err := observed.Decode[plan.Step](*ch.New)
	if err == nil && s.Act == plan.ActHook {
		a.hooks.asked(*ch.New, s)
		return
	}
	a.mu.Lock()
	c := a.clusters[s.Cluster]
	a.mu.Unlock()
	if err != nil || c == nil {
		a.log.Warn("step not taken: it can't be read, or is for a cluster that is not here", zap.String("key", ch.Key), zap.Error(err))
		return
	}
	select {
	case c.steps <- *ch.New:
	default:
		a.log.Warn("step not taken: too many are waiting", zap.String("key", ch.Key))
	}
}

// stepLoop does one step after the other, and beside them those that may.
func (c *cluster) stepLoop(ctx context.Context) {
	var others sync.WaitGroup
	defer others.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-c.steps:
			if s, err := observed.Decode[plan.Step](e); err == nil && s.Act.Beside() {
				others.Go(func() { c.beside(ctx, e) })
				continue
			}
			if err := c.step(ctx, e, nil); err != nil && ctx.Err() == nil {
				c.log.Error("step not carried out", zap.String("key", e.Key), zap.Error(err))
			}
		}
	}
}

// stepper is one step being carried out.
type stepper struct {
	*cluster
	plan.Step
	reply
	id   string          // its name below the node's steps
	gone <-chan struct{} // closed when it is withdrawn; nil: nobody heeds that
}

func (c *cluster) step(ctx context.Context, e kv.KV, gone <-chan struct{}) error {
	s, err := observed.Decode[plan.Step](e)
	if err != nil {
		return err
	}
	st := &stepper{cluster: c, Step: s, id: c.a.stepID(e.Key), gone: gone, reply: c.a.replyTo(e, c.log)}
	old, found, err := st.client.Get(ctx, st.result)
	if err != nil {
		return err
	}
	if found {
		st.rev = old.ModRevision
		if st.last, err = observed.Decode[observed.StepResult](old); err != nil || st.last.Final() || st.last.Step != e.ModRevision {
			return err
		}
		return st.goOn(ctx)
	}
	return st.begin(ctx)
}

// begin judges the step and does it.
func (s *stepper) begin(ctx context.Context) error {
	own, no, err := s.judge(ctx)
	if err != nil || no != nil {
		return errors.Join(err, s.refuse(ctx, no))
	}
	var before patroni.Status
	if !s.Act.Beside() {
		before, _ = s.a.o.Host.Peers.Status(ctx, own) // none while PostgreSQL is down
	}
	layout := s.a.o.Layout
	err = s.say(ctx, &observed.StepResult{State: observed.StepAccepted, Before: before.Started, Message: "begun"},
		store.ModIs(s.asked.Key, s.asked.ModRevision), store.ModIs(layout.Leader(s.name), int64(s.Epoch)))
	if errors.Is(err, store.ErrConflict) {
		return s.refuse(ctx, &observed.StepResult{State: observed.StepRefused, Reason: observed.LeaderChanged,
			Message: "the leader changed meanwhile", Next: "pgctrl status " + s.name})
	}
	if err != nil {
		return err
	}
	s.log.Info("step begins", zap.String("act", string(s.Act)), zap.String("key", s.asked.Key), zap.String("by", s.By))
	if s.Act.Beside() {
		return s.act(ctx, own, false)
	}
	if s.Act == plan.ActRestart {
		did, err := s.a.o.Host.Acts.Restart(ctx, s.name, s.Pending)
		switch {
		case err != nil:
			return s.failed(ctx, err)
		case !did:
			return s.say(ctx, &observed.StepResult{State: observed.StepDone, Message: "nothing waited for a restart"})
		}
		return s.say(ctx, &observed.StepResult{State: observed.StepDone, Message: "restarted"})
	}
	return s.reinit(ctx, own)
}

// reinit asks Patroni to copy the member anew, and again while it is busy: a member whose data fit
// no longer, and so one to be copied, is one that Patroni tries to bring up over and over.
func (s *stepper) reinit(ctx context.Context, own plan.Member) error {
	for deadline := time.Now().Add(BusyFor); ; {
		err := s.a.o.Host.Acts.Reinit(ctx, s.name)
		switch {
		case err == nil:
			return s.copying(ctx, own)
		case !errors.Is(err, ErrBusy) || time.Now().After(deadline):
			return s.failed(ctx, err)
		}
		if !s.last.Waits {
			r := observed.StepResult{State: observed.StepAccepted, Before: s.last.Before, Waits: true, Message: "waits for Patroni, " + err.Error()}
			if err := s.say(ctx, &r); err != nil {
				return err
			}
		}
		if !idle.For(ctx, StepLook) {
			return ctx.Err()
		}
		if _, there, err := s.client.Get(ctx, s.asked.Key); err == nil && !there {
			return nil // it is not wanted any more
		}
		if _, no, err := s.judge(ctx); err != nil || no != nil {
			return errors.Join(err, s.refuse(ctx, no))
		}
	}
}

// judge waits for a fresh view and asks plan.JudgeStep.
func (s *stepper) judge(ctx context.Context) (plan.Member, *observed.StepResult, error) {
	host := s.a.o.Host
	if s.Act.Beside() && (host.Backups == nil || host.BackupRuns == nil) {
		return plan.Member{}, &observed.StepResult{State: observed.StepRefused, Reason: observed.Unsupported, Message: "this host takes no backups"}, nil
	}
	if s.Act.Restores() && (host.Scratch == nil || host.InPlace == nil) {
		return plan.Member{}, &observed.StepResult{State: observed.StepRefused, Reason: observed.Unsupported, Message: "this host takes no restores"}, nil
	}
	if s.Act == plan.ActVerify && host.Scratch == nil {
		return plan.Member{}, &observed.StepResult{State: observed.StepRefused, Reason: observed.Unsupported, Message: "this host takes no restores"}, nil
	}
	if host.Acts == nil {
		return plan.Member{}, &observed.StepResult{State: observed.StepRefused, Reason: observed.Unsupported, Message: "this host takes no steps"}, nil
	}
	for deadline := time.Now().Add(StepWait); ; {
		now := time.Now()
		s.mu.Lock()
		view := s.lookLocked().view
		own, _ := s.info.Own()
		con := s.concerns["postgres"]
		frozen := con != nil && con.plan.Freeze.Active(now)
		s.mu.Unlock()
		frozen = frozen || s.frozen() != nil
		no, wait := plan.JudgeStep(s.Step, own, frozen, view, now)
		if !wait {
			return own, no, nil
		}
		if now.After(deadline) {
			return own, &observed.StepResult{State: observed.StepRefused, Reason: observed.StaleView, Message: "the agent's view of etcd is too old to act on"}, nil
		}
		select {
		case <-ctx.Done():
			return own, nil, ctx.Err()
		case <-time.After(StepLook):
		}
	}
}

// goOn takes up a step that an earlier run of the agent began. A copy or a backup is
// looked after; whether a restart came about, that run alone knew.
func (s *stepper) goOn(ctx context.Context) error {
	own, _ := s.own()
	switch {
	case s.Act == plan.ActReinit && s.last.Waits:
		return s.reinit(ctx, own)
	case s.Act == plan.ActReinit:
		return s.copying(ctx, own)
	case s.Act.Beside():
		return s.act(ctx, own, true)
	}
	return s.say(ctx, &observed.StepResult{State: observed.StepFailed, Reason: observed.NotAnswering,
		Message: "the agent was started anew meanwhile; whether PostgreSQL restarted is not known", Next: "pgctrl status " + s.name})
}

// copying follows a copy until the member streams, and says what it is at.
func (s *stepper) copying(ctx context.Context, own plan.Member) error {
	for looks := 1; ; looks++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(StepLook):
		}
		if looks%20 == 0 {
			if _, there, err := s.client.Get(ctx, s.asked.Key); err == nil && !there {
				return nil // nobody wants to know any more
			}
		}
		at, err := s.a.o.Host.Peers.Status(ctx, own)
		s.mu.Lock()
		streams := s.replication == observed.ReplicationStreaming
		s.mu.Unlock()
		r := observed.StepResult{State: observed.StepAccepted, Before: s.last.Before, Message: at.State}
		switch {
		case err != nil:
			continue
		case at.Started != "" && at.Started != s.last.Before && streams:
			r.State, r.Message = observed.StepDone, "copied anew and streaming"
		case at.Started != "" && at.Started != s.last.Before:
			r.Message = "copied; waiting for WAL"
		case at.Started != "":
			r.Message = "stopping"
		}
		if r.Message == s.last.Message && !r.Final() {
			continue
		}
		if err := s.say(ctx, &r); err != nil || r.Final() {
			return err
		}
	}
}

func (s *stepper) failed(ctx context.Context, err error) error {
	return s.say(ctx, &observed.StepResult{
		State: observed.StepFailed, Reason: observed.ApplyFailed, Message: "Patroni: " + err.Error(),
		Next: "journalctl -n 60 -u patroni@" + s.name + " (on " + s.a.o.Node + ")",
	})
}

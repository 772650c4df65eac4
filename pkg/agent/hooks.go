package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// Programs of operators, which hooks name. They are the agent's and no cluster's: a node that
// has no member runs them as well. They go on beside everything else and hold up nothing;
// those of one hook run one after the other, in the order in which they were asked for.

const (
	// HooksAtOnce is how many programs run at a time: a node is there for a database.
	HooksAtOnce = 4
	// HooksWaiting is how many wait for their turn. Whoever asks waits for seconds only.
	HooksWaiting = 16
	// hookExcerpt is how many bytes of a program's output are written to etcd. The journal has
	// the rest.
	hookExcerpt = 1 << 10
)

// hookAsked is a run that was asked for.
type hookAsked struct {
	e    kv.KV
	step plan.Step
	// busy: too many wait already, and it is only said so.
	busy bool
}

// name is what runs one at a time.
func (h hookAsked) name() string {
	if h.step.Hook == nil {
		return h.e.Key // it is refused
	}
	return h.step.Cluster + "/" + h.step.Hook.Name
}

// hooks has one goroutine that hands out turns, and one for each program that runs.
type hooks struct {
	a    *Agent
	log  *zap.Logger
	wake chan struct{}

	mu      sync.Mutex
	waiting []hookAsked
	full    []hookAsked // to be told that too many wait
	running map[string]bool
}

func newHooks(a *Agent) *hooks {
	return &hooks{a: a, log: a.log.Named("hooks"), wake: make(chan struct{}, 1), running: map[string]bool{}}
}

// asked takes a step. It runs on the mirror's goroutine.
func (h *hooks) asked(e kv.KV, s plan.Step) {
	h.mu.Lock()
	if q := (hookAsked{e: e, step: s}); len(h.waiting) < HooksWaiting {
		h.waiting = append(h.waiting, q)
	} else {
		q.busy = true
		h.full = append(h.full, q)
	}
	h.mu.Unlock()
	poke(h.wake)
}

// run hands out turns until ctx ends, and then waits for those who had theirs.
func (h *hooks) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		for _, q := range h.turns() {
			wg.Go(func() {
				h.do(ctx, q)
				h.mu.Lock()
				delete(h.running, q.name())
				h.mu.Unlock()
				poke(h.wake)
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		}
	}
}

// turns takes from the queue whose turn it is: the oldest of each hook of which nothing runs.
func (h *hooks) turns() (out []hookAsked) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var left []hookAsked
	for _, q := range h.waiting {
		if len(h.running) >= HooksAtOnce || h.running[q.name()] {
			left = append(left, q)
			continue
		}
		h.running[q.name()] = true
		out = append(out, q)
	}
	h.waiting = left
	for _, q := range h.full {
		q.step.Hook = nil // it has no turn of its hook's
		out = append(out, q)
	}
	h.full = nil
	return out
}

func (h *hooks) do(ctx context.Context, q hookAsked) {
	if err := h.step(ctx, q); err != nil && ctx.Err() == nil {
		h.log.Error("program of a hook not run", zap.String("key", q.e.Key), zap.Error(err))
	}
}

func (h *hooks) step(ctx context.Context, q hookAsked) error {
	ans := h.a.replyTo(q.e, h.log)
	old, found, err := ans.client.Get(ctx, ans.result)
	for err != nil && q.step.Hook != nil && time.Now().Before(q.step.Hook.Expires) {
		if !idle.For(ctx, StepLook) {
			return ctx.Err()
		}
		old, found, err = ans.client.Get(ctx, ans.result)
	}
	if err != nil {
		return err
	}
	if found {
		ans.rev = old.ModRevision
		if ans.last, err = observed.Decode[observed.StepResult](old); err != nil || ans.last.Step == q.e.ModRevision && ans.last.Final() {
			return err
		}
		if ans.last.Step == q.e.ModRevision {
			// Whether to try again is for whoever asks to say, who may know that it does no harm.
			return ans.refuse(ctx, &observed.StepResult{State: observed.StepFailed, Reason: observed.NotAnswering,
				Message: "the agent was started anew; whether it ran is not known", Next: h.journal()})
		}
	}
	if q.busy {
		return ans.refuse(ctx, &observed.StepResult{State: observed.StepRefused, Reason: observed.HookBusy,
			Message: fmt.Sprintf("%d programs of hooks wait for their turn on node %s already", HooksWaiting, h.a.o.Node), Next: h.journal()})
	}
	no, err := h.judge(ctx, q.step)
	if err != nil || no != nil {
		return errors.Join(err, ans.refuse(ctx, no))
	}
	hook := q.step.Hook
	err = ans.say(ctx, &observed.StepResult{State: observed.StepAccepted, Message: "begun"}, store.ModIs(q.e.Key, q.e.ModRevision))
	if errors.Is(err, store.ErrConflict) {
		return nil // nobody asks any more
	}
	if err != nil {
		return err // it may have been written, so it is not done; who asks gives up by himself
	}
	h.log.Info("program of a hook begins", zap.String("hook", hook.Name), zap.String("program", hook.Program), zap.String("event", hook.EventID), zap.Int("attempt", hook.Attempt))
	run, err := h.a.o.Host.Hooks.Run(ctx, HookOrder{
		Cluster: q.step.Cluster, Hook: hook.Name, Program: hook.Program, Arguments: hook.Arguments, Event: hook.Event,
		EventID: hook.EventID, Kind: hook.Kind, Timeout: hook.Timeout,
	})
	if ctx.Err() != nil {
		return nil // the next run of the agent says that it does not know
	}
	r := ended(run, err, hook.Timeout)
	h.log.Info("program of a hook ended", zap.String("hook", hook.Name), zap.String("event", hook.EventID), zap.String("how", r.Message), zap.String("output", run.Output))
	return ans.refuse(ctx, r)
}

func (h *hooks) journal() string { return "journalctl -n 60 -u pgagent (on " + h.a.o.Node + ")" }

// judge waits for a fresh view where one is needed, and asks plan.JudgeStep.
func (h *hooks) judge(ctx context.Context, s plan.Step) (*observed.StepResult, error) {
	if h.a.o.Host.Hooks == nil {
		return &observed.StepResult{State: observed.StepRefused, Reason: observed.Unsupported, Message: "this host runs no programs of hooks"}, nil
	}
	if c := h.a.store.changed(); c != nil {
		return &observed.StepResult{State: observed.StepRefused, Reason: c.Reason, Message: c.Message, Next: c.Next}, nil
	}
	for deadline := time.Now().Add(StepWait); ; {
		now := time.Now()
		own, view := h.look(s)
		no, wait := plan.JudgeStep(s, own, false, view, now)
		if !wait {
			return no, nil
		}
		if now.After(deadline) {
			return &observed.StepResult{State: observed.StepRefused, Reason: observed.StaleView, Message: "the agent's view of etcd is too old to act on"}, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(StepLook):
		}
	}
}

// look is what is known of the step's cluster, where it is one of this node's, and of etcd.
func (h *hooks) look(s plan.Step) (own plan.Member, v plan.View) {
	rec, _ := h.a.store.store()
	v.Store = rec.Incarnation
	h.a.mu.Lock()
	c := h.a.clusters[s.Cluster]
	h.a.mu.Unlock()
	if c == nil || s.Hook == nil || !s.Hook.Primary {
		return own, v
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	own, _ = c.info.Own()
	return own, c.lookLocked().view
}

// ended is what to say of how a program ended.
func ended(run HookRun, err error, timeout time.Duration) *observed.StepResult {
	if no, is := errors.AsType[*plan.Refusal](err); is {
		state := observed.StepRefused
		if no.Reason == observed.HookFailed {
			state = observed.StepFailed
		}
		return &observed.StepResult{State: state, Reason: no.Reason, Message: no.Message, Next: no.Next}
	}
	if err != nil {
		return &observed.StepResult{State: observed.StepFailed, Reason: observed.HookFailed, Message: err.Error()}
	}
	r := &observed.StepResult{State: observed.StepFailed, Reason: observed.HookFailed, Hook: &observed.HookRun{
		Exit: run.Exit, Signal: run.Signal, TimedOut: run.TimedOut, Seconds: run.Took.Seconds(), Output: excerpt(run.Output),
	}}
	took := span(run.Took.Seconds())
	switch {
	case run.TimedOut:
		r.Message = fmt.Sprintf("it was ended with all of its processes after %s, which is all the time that it has", timeout)
	case run.Signal != "":
		r.Message = fmt.Sprintf("it was ended by %s after %s", run.Signal, took)
	case run.Exit != 0:
		r.Message = fmt.Sprintf("it ended with exit code %d after %s", run.Exit, took)
	default:
		r.State, r.Reason, r.Message = observed.StepDone, "", "it ended with exit code 0 after "+took
	}
	if first, _, _ := strings.Cut(r.Hook.Output, "\n"); first != "" {
		r.Message += ": " + first
	}
	return r
}

// excerpt is the beginning of a text, cut between two characters.
func excerpt(s string) string {
	if len(s) <= hookExcerpt {
		return s
	}
	cut := hookExcerpt
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strings.TrimSpace(s[:cut]) + " …"
}

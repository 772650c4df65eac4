// Package hookrun has a node's agent run a program of an operator's: the server's half of what
// hooks with a command do.
//
// A run is a step (plan.ActHook), which the agent answers with a result; Run writes the one, waits
// for the other, and deletes both. Everything that it writes is guarded by the leadership that it was
// given, so a server that leads no more asks for nothing and deletes nothing. What it left
// behind when it died begins no more after a few seconds (plan.Hook.Expires), and the next leader's
// Sweep deletes it.
//
// A run happens at most once for each Run. Whether an event is given to a hook again when nobody knows
// whether the program ran (ErrNoAnswer, observed.NotAnswering) is the caller's policy.
package hookrun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

const (
	// BeginWithin is how long an agent has to begin, by its own clock, which may be another one
	// (a clock that is wrong by 5 s is said). A program that waits longer for its turn
	// is refused, and comes again later.
	BeginWithin = 30 * time.Second
	// Beyond is how long after a program's time-out its end is waited for: BeginWithin, and
	// what it takes to end the program and write that down.
	Beyond = BeginWithin + 5*time.Second
	// clearWithin bounds the deletion of a step whose asker's context has ended.
	clearWithin = 5 * time.Second
)

// Primary, as an order's node, is the node of the confirmed primary at that moment.
const Primary = "primary"

// Why a program was not run, or it is not known whether it was.
var (
	// ErrNotConfirmed: nothing was asked for, as there is nobody to ask.
	ErrNotConfirmed = errors.New("no primary is confirmed")
	// ErrNoAgent: nothing was asked for; the node's agent is away, or too old.
	ErrNoAgent = errors.New("the node has no agent that runs programs of hooks")
	// ErrNoAnswer: the agent said nothing in time.
	ErrNoAnswer = errors.New("the agent did not answer in time")
	// ErrInvalid: the order can't be carried out, whoever tries.
	ErrInvalid = errors.New("the order is not valid")
)

// Order is a run of a program for an event.
type Order struct {
	Cluster string
	Hook    string
	// Scope is whose hook it is: the cluster, or keys.Fleet, which may have one of the same name.
	Scope string
	// Node is the node's name, or Primary.
	Node      string
	Program   string
	Arguments []string
	// Event is the stored event, EventID its <cluster>/<id>, Kind its kind.
	Event   json.RawMessage
	EventID string
	Kind    string
	// Timeout is how long the program may run.
	Timeout time.Duration
	// Attempt counts how often the event was given to the hook, from 1.
	Attempt int
}

// Outcome is what came of an order.
type Outcome struct {
	// Node is where it was, Step the step's name.
	Node, Step string
	// State is StepDone only when the program ended with exit code 0. StepRefused says that it
	// was not run, StepFailed that it was or may have been.
	State observed.StepState
	// Exit is the exit code; -1 when a signal ended the program, or none ran.
	Exit     int
	TimedOut bool
	// Output is the beginning of what it wrote, at most 1 KiB.
	Output   string
	Duration time.Duration
	// Reason, Message and Next are what there is to say about it.
	Reason  observed.Reason
	Message string
	Next    string
}

// Err is nil when the program ended with exit code 0, and else what to say in a sentence.
func (o Outcome) Err() error {
	if o.State == observed.StepDone {
		return nil
	}
	return fmt.Errorf("node %s: %s: %s", o.Node, o.Reason, o.Message)
}

// Leadership is what every write is guarded by; *store.Leadership is one.
type Leadership interface {
	Guard() store.Guard
	Epoch() int64
}

// Runner has agents run programs under one leadership.
type Runner struct {
	client *store.Client
	layout keys.Layout
	lead   Leadership
	log    *zap.Logger
}

// New returns a Runner. Sweep comes before the first Run.
func New(client *store.Client, layout keys.Layout, lead Leadership, log *zap.Logger) *Runner {
	if log == nil {
		log = zap.NewNop()
	}
	return &Runner{client: client, layout: layout, lead: lead, log: log}
}

// Run has a node's agent run a program, and waits for its end. An error says that the agent gave no
// answer, or was not asked; what it answered is the Outcome, also when that is no.
func (r *Runner) Run(ctx context.Context, o Order) (Outcome, error) {
	what := fmt.Sprintf("run %s of hook %s for event %s", o.Program, o.Hook, o.EventID)
	step, node, err := r.step(ctx, o)
	if err != nil {
		return Outcome{Node: node, Exit: -1}, fmt.Errorf("%s: %w", what, err)
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout+Beyond)
	defer cancel()
	id := stepID(o)
	key, result := r.layout.StepKey(node, id), r.layout.ResultKey(node, id)
	out := Outcome{Node: node, Step: id, Exit: -1}
	asked, err := r.client.Commit(ctx, []store.Guard{r.lead.Guard(), store.ModIs(key, 0)},
		[]store.Op{store.Put(key, observed.Encode(step)), store.Delete(result)})
	if errors.Is(err, store.ErrConflict) {
		return out, fmt.Errorf("%s: %w", what, err) // it is somebody else's, or we lead no more
	}
	// A write without an answer may have happened, so it is cleared up after in any case.
	defer r.clear(ctx, key, result, asked)
	if err != nil {
		return out, fmt.Errorf("%s: %w", what, err)
	}
	begun := false
	await := func(ctx context.Context, enough func(observed.StepResult) bool) error {
		return r.client.Await(ctx, result, func(e *kv.KV) bool {
			if e == nil {
				return false
			}
			got, err := observed.Decode[observed.StepResult](*e)
			if err != nil || got.Step != asked {
				return false
			}
			begun = true
			out.take(got)
			return enough(got)
		})
	}
	// An agent that is there says within seconds that it begins.
	first, stop := context.WithDeadline(ctx, step.Hook.Expires.Add(Beyond-BeginWithin))
	err = await(first, func(observed.StepResult) bool { return true })
	stop()
	if err == nil && !final(out) {
		err = await(ctx, observed.StepResult.Final)
	}
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, context.DeadlineExceeded) && begun:
		return out, fmt.Errorf("%s: %w: it began and did not end on node %s", what, ErrNoAnswer, node)
	case errors.Is(err, context.DeadlineExceeded):
		return out, fmt.Errorf("%s: %w: nothing began on node %s", what, ErrNoAnswer, node)
	}
	return out, fmt.Errorf("%s: %w", what, err)
}

func final(o Outcome) bool { return o.State != "" && o.State != observed.StepAccepted }

// take takes what the agent says so far.
func (o *Outcome) take(r observed.StepResult) {
	o.State, o.Reason, o.Message, o.Next = r.State, r.Reason, r.Message, r.Next
	if r.Hook != nil {
		o.Exit, o.TimedOut, o.Output = r.Hook.Exit, r.Hook.TimedOut, r.Hook.Output
		o.Duration = time.Duration(r.Hook.Seconds * float64(time.Second))
	}
}

// named is the hook's name, as no other hook's that may run for the cluster is spelled.
func (o Order) named() string {
	if o.Scope == keys.Fleet {
		return o.Hook + plan.HookOfFleet
	}
	return o.Hook
}

// stepID names the step: one of a hook, an event and an attempt, however often that is asked for.
func stepID(o Order) string {
	return fmt.Sprintf("%s.hook-%s-%s-%d", o.Cluster, o.named(), strings.ReplaceAll(o.EventID, "/", "."), o.Attempt)
}

// clear deletes a step and what came of it, whatever became of whoever asked; but not when
// somebody else leads.
func (r *Runner) clear(ctx context.Context, key, result string, asked int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearWithin)
	defer cancel()
	guards := []store.Guard{r.lead.Guard()}
	if asked > 0 {
		guards = append(guards, store.ModIs(key, asked))
	}
	_, err := r.client.Commit(ctx, guards, []store.Op{store.Delete(key), store.Delete(result)})
	if err != nil && !errors.Is(err, store.ErrConflict) {
		r.log.Warn("step of a hook not deleted; the next sweep does", zap.String("key", key), zap.Error(err))
	}
}

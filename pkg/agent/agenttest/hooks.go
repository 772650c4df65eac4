package agenttest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Hooks are operators' programs in memory. A program that was not added is not there.
type Hooks struct {
	mu       sync.Mutex
	programs map[string]program
	ran      []agent.HookOrder
}

type program struct {
	exit   int
	output string
	takes  time.Duration
}

func newHooks() *Hooks { return &Hooks{programs: map[string]program{}} }

// Hooks are the host's.
func (h *Host) Hooks() *Hooks { return h.hooks }

// Add adds a program that writes, takes its time and ends with an exit code.
func (h *Hooks) Add(name, output string, exit int, takes time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.programs[name] = program{exit, output, takes}
}

// Ran are the runs that began, in order.
func (h *Hooks) Ran() []agent.HookOrder {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]agent.HookOrder(nil), h.ran...)
}

// Run implements agent.Hooks.
func (h *Hooks) Run(ctx context.Context, o agent.HookOrder) (agent.HookRun, error) {
	h.mu.Lock()
	p, there := h.programs[o.Program]
	if there {
		h.ran = append(h.ran, o)
	}
	h.mu.Unlock()
	if !there {
		return agent.HookRun{}, &plan.Refusal{Reason: observed.HookRefused, Message: "there is no program " + o.Program, Next: "ls -l"}
	}
	select {
	case <-time.After(min(p.takes, o.Timeout)):
	case <-ctx.Done():
		return agent.HookRun{}, context.Cause(ctx)
	}
	if p.takes > o.Timeout {
		return agent.HookRun{Exit: -1, Signal: "SIGTERM", TimedOut: true, Took: o.Timeout, Output: p.output}, nil
	}
	return agent.HookRun{Exit: p.exit, Took: p.takes, Output: p.output}, nil
}

// HooksConform holds operators' programs to what agent.Hooks promises. add adds a program, as
// Hooks.Add does.
func HooksConform(t *testing.T, hooks agent.Hooks, add func(name, output string, exit int, takes time.Duration)) {
	t.Helper()
	o := agent.HookOrder{Cluster: "c", Hook: "page", Program: "well", Event: []byte("{}"), EventID: "c/1-0", Kind: "leader.changed", Timeout: 20 * time.Second}
	run := func(program string) agent.HookRun {
		t.Helper()
		o.Program = program
		r, err := hooks.Run(t.Context(), o)
		if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		return r
	}
	add("well", "hello", 0, 0)
	if r := run("well"); r.Exit != 0 || r.TimedOut || r.Signal != "" || r.Output != "hello" {
		t.Errorf("one that ends well: %+v", r)
	}
	add("badly", "no route", 3, 0)
	if r := run("badly"); r.Exit != 3 || r.TimedOut || r.Output != "no route" {
		t.Errorf("any exit code is no error: %+v", r)
	}
	o.Program = "gone"
	_, err := hooks.Run(t.Context(), o)
	if no, is := errors.AsType[*plan.Refusal](err); !is || no.Reason != observed.HookRefused || no.Next == "" {
		t.Errorf("one that is not there: %v", err)
	}
	add("slow", "wait", 0, 1000*time.Second)
	o.Timeout = 200 * time.Millisecond
	if r := run("slow"); !r.TimedOut || r.Exit != -1 || r.Signal != "SIGTERM" || r.Output != "wait" || r.Took < o.Timeout {
		t.Errorf("one whose time is over: %+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := hooks.Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits: %v", err)
	}
}

package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/hookrun"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// leads is a server that leads, with what it runs programs by.
func leads(t *testing.T, w *world) (r *hookrun.Runner, resign func()) {
	t.Helper()
	client := w.client("server")
	l, err := client.Campaign(t.Context(), layout.ElectionKey(), "server", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return hookrun.New(client, layout, l, nil), sync.OnceFunc(func() { _ = l.Resign(t.Context()); _ = client.Close() })
}

func hookOrder(node string, n int) hookrun.Order {
	return hookrun.Order{
		Cluster: "c", Hook: "page", Node: node, Program: "page", Arguments: []string{"--to", "ops"}, Event: json.RawMessage(`{"id":"42-0"}`),
		EventID: fmt.Sprintf("c/42-%d", n), Kind: "leader.changed", Timeout: 30 * time.Second, Attempt: 1,
	}
}

// hookStep writes a step as a Runner does, and nobody waits for it.
func hookStep(w *world, node, id, hook string, expires time.Duration) {
	w.etcd.Put(layout.StepKey(node, "c."+id), string(observed.Encode(plan.Step{
		Schema: plan.SchemaHooks, Act: plan.ActHook, Cluster: "c", Store: "S1", Hook: &plan.Hook{
			Name: hook, Program: "page", Arguments: []string{id}, Event: json.RawMessage(`{}`), EventID: "c/42-0", Kind: "leader.changed",
			Timeout: 30 * time.Second, Expires: time.Now().Add(expires), Attempt: 1,
		},
	})))
}

// nothingLeft looks for what a run may leave in etcd.
func nothingLeft(t *testing.T, w *world) {
	t.Helper()
	client := w.client("look")
	defer client.Close()
	for _, f := range []keys.Family{keys.Steps, keys.Results} {
		if es, _, err := client.List(t.Context(), layout.Prefix(f)); err != nil || len(es) > 0 {
			t.Errorf("left in etcd: %v, %v", es, err)
		}
	}
}

func TestHookRunsOnceWhereItIsAskedTo(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2, _ := settle(t, w)
		a4 := w.start(4, "") // no member, no plan
		after(2 * time.Second)
		r, resign := leads(t, w)
		defer resign()
		for _, a := range []*running{a1, a2, a4} {
			a.host.Hooks().Add("page", "paged", 0, time.Second)
		}
		for node, a := range map[string]*running{"primary": a1, "pg2": a2, "pg4": a4} {
			got, err := r.Run(t.Context(), hookOrder(node, 0))
			if err != nil || got.Err() != nil {
				t.Fatalf("on %s: %+v, %v", node, got, err)
			}
			if got.Exit != 0 || got.Output != "paged" || got.Duration != time.Second || got.Message != "it ended with exit code 0 after 1s: paged" {
				t.Errorf("on %s: %+v", node, got)
			}
			ran := a.host.Hooks().Ran()
			if len(ran) != 1 || ran[0].Hook != "page" || !slices.Equal(ran[0].Arguments, []string{"--to", "ops"}) ||
				string(ran[0].Event) != `{"id":"42-0"}` || ran[0].EventID != "c/42-0" || ran[0].Timeout != 30*time.Second {
				t.Errorf("on %s: %+v", node, ran)
			}
			nothingLeft(t, w)
		}
		a4.host.Hooks().Add("page", strings.Repeat("ä", 1000), 3, time.Second)
		got, err := r.Run(t.Context(), hookOrder("pg4", 1))
		if err != nil || got.Err() == nil || got.Exit != 3 || got.Reason != observed.HookFailed || len(got.Output) > 1<<10+4 {
			t.Errorf("exit code 3: %+v, %v", got, err)
		}
		o := hookOrder("pg4", 2)
		o.Program = "gone"
		if got, err := r.Run(t.Context(), o); err != nil || got.State != observed.StepRefused || got.Reason != observed.HookRefused {
			t.Errorf("a program that is not there: %+v, %v", got, err)
		}
		a4.host.Hooks().Add("page", "", 0, time.Hour)
		if got, err := r.Run(t.Context(), hookOrder("pg4", 3)); err != nil || !got.TimedOut || got.Duration != 30*time.Second {
			t.Errorf("time-out: %+v, %v", got, err)
		}
		nothingLeft(t, w)
	})
}

// TestHookOfTheFleet: an event of no cluster, on a node without one.
func TestHookOfTheFleet(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a4 := w.start(4, "")
		after(time.Second)
		r, resign := leads(t, w)
		defer resign()
		a4.host.Hooks().Add("page", "", 0, 0)
		o := hookOrder("pg4", 0)
		o.Cluster, o.EventID = keys.Fleet, keys.Fleet+"/42-0"
		if got, err := r.Run(t.Context(), o); err != nil || got.Err() != nil {
			t.Errorf("%+v, %v", got, err)
		}
		o.Node = hookrun.Primary
		if _, err := r.Run(t.Context(), o); !errors.Is(err, hookrun.ErrNotConfirmed) {
			t.Errorf("the primary of no cluster: %v", err)
		}
	})
}

// TestHookIsNotRunTwice by an agent that was started anew: it says that it does not know.
func TestHookIsNotRunTwice(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		after(time.Second)
		r, resign := leads(t, w)
		defer resign()
		a2.host.Hooks().Add("page", "", 0, 10*time.Second)
		type answer struct {
			out hookrun.Outcome
			err error
		}
		said := make(chan answer, 1)
		go func() {
			out, err := r.Run(t.Context(), hookOrder("pg2", 0))
			said <- answer{out, err}
		}()
		after(5 * time.Second)
		expect(t, "begun", len(a2.host.Hooks().Ran()), 1)
		a2.stop()
		w.startOn(2, a2.dir, a2.host)
		got := <-said
		expect(t, "error", got.err, nil)
		expect(t, "state", got.out.State, observed.StepFailed)
		expect(t, "reason", got.out.Reason, observed.NotAnswering)
		expect(t, "words", got.out.Message, "the agent was started anew; whether it ran is not known")
		after(20 * time.Second)
		expect(t, "runs", len(a2.host.Hooks().Ran()), 1)
		nothingLeft(t, w)
	})
}

// TestHookOfAFormerPrimaryIsRefused: the leader is another one between the question and the run.
func TestHookOfAFormerPrimaryIsRefused(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2, _ := settle(t, w)
		after(time.Second)
		r, resign := leads(t, w)
		defer resign()
		a1.host.Hooks().Add("page", "", 0, 5*time.Second)
		first := make(chan error, 1)
		go func() { _, err := r.Run(t.Context(), hookOrder("pg1", 0)); first <- err }()
		after(time.Second) // the second one waits behind it
		second := make(chan hookrun.Outcome, 1)
		go func() { out, _ := r.Run(t.Context(), hookOrder(hookrun.Primary, 1)); second <- out }()
		after(time.Second)
		a1.host.SetPostgres(recovering())
		w.leader(2)
		a2.host.SetPostgres(writable(2))
		out := <-second
		expect(t, "node", out.Node, "pg1")
		expect(t, "state", out.State, observed.StepRefused)
		expect(t, "reason", out.Reason, observed.NotLeader)
		expect(t, "the first", <-first, nil)
		expect(t, "runs", len(a1.host.Hooks().Ran()), 1)

		a2.host.Hooks().Add("page", "", 0, 0)
		if out, err := r.Run(t.Context(), hookOrder(hookrun.Primary, 1)); err != nil || out.Node != "pg2" || out.Err() != nil {
			t.Errorf("asked again: %+v, %v", out, err)
		}
		nothingLeft(t, w)
	})
}

func TestHookPastItsTimeIsNotBegun(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		hookStep(w, "pg4", "late", "page", 10*time.Second)
		after(11 * time.Second)
		a4 := w.start(4, "")
		a4.host.Hooks().Add("page", "", 0, 0)
		after(2 * time.Second)
		expect(t, "runs", len(a4.host.Hooks().Ran()), 0)
		v, _, _ := w.etcd.Get(layout.ResultKey("pg4", "c.late"))
		if !strings.Contains(v, string(observed.DeadlineExceeded)) {
			t.Errorf("result %s", v)
		}
	})
}

// TestHooksTakeTurns: those of one hook in order, of several beside one another but not of all, and
// who comes when too many wait is told so.
func TestHooksTakeTurns(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a4 := w.start(4, "")
		after(time.Second)
		a4.host.Hooks().Add("page", "", 0, 5*time.Second)
		ran := func() string {
			var out []string
			for _, o := range a4.host.Hooks().Ran() {
				out = append(out, o.Arguments[0])
			}
			slices.Sort(out)
			return strings.Join(out, " ")
		}
		for i := range 3 {
			hookStep(w, "pg4", fmt.Sprintf("a%d", i), "a", time.Minute)
		}
		after(time.Second)
		expect(t, "one of a hook", ran(), "a0")
		for _, hook := range []string{"b", "c", "d", "e"} {
			hookStep(w, "pg4", hook, hook, time.Minute)
		}
		after(time.Second)
		expect(t, "four at a time", ran(), "a0 b c d")
		for i := range agent.HooksWaiting {
			hookStep(w, "pg4", fmt.Sprintf("f%02d", i), "f", time.Minute)
		}
		after(time.Second)
		v, _, _ := w.etcd.Get(layout.ResultKey("pg4", fmt.Sprintf("c.f%02d", agent.HooksWaiting-1)))
		if !strings.Contains(v, string(observed.HookBusy)) {
			t.Errorf("the last one: %q", v)
		}
		after(4500 * time.Millisecond)
		expect(t, "the next ones", ran(), "a0 a1 b c d e f00")
		after(5 * time.Second)
		expect(t, "in order", ran(), "a0 a1 a2 b c d e f00 f01")
	})
}

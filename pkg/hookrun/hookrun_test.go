package hookrun_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/hookrun"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/store/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var layout = keys.Default

func order() hookrun.Order {
	return hookrun.Order{Cluster: "c", Hook: "page", Node: "pg1", Program: "page", Event: json.RawMessage(`{}`), EventID: "c/42-0",
		Kind: "leader.changed", Timeout: 30 * time.Second, Attempt: 1}
}

type world struct {
	t    *testing.T
	etcd *model.Server
}

func simulate(t *testing.T, story func(t *testing.T, w world)) {
	synctest.Test(t, func(t *testing.T) {
		w := world{t, model.New()}
		w.etcd.Put(layout.StoreKey(), `{"incarnation":"S1"}`)
		w.agent("pg1", plan.Schema)
		story(t, w)
	})
}

func (w world) agent(node string, schema int) {
	w.etcd.Put(layout.AliveKey(node), string(observed.Encode(observed.Alive{Schema: 1, Node: node, Version: "1.0", PlanSchema: schema})))
}

// leads is a server that leads; end ends it without a word to anybody.
func (w world) leads(name string) (r *hookrun.Runner, l *store.Leadership, end func()) {
	w.t.Helper()
	c := w.etcd.Client(name)
	l, err := c.Campaign(w.t.Context(), layout.ElectionKey(), name, 5*time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	return hookrun.New(c, layout, l, nil), l, func() { _ = l.Resign(w.t.Context()); _ = c.Close() }
}

// left are the keys of steps and results.
func (w world) left() string {
	c := w.etcd.Client("look")
	defer c.Close()
	var out []string
	for _, f := range []keys.Family{keys.Steps, keys.Results} {
		es, _, err := c.List(w.t.Context(), layout.Prefix(f))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range es {
			out = append(out, e.Key)
		}
	}
	return strings.Join(out, " ")
}

func TestNobodyIsAskedInVain(t *testing.T) {
	simulate(t, func(t *testing.T, w world) {
		r, _, end := w.leads("a")
		defer end()
		w.agent("pg2", plan.SchemaRestore)
		primary := func(member string, writable bool) {
			w.etcd.Put(layout.PrimaryKey("c"), string(observed.Encode(observed.Primary{Member: member, Node: "pg1", Writable: writable, Store: "S1"})))
		}
		for name, c := range map[string]struct {
			change func(*hookrun.Order)
			want   error
		}{
			"a node without an agent": {func(o *hookrun.Order) { o.Node = "pg9" }, hookrun.ErrNoAgent},
			"an agent that is old":    {func(o *hookrun.Order) { o.Node = "pg2" }, hookrun.ErrNoAgent},
			"nobody was confirmed":    {func(o *hookrun.Order) { o.Node, o.Cluster = hookrun.Primary, "d" }, hookrun.ErrNotConfirmed},
			"nobody leads":            {func(o *hookrun.Order) { o.Node = hookrun.Primary; primary("m1", true) }, hookrun.ErrNotConfirmed},
			"another one leads": {func(o *hookrun.Order) {
				o.Node = hookrun.Primary
				primary("m1", true)
				w.etcd.Put(layout.Leader("c"), "m2")
			}, hookrun.ErrNotConfirmed},
			"it was withdrawn": {func(o *hookrun.Order) {
				o.Node = hookrun.Primary
				primary("m1", false)
				w.etcd.Put(layout.Leader("c"), "m1")
			}, hookrun.ErrNotConfirmed},
			"no event": {func(o *hookrun.Order) { o.Event = nil }, hookrun.ErrInvalid},
		} {
			began := time.Now()
			o := order()
			c.change(&o)
			if _, err := r.Run(t.Context(), o); !errors.Is(err, c.want) || time.Since(began) > time.Second {
				t.Errorf("%s: %v after %s", name, err, time.Since(began))
			}
			w.etcd.Delete(layout.Leader("c"))
		}
		if left := w.left(); left != "" {
			t.Errorf("left: %s", left)
		}
	})
}

// TestSilentAgent: one that never begins is not waited for as long as one that did.
func TestSilentAgent(t *testing.T) {
	simulate(t, func(t *testing.T, w world) {
		r, _, end := w.leads("a")
		defer end()
		began := time.Now()
		out, err := r.Run(t.Context(), order())
		if took := time.Since(began); !errors.Is(err, hookrun.ErrNoAnswer) || !strings.Contains(err.Error(), "nothing began on node pg1") || took != hookrun.Beyond {
			t.Errorf("%+v, %v after %s", out, err, took)
		}
		began = time.Now()
		done := make(chan error, 1)
		go func() { _, err := r.Run(t.Context(), order()); done <- err }()
		time.Sleep(time.Second) // fake time: a bubble
		step, rev, _ := w.etcd.Get(layout.StepKey("pg1", "c.hook-page-c.42-0-1"))
		if step == "" {
			t.Fatalf("no step: %s", w.left())
		}
		w.etcd.Put(layout.ResultKey("pg1", "c.hook-page-c.42-0-1"), string(observed.Encode(observed.StepResult{Step: rev, State: observed.StepAccepted})))
		err = <-done
		if took := time.Since(began); !errors.Is(err, hookrun.ErrNoAnswer) || !strings.Contains(err.Error(), "did not end") || took != 30*time.Second+hookrun.Beyond {
			t.Errorf("%v after %s", err, took)
		}
		if left := w.left(); left != "" {
			t.Errorf("left: %s", left)
		}
	})
}

// TestCallerThatDies leaves nothing; and one that leads no more touches nothing.
func TestCallerThatDies(t *testing.T) {
	simulate(t, func(t *testing.T, w world) {
		r, l, end := w.leads("a")
		defer end()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { _, err := r.Run(ctx, order()); done <- err }()
		time.Sleep(time.Second)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if left := w.left(); left != "" {
			t.Errorf("left: %s", left)
		}

		ctx, cancel = context.WithCancel(t.Context())
		go func() { _, err := r.Run(ctx, order()); done <- err }()
		time.Sleep(time.Second)
		_ = l.Resign(t.Context())
		next, _, end2 := w.leads("b")
		defer end2()
		cancel()
		<-done
		if left := w.left(); !strings.Contains(left, "hook-page") {
			t.Errorf("a server that leads no more deleted it; left: %q", left)
		}
		if _, err := r.Run(t.Context(), order()); !errors.Is(err, store.ErrConflict) {
			t.Errorf("a server that leads no more asked: %v", err)
		}
		w.etcd.Put(layout.StepKey("pg1", "c.restart-1-1"), string(observed.Encode(plan.Step{Schema: 2, Act: plan.ActRestart, Cluster: "c"})))
		if err := next.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		if left := w.left(); left != layout.StepKey("pg1", "c.restart-1-1") {
			t.Errorf("after the sweep: %s", left)
		}
	})
}

// TestSweepSparesWhatGoesOn under this leadership.
func TestSweepSparesWhatGoesOn(t *testing.T) {
	simulate(t, func(t *testing.T, w world) {
		r, _, end := w.leads("a")
		defer end()
		done := make(chan error, 1)
		go func() { _, err := r.Run(t.Context(), order()); done <- err }()
		time.Sleep(time.Second)
		if err := r.Sweep(t.Context()); err != nil || w.left() == "" {
			t.Errorf("left %q, %v", w.left(), err)
		}
		if err := <-done; !errors.Is(err, hookrun.ErrNoAnswer) {
			t.Error(err)
		}
	})
}

// TestOnRealEtcd: an agent that answers within a moment is heard within a moment.
func TestOnRealEtcd(t *testing.T) {
	s := etcdtest.Start(t)
	c, err := store.Connect(t.Context(), store.Options{Endpoints: s.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	db := s.Client(t)
	put := func(key string, v any) {
		if _, err := db.Put(t.Context(), key, string(observed.Encode(v))); err != nil {
			t.Error(err)
		}
	}
	put(layout.StoreKey(), observed.Store{Incarnation: "S1"})
	put(layout.AliveKey("pg1"), observed.Alive{PlanSchema: plan.Schema})
	l, err := c.Campaign(t.Context(), layout.ElectionKey(), "a", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Resign(context.WithoutCancel(t.Context())) }()
	id := "c.hook-page-c.42-0-1"
	agent := make(chan struct{})
	go func() {
		defer close(agent)
		_ = c.Await(t.Context(), layout.StepKey("pg1", id), func(e *kv.KV) bool {
			if e == nil {
				return false
			}
			put(layout.ResultKey("pg1", id), observed.StepResult{Step: e.ModRevision, State: observed.StepAccepted})
			put(layout.ResultKey("pg1", id), observed.StepResult{Step: e.ModRevision, State: observed.StepDone, Hook: &observed.HookRun{Output: "hello", Seconds: 0.5}})
			return true
		})
	}()
	began := time.Now()
	out, err := hookrun.New(c, layout, l, nil).Run(t.Context(), order())
	if err != nil || out.Err() != nil || out.Output != "hello" || out.Duration != time.Second/2 || time.Since(began) > 3*time.Second {
		t.Errorf("%+v, %v after %s", out, err, time.Since(began))
	}
	<-agent
	for _, f := range []keys.Family{keys.Steps, keys.Results} {
		if es, _, err := c.List(t.Context(), layout.Prefix(f)); err != nil || len(es) > 0 {
			t.Errorf("left: %v, %v", es, err)
		}
	}
}

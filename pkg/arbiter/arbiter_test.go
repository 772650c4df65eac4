package arbiter

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/hookrun"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/verdicts"
)

func TestAnswers(t *testing.T) {
	elsewhere := answers(t, reply{status: 200})
	for _, tc := range []struct {
		name    string
		replies []reply
		more    string // of the document
		state   verdicts.State
		hook    verdicts.State
		message string // it begins with
		tries   int    // at least
	}{
		{"allow", []reply{{status: 200}}, "", verdicts.Allowed, verdicts.Allowed, "", 1},
		{"allow by JSON", []reply{{status: 200, body: `{"verdict":"allow"}`}}, "", verdicts.Allowed, verdicts.Allowed, "", 1},
		{"refuse", []reply{{status: 200, body: `{"verdict":"refuse","message":"a deploy runs"}`}}, "", verdicts.Refused, verdicts.Refused, "a deploy runs", 1},
		{"refuse by its status", []reply{{status: 409, body: "not now"}}, "", verdicts.Refused, verdicts.Refused, "not now", 1},
		{"delay, then allow", []reply{{status: 200, body: `{"verdict":"delay","after":"200ms"}`}, {status: 200}}, "", verdicts.Allowed, verdicts.Allowed, "", 2},
		{"fail, then allow", []reply{{status: 500}, {status: 500}, {status: 200}}, "", verdicts.Allowed, verdicts.Allowed, "", 3},
		{"fail to the end, which means no", []reply{{status: 500, body: "broken"}}, "deadline: 1s", verdicts.Refused, verdicts.Timeout, "no answer within 1s: the receiver answers 500: broken", 3},
		{"fail to the end, which means yes", []reply{{status: 500}}, "deadline: 1s\non_timeout: allow", verdicts.Allowed, verdicts.Timeout, "no answer within 1s: the receiver answers 500", 3},
		{"wait for ever", []reply{{status: 503, header: map[string]string{"Retry-After": "3600"}}}, "deadline: 1s", verdicts.Refused, verdicts.Timeout, "no answer within 1s", 1},
		{"a megabyte", []reply{{status: 200, body: `{"verdict":"allow"}` + strings.Repeat(" ", 1<<20)}}, "deadline: 1s", verdicts.Refused, verdicts.Timeout, "no answer within 1s: the receiver answers 200 and more", 1},
		{"a megabyte that refuses", []reply{{status: 403, body: strings.Repeat("x", 1<<20)}}, "", verdicts.Refused, verdicts.Refused, strings.Repeat("x", 200), 1},
		{"a redirect", []reply{{status: 307, header: map[string]string{"Location": elsewhere.URL}}}, "deadline: 1s", verdicts.Refused, verdicts.Timeout, "no answer within 1s: the receiver answers 307 and leads to http://127.0.0.1", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := answers(t, tc.replies...)
			w.hook(layout.ClusterDoc("c", "hooks/page"), r.doc(tc.more))
			w.lead()
			v := w.final(w.ask())
			h := v.Hooks[0]
			if v.State != tc.state || h.State != tc.hook || !strings.HasPrefix(h.Message, tc.message) || h.Tries < tc.tries || r.questions() < tc.tries {
				t.Errorf("%s by %s; %+v; %d questions", v.State, v.DecidedBy, h, r.questions())
			}
		})
	}
	t.Cleanup(func() {
		if elsewhere.questions() > 0 {
			t.Error("a redirect was followed")
		}
	})
}

// The question says what is about to be done, and is signed as deliveries are.
func TestQuestion(t *testing.T) {
	w := newWorld(t)
	r := answers(t, reply{status: 200})
	w.hook(layout.FleetHook("page"), r.doc(""))
	w.put(layout.Secret(keys.Fleet, keys.HookSecret("page")), []byte("sesame\n"))
	signature := make(chan http.Header, 1)
	inner := r.Config.Handler
	r.Config.Handler = http.HandlerFunc(func(out http.ResponseWriter, req *http.Request) {
		signature <- req.Header.Clone()
		inner.ServeHTTP(out, req)
	})
	w.lead()
	v := w.final(w.ask())
	q := r.got[0]
	if q.Schema != 1 || q.Hook != "page" || q.Cluster != keys.Fleet || q.Attempt != 1 || q.Before.ID != v.ID || q.Before.Cluster != "c" || q.Before.Operation != "restart" ||
		q.Before.Subject != "c-1" || q.Before.By != "me@n1" || q.Before.Why != "ticket 7" || time.Until(q.Before.Deadline) > 30*time.Second {
		t.Errorf("%+v", q)
	}
	h := <-signature
	if got := h.Get(hooks.HeaderSignature); len(got) != 67 || h.Get(hooks.HeaderTimestamp) == "" {
		t.Errorf("signature %q of %v", got, h)
	}
	if v.DecidedBy != "all hooks" || v.Hooks[0].Tries != 1 {
		t.Errorf("%+v", v)
	}
}

// A hook that never answers costs its attempts, and the deadline decides.
func TestSilence(t *testing.T) {
	w := newWorld(t)
	quiet := make(chan struct{})
	r := receive(t, func(http.ResponseWriter, int) { <-quiet })
	t.Cleanup(func() { close(quiet) }) // before the receiver is closed, which waits
	w.hook(layout.ClusterDoc("c", "hooks/page"), r.doc("timeout: 100ms\ndeadline: 1s"))
	w.lead()
	v := w.final(w.ask())
	if h := v.Hooks[0]; v.State != verdicts.Refused || h.Message != "no answer within 1s: no answer within 100ms" || h.Tries < 2 {
		t.Errorf("%+v", v)
	}
}

// One of two that refuses is enough, and the other is not waited for.
func TestOneRefuses(t *testing.T) {
	w := newWorld(t)
	slow := answers(t, reply{status: 503, header: map[string]string{"Retry-After": "60"}})
	w.hook(layout.ClusterDoc("c", "hooks/slow"), slow.doc("deadline: 10m"))
	w.hook(layout.FleetHook("page"), answers(t, reply{status: 403, body: "no"}).doc(""))
	w.lead()
	v := w.final(w.ask())
	if v.State != verdicts.Refused || v.DecidedBy != "hook page (fleet)" || v.Words() != "hook page (fleet) refuses restart of c-1 (c): no" {
		t.Errorf("%+v", v)
	}
}

// A server is killed while a hook is asked, and the next one goes on: it asks again who has not
// said its last word, and only them.
func TestTakeover(t *testing.T) {
	w := newWorld(t)
	quick := answers(t, reply{status: 200})
	quiet := make(chan struct{})
	slow := receive(t, func(out http.ResponseWriter, n int) {
		if n == 0 {
			<-quiet // the first server does not live to hear it
		}
	})
	w.hook(layout.ClusterDoc("c", "hooks/quick"), quick.doc(""))
	w.hook(layout.ClusterDoc("c", "hooks/slow"), slow.doc("timeout: 1m"))
	stop := w.lead()
	key := w.ask()
	w.until(key, func(v verdicts.Verdict) bool { return v.Hooks[0].State == verdicts.Allowed && slow.questions() == 1 })
	stop(false)
	close(quiet)
	if v, _ := w.read(key); v.State != verdicts.Asking {
		t.Fatalf("a server that does not lead has written: %+v", v)
	}
	w.lead()
	v := w.final(key)
	if v.State != verdicts.Allowed || quick.questions() != 1 || slow.questions() != 2 {
		t.Errorf("%+v; %d and %d questions", v, quick.questions(), slow.questions())
	}
}

func TestPrograms(t *testing.T) {
	w := newWorld(t)
	var orders []hookrun.Order
	w.programs = func(_ context.Context, o hookrun.Order) (hookrun.Outcome, error) {
		orders = append(orders, o)
		switch len(orders) {
		case 1:
			return hookrun.Outcome{}, hookrun.ErrNotConfirmed
		case 2:
			panic("a fault")
		case 3:
			return hookrun.Outcome{State: observed.StepRefused, Exit: -1, Node: "n1", Reason: observed.NotPlanned, Message: "no such program"}, nil
		}
		return hookrun.Outcome{State: observed.StepFailed, Exit: 1, Output: "busy\nmore"}, nil
	}
	w.hook(layout.ClusterDoc("c", "hooks/run"), "command: {program: ask, arguments: [-v], on: n1}\ntimeout: 7s")
	w.lead()
	v := w.final(w.ask())
	if h := v.Hooks[0]; v.State != verdicts.Refused || h.State != verdicts.Refused || h.Message != "busy" || h.Tries != 4 {
		t.Errorf("%+v", v)
	}
	o := orders[3]
	if o.Cluster != "c" || o.Hook != "run" || o.Node != "n1" || o.Program != "ask" || len(o.Arguments) != 1 || o.EventID != "c/"+v.ID || o.Kind != "before.restart" ||
		o.Attempt != 4 || o.Timeout != 7*time.Second || !strings.Contains(string(o.Event), `"operation":"restart"`) {
		t.Errorf("%+v", o)
	}
}

// Whoever asks may decide by itself, or go: nobody is asked any more.
func TestAskerDecides(t *testing.T) {
	w := newWorld(t)
	begun, ended := make(chan struct{}), make(chan error, 1)
	w.programs = func(ctx context.Context, _ hookrun.Order) (hookrun.Outcome, error) {
		close(begun)
		<-ctx.Done()
		ended <- ctx.Err()
		return hookrun.Outcome{}, ctx.Err()
	}
	w.hook(layout.ClusterDoc("c", "hooks/run"), "command: {program: ask}\ndeadline: 10m")
	w.lead()
	key := w.ask()
	<-begun
	v, _ := w.read(key)
	decided := verdicts.Overdue(v, "enough", time.Now())
	w.put(key, observed.Encode(decided))
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the program ended by %v", err)
	}
	if now, _ := w.read(key); now.Hooks[0].Message != "enough" {
		t.Errorf("%+v", now)
	}
}

// A hook whose document does not want to be asked any more is no obstacle; one that was broken
// meanwhile is.
func TestDocumentsChange(t *testing.T) {
	w := newWorld(t)
	w.hook(layout.ClusterDoc("c", "hooks/gone"), "command: {program: ask}")
	w.hook(layout.ClusterDoc("c", "hooks/broken"), "command: {program: ask}\ndeadline: 1s")
	if _, err := w.client.Commit(t.Context(), nil, []store.Op{store.Delete(layout.ClusterDoc("c", "hooks/gone"))}); err != nil {
		t.Fatal(err)
	}
	w.put(layout.ClusterDoc("c", "hooks/broken"), []byte("command: 1"))
	w.lead()
	v := w.final(w.ask())
	if v.State != verdicts.Refused || v.DecidedBy != "hook broken" || v.Hooks[0].State != verdicts.Timeout || v.Hooks[1].State != verdicts.Allowed {
		t.Errorf("%+v", v)
	}
}

// Old records go when there is a reason to look; nothing is written while nobody asks (R8).
func TestRecordsAreBounded(t *testing.T) {
	w := newWorld(t)
	r := answers(t, reply{status: 200})
	w.hook(layout.ClusterDoc("c", "hooks/page"), r.doc(""))
	aged := func(id string, age time.Duration, s verdicts.State) func(*verdicts.Verdict) {
		return func(v *verdicts.Verdict) { v.ID, v.Deadline, v.State = id, time.Now().Add(-age), s }
	}
	old := w.ask(aged("restart-old", 2*time.Hour, verdicts.Refused))
	recent := w.ask(aged("restart-recent", time.Minute, verdicts.Refused))
	left := w.ask(aged("restart-left", 10*time.Minute, verdicts.Asking)) // its asker was killed
	w.lead()
	if v := w.final(left); v.State != verdicts.Refused || r.questions() > 0 {
		t.Errorf("nobody waits for %+v; %d questions", v, r.questions())
	}
	w.until(recent, func(verdicts.Verdict) bool { _, there := w.read(old); return !there })
	w.final(w.ask())
	rev := func() int64 {
		_, at, err := w.client.ListKeys(t.Context(), layout.RootPrefix())
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	at := rev()
	for range 20 {
		<-time.After(10 * time.Millisecond)
	}
	if now := rev(); now != at {
		t.Errorf("%d revisions were written while nobody asked", now-at)
	}
}

// A server that has lost leadership without knowing writes no verdict.
func TestDeposedWritesNothing(t *testing.T) {
	w := newWorld(t)
	w.hook(layout.ClusterDoc("c", "hooks/page"), "command: {program: ask}")
	key := w.ask()
	e, _, err := w.client.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	v, _ := w.read(key)
	l, err := w.client.Campaign(t.Context(), layout.ElectionKey(), "test", 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Commit(t.Context(), nil, []store.Op{store.Delete(layout.ElectionKey())}); err != nil {
		t.Fatal(err)
	}
	s := &session{
		term: &term{Arbiter: New(Options{Client: w.client, Layout: layout}), leadership: l},
		key:  key, created: e.CreateRevision, revision: e.ModRevision, question: v, verdict: v,
	}
	if s.write(l.Context(), verdicts.Overdue(v, "x", time.Now())) {
		t.Error("it believes that it has written")
	}
	if now, _ := w.read(key); now.State != verdicts.Asking {
		t.Errorf("written: %+v", now)
	}
	_ = l.Resign(t.Context())
}

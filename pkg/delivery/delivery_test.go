package delivery_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/freeport"
	"github.com/pgctrl/pgctrl/pkg/delivery"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// nobody is an address where nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	return "http://" + freeport.Address(t)
}

// One receiver is away and one never answers; a third gets a thousand events, each once and in
// order, as if it were alone.
func TestHooksDoNotDelayOneAnother(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	hanging := newReceiver(t, func(_ int, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	healthy := newReceiver(t, nil)
	before := w.happen(3, 3) // was before any hook: nobody gets it
	w.hook("away", document(nobody(t)))
	w.hook("hanging", document(hanging.URL, "timeout: 10s"))
	w.hook("healthy", document(healthy.URL))
	w.lead()
	want := w.happen(1000, 90)
	until(t, "the healthy one has them all", func() bool { return len(healthy.ids()) >= len(want) })
	if got := healthy.ids(); !slices.Equal(got, want) {
		t.Errorf("got %d events, first %v; want %d, first %v", len(got), got[:3], len(want), want[:3])
	}
	if slices.Contains(healthy.ids(), before[0]) {
		t.Error("a new hook got what had happened before")
	}
	until(t, "it is written how far it is", func() bool { return w.state("healthy").Delivered == 1000 })
	until(t, "the one that is away is known to fail", func() bool { return w.state("away").FailingSince != nil })
	if s := w.state("away"); s.Delivered != 0 || s.Reason != hooks.Failing || !strings.Contains(s.Error, "connection refused") {
		t.Errorf("away: %+v", s)
	}
	// Nothing happens, so nothing is written, and a hook that caught up does nothing.
	at := w.state("healthy")
	w.resign()
	if s := w.state("healthy"); s.Cursor != at.Cursor || s.Delivered != at.Delivered {
		t.Errorf("it moved on from %+v to %+v", at, s)
	}
}

// A server that is killed in the middle: the next one goes on from what was written, so that
// nothing is lost and only what was sent around the kill is sent again.
func TestTakeoverRepeatsOnlyWhatWasJustSent(t *testing.T) {
	w := newWorld(t)
	halfway := make(chan struct{})
	r := newReceiver(t, func(n int, _ http.ResponseWriter, _ *http.Request) {
		if n == 250 {
			close(halfway)
		}
	})
	w.hook("a", document(r.URL))
	w.lead()
	want := w.happen(500, 40)
	<-halfway
	w.kill()
	at := w.state("a")
	sent := len(r.ids())
	w.lead()
	until(t, "everything has come", func() bool { return w.state("a").Cursor.Event == strings.Replace(want[len(want)-1], "/", ".", 1) })
	got := r.ids()
	var first []string
	for _, id := range got {
		if !slices.Contains(first, id) {
			first = append(first, id)
		}
	}
	if !slices.Equal(first, want) {
		t.Errorf("first deliveries: %d, want %d in order", len(first), len(want))
	}
	if again := len(got) - len(want); int64(again) > int64(sent)-at.Delivered+1 {
		t.Errorf("%d were repeated; %d had been sent, and %d were written as sent", again, sent, at.Delivered)
	}
}

// What a receiver refuses for as long as retry_for is kept, told, and sent again when asked.
func TestDeadLettersAndReplay(t *testing.T) {
	w := newWorld(t)
	broken := make(chan struct{})
	r := newReceiver(t, func(_ int, out http.ResponseWriter, _ *http.Request) {
		select {
		case <-broken:
		default:
			http.Error(out, "no such team", http.StatusBadRequest)
		}
	})
	w.hook("a", document(r.URL, "retry_for: 0s"))
	w.lead()
	want := w.happen(3, 1)
	until(t, "they are given up", func() bool { return w.state("a").Dead == 3 })
	letters := w.dead("a")
	if len(letters) != 3 {
		t.Fatalf("%d dead letters", len(letters))
	}
	var e events.Event
	if err := json.Unmarshal(letters[0].Event, &e); err != nil || e.Cluster+"/"+e.ID != want[0] {
		t.Errorf("the first is %s, want %s", letters[0].Event, want[0])
	}
	if d := letters[0]; d.Attempts != 1 || d.Error != "the receiver answers 400 Bad Request, so it does not want what it gets: no such team" || d.Hook != "a" || d.Cluster != "c" {
		t.Errorf("letter: %+v", d)
	}
	// One more time in vain, and the letter is back with one more attempt.
	w.replay("a", letters[0])
	until(t, "it is back", func() bool { d := w.dead("a"); return len(d) == 3 && d[0].Attempts == 2 })
	close(broken)
	for _, d := range w.dead("a") {
		w.replay("a", d)
	}
	until(t, "all are delivered", func() bool { return w.state("a").Delivered == 3 && len(w.dead("a")) == 0 })
	if got := r.ids(); len(got) != 3 {
		t.Errorf("got %v", got)
	}
}

func (w *world) replay(hook string, d hooks.Letter) {
	w.t.Helper()
	var e events.Event
	if err := json.Unmarshal(d.Event, &e); err != nil {
		w.t.Fatal(err)
	}
	again, err := json.Marshal(hooks.Again{Schema: hooks.Schema, Event: d.Event, Attempts: d.Attempts, Since: d.Since})
	if err != nil {
		w.t.Fatal(err)
	}
	w.drop(l.DeadLetter("c", hook, hooks.ID(e)))
	w.put(map[string][]byte{l.Redelivery("c", hook, hooks.ID(e)): again})
}

// No more than so many are kept; the oldest makes room and is counted.
func TestDeadLettersAreBounded(t *testing.T) {
	w := newWorld(t)
	w.hook("a", document(nobody(t), "retry_for: 0s"))
	w.lead()
	ids := w.happen(hooks.MaxDead+5, 100)
	until(t, "all are given up", func() bool { return w.state("a").Dead == int64(len(ids)) })
	letters := w.dead("a")
	if s := w.state("a"); len(letters) != hooks.MaxDead || s.Dropped != 5 {
		t.Errorf("%d are kept, %d dropped", len(letters), s.Dropped)
	}
	for _, d := range letters {
		if strings.Contains(string(d.Event), `"`+strings.TrimPrefix(ids[0], "c/")+`"`) {
			t.Error("the oldest is still there")
		}
	}
}

// Being asked for a test is answered, between the attempts at an event that fails.
func TestAskingForATest(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t, func(_ int, out http.ResponseWriter, req *http.Request) {
		if req.Header.Get(hooks.HeaderEvent) != string(events.HookTest) {
			out.WriteHeader(http.StatusInternalServerError)
		}
	})
	w.hook("a", document(r.URL))
	w.lead()
	w.happen(1, 1)
	until(t, "it fails", func() bool { return w.state("a").FailingSince != nil })
	event, _ := json.Marshal(events.Event{Schema: 1, ID: "test-1", Cluster: "c", Kind: events.HookTest})
	again, _ := json.Marshal(hooks.Again{Schema: hooks.Schema, Event: event, Test: true})
	w.put(map[string][]byte{l.Redelivery("c", "a", "c.test-1"): again})
	until(t, "there is an answer", func() bool { return w.state("a").LastTest != nil })
	if got := w.state("a").LastTest; got.ID != "test-1" || got.Error != "" {
		t.Errorf("answer: %+v", got)
	}
	if s := w.state("a"); s.Delivered != 0 || s.FailingSince == nil {
		t.Errorf("a test counts as an event: %+v", s)
	}
}

// A changed document is in force at once and loses no event; one that is wrong or switched off
// delivers nothing, and what happened meanwhile comes when it is put right.
func TestChangingAHook(t *testing.T) {
	w := newWorld(t)
	old, young := newReceiver(t, nil), newReceiver(t, nil)
	// seen returns once the deliverer has all documents in force that were written so far: it
	// takes them in their order. What it takes for that, any hook may get.
	probes := 0
	var probed []string
	seen := func() {
		t.Helper()
		probes++
		other := newReceiver(t, nil)
		name := fmt.Sprintf("probe%d", probes)
		w.hook(name, document(other.URL, "filter: {subject: [probe]}"))
		until(t, "documents are in force", func() bool {
			probed = append(probed, w.happen(1, 1, func(e *events.Event) { e.Subject = "probe" })...)
			return len(other.ids()) > 0
		})
		w.drop(l.ClusterDoc("c", "hooks/"+name))
	}
	fresh := func(r *receiver) (out []string) {
		for _, id := range r.ids() {
			if !slices.Contains(probed, id) {
				out = append(out, id)
			}
		}
		return out
	}
	w.hook("a", document(old.URL))
	w.lead()
	first := w.happen(5, 1)
	until(t, "the first have come", func() bool { return slices.Equal(fresh(old), first) })
	w.hook("a", document(young.URL, "enabled: false"))
	seen()
	second := w.happen(5, 1)
	w.hook("a", "events: 5")
	seen()
	second = append(second, w.happen(5, 1)...)
	seen()
	if got := fresh(young); len(got) > 0 || len(fresh(old)) != 5 {
		t.Errorf("a hook that is off got %v and %v", got, fresh(old))
	}
	w.hook("a", document(young.URL))
	until(t, "what happened meanwhile has come", func() bool { return slices.Equal(fresh(young), second) })
	w.drop(l.ClusterDoc("c", "hooks/a"))
	seen()
	w.happen(1, 1)
	seen()
	if got := fresh(young); len(got) != len(second) {
		t.Errorf("a deleted hook got %v", got[len(second):])
	}
}

// What a hook does not want is no write, and neither is waiting: etcd has no state of it.
func TestNothingIsWrittenForWhatNobodyWants(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t, nil)
	w.hook("idle", "events: [backup.failed]\nwebhook: {url: "+r.URL+"}")
	w.hook("busy", document(r.URL))
	w.lead()
	w.happen(150, 50)
	until(t, "another hook has them", func() bool { return w.state("busy").Delivered == 150 })
	if s := w.state("idle"); s.Schema != 0 {
		t.Errorf("written: %+v", s)
	}
	last := w.happen(1, 1, func(e *events.Event) { e.Kind = events.BackupFailed })
	until(t, "what it wants comes all the same", func() bool { return w.state("idle").Delivered == 1 })
	if got := w.state("idle").Cursor.Event; got != strings.Replace(last[0], "/", ".", 1) {
		t.Errorf("cursor at %s, want %s", got, last[0])
	}
}

// A hook of the fleet gets the events of every cluster, and its state is the fleet's.
func TestHooksOfTheFleet(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t, nil)
	w.put(map[string][]byte{l.FleetHook("page"): []byte(document(r.URL)), l.Secret(keys.Fleet, keys.HookSecret("page")): []byte("key\n")})
	w.lead()
	w.happen(2, 2)
	until(t, "they have come", func() bool { return len(r.ids()) == 2 })
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.heads[0]
	if want := hooks.Sign([]byte("key"), h.Get(hooks.HeaderTimestamp), r.bodies[0]); h.Get(hooks.HeaderSignature) != want {
		t.Errorf("signature %s, want %s", h.Get(hooks.HeaderSignature), want)
	}
	var body hooks.Body
	if err := json.Unmarshal(r.bodies[0], &body); err != nil || body.Hook != "page" || body.Cluster != keys.Fleet || body.Attempt != 1 {
		t.Errorf("body %s", r.bodies[0])
	}
}

// ordered is a Commander that says what it was asked.
type ordered struct {
	got  chan delivery.Order
	fail func(n int) error
	n    int
}

func (o *ordered) Run(_ context.Context, order delivery.Order) error {
	o.n++
	if o.fail != nil {
		if err := o.fail(o.n); err != nil {
			return err
		}
	}
	o.got <- order
	return nil
}

// A command is asked for by name, gets the body on standard input, and a panic on the way costs
// one attempt.
func TestCommandsAndPanics(t *testing.T) {
	c := &ordered{got: make(chan delivery.Order, 10), fail: func(n int) error {
		if n == 1 {
			panic("broken")
		}
		return nil
	}}
	w := newWorld(t, func(o *delivery.Options) { o.Commander = c })
	w.hook("a", "events: ['*']\ncommand: {program: page-oncall, arguments: [-v, -v]}\ntimeout: 3s")
	w.lead()
	ids := w.happen(1, 1)
	o := <-c.got
	if o.Program != "page-oncall" || !slices.Equal(o.Arguments, []string{"-v", "-v"}) || o.On != desired.CommandOnPrimary ||
		o.Cluster+"/"+o.ID != ids[0] || o.Timeout != 3*time.Second || o.Scope != "c" || o.Hook != "a" {
		t.Errorf("order %+v", o)
	}
	var body hooks.Body
	if err := json.Unmarshal(o.Input, &body); err != nil || body.Attempt != 2 {
		t.Errorf("input %s", o.Input)
	}
}

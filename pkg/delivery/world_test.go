package delivery_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/delivery"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var l = keys.Default

// world is an etcd with a deliverer that leads.
type world struct {
	t      *testing.T
	client *store.Client
	n      int64 // events so far
	opts   delivery.Options
	term   *term
}

// term is a leadership that a test ends: kindly, or as a server that is killed loses it.
type term struct {
	ctx    context.Context
	cancel context.CancelFunc
	guard  store.Guard
	done   chan struct{}
}

func (t *term) Context() context.Context { return t.ctx }
func (t *term) Guard() store.Guard       { return t.guard }

// newWorld starts an etcd; tries again come at once unless a test says otherwise.
func newWorld(t *testing.T, change ...func(*delivery.Options)) *world {
	t.Helper()
	return newWorldIn(t, etcdtest.Start(t), change...)
}

func newWorldIn(t *testing.T, s *etcdtest.Server, change ...func(*delivery.Options)) *world {
	t.Helper()
	c, err := store.Connect(t.Context(), store.Options{Endpoints: s.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	w := &world{t: t, client: c, opts: delivery.Options{
		Client: c, Layout: l, Version: "test", Wait: func(int) time.Duration { return 10 * time.Millisecond },
	}}
	for _, f := range change {
		f(&w.opts)
	}
	return w
}

// lead has a deliverer run until the test ends, or until kill or resign.
func (w *world) lead() {
	w.t.Helper()
	rev := w.put(map[string][]byte{l.ElectionKey(): []byte("me")})
	tm := &term{guard: store.CreateIs(l.ElectionKey(), rev), done: make(chan struct{})}
	tm.ctx, tm.cancel = context.WithCancel(context.Background())
	w.term = tm
	go func() {
		defer close(tm.done)
		delivery.New(w.opts).Run(tm)
	}()
	w.t.Cleanup(w.resign)
}

func (w *world) resign() {
	if w.term != nil {
		w.term.cancel()
		<-w.term.done
		w.drop(l.ElectionKey())
	}
	w.term = nil
}

// kill takes leadership away first, so that the deliverer can't write another word.
func (w *world) kill() {
	w.drop(l.ElectionKey())
	w.term.cancel()
	<-w.term.done
	w.term = nil
}

func (w *world) drop(key string) {
	if _, err := w.client.Commit(context.Background(), nil, []store.Op{store.Delete(key)}); err != nil {
		w.t.Error(err)
	}
}

func (w *world) put(writes map[string][]byte) int64 {
	w.t.Helper()
	var ops []store.Op
	for key, value := range writes {
		ops = append(ops, store.Put(key, value))
	}
	rev, err := w.client.Commit(w.t.Context(), nil, ops)
	if err != nil {
		w.t.Fatal(err)
	}
	return rev
}

// hook writes a document and waits until the deliverer has seen it, which a test tells by
// events that come later than it.
func (w *world) hook(name, text string) {
	w.put(map[string][]byte{l.ClusterDoc("c", "hooks/"+name): []byte(text)})
}

// happen writes so many events, up to most of them in one transaction, and returns their ids.
func (w *world) happen(n, most int, change ...func(*events.Event)) (ids []string) {
	w.t.Helper()
	for n > 0 {
		writes := map[string][]byte{}
		for range min(n, most) {
			w.n++
			e := events.Event{
				Schema: events.Schema, ID: events.ID{Revision: 1000 + w.n/int64(most), N: int(w.n % int64(most))}.String(), Cluster: "c",
				Kind: events.VIPTaken, Severity: events.Info, At: time.Now().UTC(), Seen: time.Now().UTC(), Message: "x",
			}
			for _, f := range change {
				f(&e)
			}
			value, err := json.Marshal(e)
			if err != nil {
				w.t.Fatal(err)
			}
			writes[l.EventKey("c", e.ID)] = value
			ids = append(ids, "c/"+e.ID)
			n--
		}
		w.put(writes)
	}
	return ids
}

func (w *world) state(hook string) (s hooks.State) {
	w.t.Helper()
	e, ok, err := w.client.Get(w.t.Context(), l.DeliveryState("c", hook))
	if err != nil || ok && json.Unmarshal(e.Value, &s) != nil {
		w.t.Fatal(err, string(e.Value))
	}
	return s
}

func (w *world) dead(hook string) (out []hooks.Letter) {
	w.t.Helper()
	es, _, err := w.client.List(w.t.Context(), l.DeadLetters("c", hook))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range es {
		var letter hooks.Letter
		if err := json.Unmarshal(e.Value, &letter); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, letter)
	}
	return out
}

const patience = 30 * time.Second

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatalf("not so after %s: %s", patience, what)
}

// receiver is an HTTP server that remembers what it got, and answers as it is told.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []string // ids, of attempts that were answered with success
	bodies [][]byte
	heads  []http.Header
	answer func(n int, w http.ResponseWriter, r *http.Request) // n counts attempts from 1
	n      int
}

func newReceiver(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

type noting struct {
	http.ResponseWriter
	status int
}

func (n *noting) WriteHeader(status int) {
	n.status = status
	n.ResponseWriter.WriteHeader(status)
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	r.n++
	n := r.n
	r.mu.Unlock()
	out := &noting{ResponseWriter: w, status: http.StatusOK}
	if r.answer != nil {
		r.answer(n, out, req)
	}
	if out.status >= 300 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, req.Header.Get(hooks.HeaderEventID))
	r.bodies, r.heads = append(r.bodies, body), append(r.heads, req.Header.Clone())
}

func (r *receiver) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// document is a hook that wants everything.
func document(url string, more ...string) string {
	text := fmt.Sprintf("events: ['*']\nwebhook: {url: %q}\n", url)
	for _, m := range more {
		text += m + "\n"
	}
	return text
}

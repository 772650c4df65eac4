package arbiter

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/hookrun"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/verdicts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var layout = keys.Default

// world is an etcd and servers that lead one after the other.
type world struct {
	t        *testing.T
	etc      *etcdtest.Server
	client   *store.Client
	programs func(context.Context, hookrun.Order) (hookrun.Outcome, error)
	docs     []kv.KV
}

// Run implements Programs.
func (w *world) Run(ctx context.Context, o hookrun.Order) (hookrun.Outcome, error) {
	return w.programs(ctx, o)
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, etc: etcdtest.Start(t)}
	w.client = w.connect()
	t.Cleanup(func() { _ = w.client.Close() })
	return w
}

func (w *world) connect() *store.Client {
	w.t.Helper()
	c, err := store.Connect(context.Background(), store.Options{Endpoints: w.etc.Endpoints()})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// lead runs an arbiter as a server does that leads. The returned function ends it, politely or as
// a crash would: then its leadership is gone before it knows.
func (w *world) lead() (stop func(polite bool)) {
	w.t.Helper()
	client := w.connect()
	l, err := client.Campaign(context.Background(), layout.ElectionKey(), "test", 3*time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	a := New(Options{
		Client: client, Layout: layout, Version: "test", Log: zaptest.NewLogger(w.t),
		Programs: func(*store.Leadership) Programs { return w },
		Wait:     func(int) time.Duration { return 20 * time.Millisecond },
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); a.Lead(ctx, l) }()
	var once sync.Once
	stop = func(polite bool) {
		once.Do(func() {
			if !polite {
				_ = l.Resign(context.Background())
			}
			cancel()
			<-ended
			_ = l.Resign(context.Background())
			_ = client.Close()
		})
	}
	w.t.Cleanup(func() { stop(true) })
	return stop
}

func (w *world) put(key string, value []byte) {
	w.t.Helper()
	if _, err := w.client.Commit(context.Background(), nil, []store.Op{store.Put(key, value)}); err != nil {
		w.t.Fatal(err)
	}
}

// hook writes a hook's document; the deadline is short unless the text says otherwise.
func (w *world) hook(key, text string) {
	w.t.Helper()
	e := kv.KV{Key: key, Value: []byte("before: [restart]\n" + text)}
	if h, problems := desired.ReadHook(layout, e); h == nil {
		w.t.Fatal(problems)
	}
	w.put(key, e.Value)
	w.docs = append(w.docs, e)
}

// ask writes the question as a command does.
func (w *world) ask(change ...func(*verdicts.Verdict)) (key string) {
	w.t.Helper()
	ask, unusable := verdicts.Asked(layout, w.docs, verdicts.Restart)
	if len(unusable) > 0 {
		w.t.Fatal(unusable)
	}
	v := verdicts.New(layout, verdicts.Verdict{Cluster: "c", Operation: verdicts.Restart, Subject: "c-1", By: "me@n1", Why: "ticket 7"}, ask, time.Now())
	for _, f := range change {
		f(&v)
	}
	key = layout.VerdictKey("c", v.ID)
	w.put(key, observed.Encode(v))
	return key
}

func (w *world) read(key string) (verdicts.Verdict, bool) {
	w.t.Helper()
	e, there, err := w.client.Get(context.Background(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	if !there {
		return verdicts.Verdict{}, false
	}
	v, err := observed.Decode[verdicts.Verdict](e)
	if err != nil {
		w.t.Fatal(err)
	}
	return v, true
}

// until waits for a verdict that is as wanted.
func (w *world) until(key string, wanted func(verdicts.Verdict) bool) verdicts.Verdict {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; <-time.After(5 * time.Millisecond) {
		v, there := w.read(key)
		if there && wanted(v) {
			return v
		}
		if time.Now().After(end) {
			w.t.Fatalf("not as wanted after 20 s: %+v", v)
		}
	}
}

func (w *world) final(key string) verdicts.Verdict {
	w.t.Helper()
	return w.until(key, func(v verdicts.Verdict) bool { return v.State.Final() })
}

// receiver is a webhook's receiver that answers the nth question as it is told.
type receiver struct {
	*httptest.Server
	mu  sync.Mutex
	got []verdicts.Question
}

type reply struct {
	status int
	header map[string]string
	body   string
}

// answers has a receiver give these answers, the last one again and again.
func answers(t *testing.T, replies ...reply) *receiver {
	return receive(t, func(w http.ResponseWriter, n int) {
		r := replies[min(n, len(replies)-1)]
		for k, v := range r.header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(r.status)
		_, _ = io.WriteString(w, r.body)
	})
}

func receive(t *testing.T, answer func(w http.ResponseWriter, n int)) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var q verdicts.Question
		if err := json.NewDecoder(req.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		if h := req.Header; h.Get("Pgctrl-Before") != "restart" || h.Get("Pgctrl-Verdict-Id") != "c/"+q.Before.ID {
			t.Errorf("headers %v of %+v", h, q)
		}
		r.mu.Lock()
		r.got = append(r.got, q)
		n := len(r.got) - 1
		r.mu.Unlock()
		answer(w, n)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) questions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

func (r *receiver) doc(more string) string {
	return fmt.Sprintf("webhook: {url: %q}\n%s", r.URL, more)
}

package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// patience bounds what a script waits for.
const patience = 20 * time.Second

func (w *world) now() time.Time { return time.Now().Add(w.clock) }

func (w *world) setClock(ts *testscript.TestScript, to string) {
	t, err := time.Parse(time.RFC3339, to)
	ts.Check(err)
	w.clock = time.Until(t)
}

// setRoom has the agent at an address say how many bytes it has left.
func (w *world) setRoom(ts *testscript.TestScript, args []string) {
	n, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	if w.room == nil {
		w.room = map[string]uint64{}
	}
	w.room[args[0]] = n
}

func (w *world) askRoom(_ context.Context, address, _ string) (uint64, error) {
	n, ok := w.room[address]
	if !ok {
		return 0, errors.New("nobody answers")
	}
	return n, nil
}

// begin runs a command line beside the script.
func (w *world) begin(ts *testscript.TestScript, args []string) {
	if w.going != nil {
		ts.Fatalf("background: the last one was not finished")
	}
	going := make(chan ended, 1)
	w.going = going
	go func() {
		var e ended
		e.code, e.out, e.errs = w.run(ts, args)
		going <- e
	}()
}

func (w *world) finish(ts *testscript.TestScript, want int) {
	e := <-w.going
	w.going = nil
	_, _ = ts.Stdout().Write([]byte(e.out))
	_, _ = ts.Stderr().Write([]byte(e.errs))
	if e.code != want {
		ts.Fatalf("background: exit code %d, want %d\n%s%s", e.code, want, e.out, e.errs)
	}
}

// until waits for a key to be there, or not to be.
func (w *world) until(ts *testscript.TestScript, key string, there bool) {
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		es, _, err := w.client.List(ctx, key)
		if err == nil && (len(es) > 0) == there {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%s: still not so after %s", key, patience)
		case <-tick.C:
		}
	}
}

// advance moves an operation on.
func advance(ts *testscript.TestScript, _ bool, args []string) {
	amend(ts, keys.Default.ClusterOperations(args[0]), args[1])
}

// answer says what came of a question to hooks.
func answer(ts *testscript.TestScript, _ bool, args []string) {
	amend(ts, keys.Default.Prefix(keys.Verdicts)+args[0]+"/", args[1])
}

// amend writes fields of JSON over those of the newest record under a prefix.
func amend(ts *testscript.TestScript, prefix, file string) {
	w := worldOf(ts)
	es, _, err := w.client.List(w.ctx, prefix)
	ts.Check(err)
	es = slices.DeleteFunc(es, func(e kv.KV) bool { return strings.HasSuffix(e.Key, "/"+keys.Token) })
	if len(es) == 0 {
		ts.Fatalf("%s has nothing", prefix)
	}
	newest := slices.MaxFunc(es, func(x, y kv.KV) int { return cmp.Compare(x.CreateRevision, y.CreateRevision) })
	record := map[string]any{}
	ts.Check(json.Unmarshal(newest.Value, &record))
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &record))
	_, err = w.client.Commit(w.ctx, []store.Guard{store.ModIs(newest.Key, newest.ModRevision)}, []store.Op{store.Put(newest.Key, observed.Encode(record))})
	ts.Check(err)
}

// replies answers a hook's questions.
func replies(ts *testscript.TestScript, _ bool, args []string) {
	status, err := strconv.Atoi(args[1])
	ts.Check(err)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, args[2])
	}))
	ts.Defer(s.Close)
	ts.Setenv(args[0], s.URL)
}

// leased writes a key as a command does that is killed at that moment.
func leased(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	c, err := clientv3.New(clientv3.Config{Endpoints: w.endpoints})
	ts.Check(err)
	defer c.Close()
	lease, err := c.Grant(w.ctx, 2)
	ts.Check(err)
	_, err = c.Put(w.ctx, args[0], args[1], clientv3.WithLease(lease.ID))
	ts.Check(err)
}

// shows repeats a command until its standard output matches.
func shows(ts *testscript.TestScript, _ bool, args []string) {
	w, re := worldOf(ts), regexp.MustCompile("(?m)"+args[0])
	for end := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		code, out, errs := w.run(ts, args[1:])
		if code == Done && re.MatchString(out) {
			_, _ = ts.Stdout().Write([]byte(out))
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("not within %s: %s\n%s%s", patience, args[0], out, errs)
		}
	}
}

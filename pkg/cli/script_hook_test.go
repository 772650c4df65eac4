package cli

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pgctrl/pgctrl/pkg/delivery"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// receiver answers every webhook with one status, which a script changes.
type receiver struct {
	server *httptest.Server
	status atomic.Int64
}

// receive starts a receiver at $RECEIVER, or changes what it answers.
func receive(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	status, err := strconv.Atoi(args[0])
	ts.Check(err)
	if w.receiver == nil {
		r := &receiver{}
		r.server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
			out.WriteHeader(int(r.status.Load()))
		}))
		w.receiver = r
		ts.Defer(r.server.Close)
		ts.Setenv("RECEIVER", r.server.URL)
	}
	w.receiver.status.Store(int64(status))
}

// leading is a term that lasts as long as the script.
type leading struct{ ctx context.Context }

func (l leading) Context() context.Context { return l.ctx }
func (l leading) Guard() store.Guard       { return store.ModIs(keys.Default.DefaultsDoc("nobody"), 0) }

// deliver starts delivering, as the leading server does.
func deliver(ts *testscript.TestScript, _ bool, _ []string) {
	w := worldOf(ts)
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		delivery.New(delivery.Options{Client: w.client, Layout: keys.Default, Version: "test"}).Run(leading{ctx})
	}()
	ts.Defer(func() { cancel(); <-done })
}

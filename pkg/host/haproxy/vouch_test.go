package haproxy

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestVouchOutlastsSilence: a server that is vouched for stays up while its check gets
// no answer, refused or not, and goes down by a check that says no.
func TestVouchOutlastsSilence(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	m := l.servers["m1"]
	hung := newHanging(t) // what a stopped Patroni is to those who ask
	m.checkPort = hung.port
	l.write(l.config())
	u := l.unit("m1")
	l.up(u)
	_, err := l.router.Assert(t.Context(), u, true)
	must(t, err)
	if l.router.Contested(testUnit) {
		t.Error("contested before any check ended")
	}
	vouch := l.unit("m1")
	vouch.Targets["primary"]["m1"] = plan.Target{Held: plan.Vouch, Start: plan.Up}
	until(t, 6*time.Second, "the first check to end without an answer", func() bool {
		_, err := l.router.Assert(t.Context(), u, false)
		must(t, err)
		return l.router.Contested(testUnit)
	})
	stays := func(what string) {
		t.Helper()
		next := time.Now()
		during(9*time.Second, func() {
			if now := time.Now(); !now.Before(next) {
				next = now.Add(500 * time.Millisecond)
				_, err := l.router.Assert(t.Context(), vouch, false)
				must(t, err)
			}
			if !l.states()["primary"]["m1"].Up {
				t.Fatalf("m1 is down although it is vouched for and its check %s: %+v", what, l.states()["primary"]["m1"])
			}
		})
		if !l.router.Contested(testUnit) {
			t.Errorf("not contested although its check %s: %+v", what, l.states()["primary"]["m1"])
		}
	}
	stays("gets no answer")
	hung.refuse()
	stays("is refused")
	hung.answer(http.StatusServiceUnavailable)
	until(t, 12*time.Second, "m1 down by a check that says no", func() bool {
		_, err := l.router.Assert(t.Context(), vouch, false)
		must(t, err)
		return !l.states()["primary"]["m1"].Up
	})
	if l.router.Contested(testUnit) {
		t.Error("contested although its check is answered")
	}
	hung.answer(http.StatusOK)
	until(t, 8*time.Second, "m1 up again", func() bool {
		_, err := l.router.Assert(t.Context(), vouch, false)
		must(t, err)
		return l.states()["primary"]["m1"].Up
	})
}

// hanging is a port that takes connections and never answers; later it refuses them,
// or answers.
type hanging struct {
	t    *testing.T
	port int
	ln   net.Listener
	srv  *http.Server
}

func newHanging(t *testing.T) *hanging {
	h := &hanging{t: t}
	h.listen("127.0.0.1:0")
	h.port = h.ln.Addr().(*net.TCPAddr).Port
	t.Cleanup(h.refuse)
	return h
}

func (h *hanging) listen(addr string) {
	h.t.Helper()
	var err error
	h.ln, err = net.Listen("tcp", addr)
	must(h.t, err)
}

func (h *hanging) refuse() {
	if h.srv != nil {
		_ = h.srv.Close()
	}
	_ = h.ln.Close()
	h.srv = nil
}

func (h *hanging) answer(status int) {
	h.t.Helper()
	addr := h.ln.Addr().String()
	h.refuse()
	h.listen(addr)
	h.srv = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })}
	go func() { _ = h.srv.Serve(h.ln) }()
}

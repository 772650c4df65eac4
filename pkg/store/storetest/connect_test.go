package storetest_test

import (
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/store"
)

func TestConnect(t *testing.T) {
	s := etcdtest.Start(t)
	nobody, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never says a word
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nobody.Close() })
	dead := "http://" + nobody.Addr().String()

	c, err := store.Connect(t.Context(), store.Options{Endpoints: append([]string{dead}, s.Endpoints()...), DialTimeout: time.Second})
	if err != nil {
		t.Fatalf("one of two endpoints works: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if got, err := c.Endpoints(t.Context()); err != nil || !slices.Equal(got, s.Endpoints()) {
		t.Errorf("members advertise %q, %v; expected %q", got, err, s.Endpoints())
	}

	started := time.Now()
	if _, err = store.Connect(t.Context(), store.Options{Endpoints: []string{dead}, DialTimeout: 200 * time.Millisecond}); err == nil || !strings.Contains(err.Error(), dead) {
		t.Errorf("nobody answers: %v", err)
	}
	if d := time.Since(started); d > 2*time.Second {
		t.Errorf("it took %s to say so", d)
	}
	if _, err := store.Connect(t.Context(), store.Options{}); err == nil {
		t.Error("connected to no endpoint")
	}
}

// hole is a TCP proxy that can swallow everything without closing anything.
type hole struct {
	net.Listener
	mu   sync.Mutex
	open chan struct{} // closed while traffic flows
}

func newHole(t *testing.T, to string) *hole {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hole{Listener: l, open: make(chan struct{})}
	close(h.open)
	var wg sync.WaitGroup
	var conns []net.Conn
	t.Cleanup(func() {
		h.heal()
		_ = l.Close()
		h.mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		h.mu.Unlock()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			h.mu.Lock()
			conns = append(conns, in, out)
			h.mu.Unlock()
			wg.Go(func() { h.pump(out, in) })
			wg.Go(func() { h.pump(in, out) })
		}
	})
	return h
}

func (h *hole) pump(to io.WriteCloser, from io.Reader) {
	defer func() { _ = to.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		h.mu.Lock()
		open := h.open
		h.mu.Unlock()
		<-open
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (h *hole) swallow() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = make(chan struct{})
}

func (h *hole) heal() {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.open:
	default:
		close(h.open)
	}
}

// TestBlackHole is what the model's Cut stands for, on a real connection: the watch
// of a client that is cut off says nothing, for ever; the mirror knows its age, a
// leader stops by its own clock, and both go on when the network does.
func TestBlackHole(t *testing.T) {
	s := etcdtest.Start(t)
	h := newHole(t, strings.TrimPrefix(s.Endpoints()[0], "http://"))
	c, err := store.Connect(t.Context(), store.Options{Endpoints: []string{"http://" + h.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	m := store.NewMirror(c, store.MirrorOptions{Name: "m", Prefixes: []string{"/a/", "/b/"}, ProbeEvery: 50 * time.Millisecond, StaleAfter: 400 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	<-m.Ready()
	l, err := c.Campaign(ctx, "/election", "me", 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	h.swallow()
	cut := time.Now()
	if _, err := s.Client(t).Put(t.Context(), "/a/x", "1"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.Context().Done():
	case <-time.After(patience):
		t.Fatal("leads for ever")
	}
	if d := time.Since(cut); d > 600*time.Millisecond {
		t.Errorf("a lease of 2 s, less a margin of 1.5 s, was held for %s", d)
	}
	until(t, "the mirror is old", func() bool { at, _ := m.Fresh(); return time.Since(at) > 800*time.Millisecond })
	if _, ok := m.Snapshot().Get("/a/x"); ok {
		t.Error("the hole leaks; the test shows nothing")
	}
	h.heal()
	until(t, "the mirror has what it missed, and is fresh", func() bool {
		at, _ := m.Fresh()
		_, ok := m.Snapshot().Get("/a/x")
		return ok && time.Since(at) < 200*time.Millisecond
	})
	again, err := c.Campaign(ctx, "/election", "me", 2*time.Second)
	if err != nil || again.Epoch() <= l.Epoch() {
		t.Fatalf("leading again: %v", err)
	}
	if err := again.Resign(ctx); err != nil {
		t.Error(err)
	}
}

const patience = 20 * time.Second

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

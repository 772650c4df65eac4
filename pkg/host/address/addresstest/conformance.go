// Package addresstest says what a driver of virtual addresses does, as a table to
// which the real one and every fake is held.
package addresstest

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Addresses is what is held to the table; its words are in package address.
type Addresses interface {
	Hold(ctx context.Context, a plan.Address, lifetime time.Duration) (added bool, err error)
	Drop(ctx context.Context, a plan.Address) (removed bool, err error)
	Announce(ctx context.Context, a plan.Address) error
	Held(ctx context.Context, a plan.Address) (bool, error)
	Watch(ctx context.Context, a plan.Address, changed func(held bool))
	Probe(ctx context.Context, a plan.Address, wait time.Duration) ([]net.HardwareAddr, error)
}

// Env is the world around the driver's host.
type Env interface {
	// Address is one that nobody has when a case begins.
	Address() plan.Address
	// OtherTakes puts it on another host of the network, whose hardware address it
	// returns; OtherLeaves takes it off there.
	OtherTakes(t testing.TB) net.HardwareAddr
	OtherLeaves(t testing.TB)
	// AddByHand puts it on this host as a person would, for ever; RemoveByHand
	// takes it off.
	AddByHand(t testing.TB)
	RemoveByHand(t testing.TB)
	// Connect opens a connection from another host to the address on this one. The
	// channel is closed when the client is told that the connection is over.
	Connect(t testing.TB) (over <-chan struct{})
	// Announced counts what the network was told so far.
	Announced(t testing.TB) int
}

// Case is one row of the table.
type Case struct {
	Name string
	Run  func(t *testing.T, s Addresses, e Env)
}

// Conformance runs every case, each in a world of its own, side by side.
func Conformance(t *testing.T, world func(t *testing.T) (Addresses, Env)) {
	for _, c := range Cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			s, e := world(t)
			c.Run(t, s, e)
		})
	}
}

// Cases is the table. Each case can run alone in a testing/synctest bubble when the
// driver under test is a fake.
var Cases = []Case{
	{"hold and drop", holdAndDrop},
	{"nobody refreshes", expires},
	{"refreshed", staysWhileRefreshed},
	{"never longer than asked", shortened},
	{"added by hand", takesOver},
	{"announce", announces},
	{"watch", watches},
	{"probe", probes},
	{"connections", endsConnections},
	{"an ended context", endedContext},
}

func holdAndDrop(t *testing.T, s Addresses, e Env) {
	ctx, a := t.Context(), e.Address()
	expectHeld(t, s, a, false)
	if removed, err := s.Drop(ctx, a); err != nil || removed {
		t.Errorf("drop of an address that is not here: %v, %v; want false and no error", removed, err)
	}
	for i, want := range []bool{true, false, false} {
		if added, err := s.Hold(ctx, a, 5*time.Second); err != nil || added != want {
			t.Errorf("hold %d: added %v, %v; want %v", i+1, added, err, want)
		}
		expectHeld(t, s, a, true)
	}
	if removed, err := s.Drop(ctx, a); err != nil || !removed {
		t.Errorf("drop: %v, %v; want true", removed, err)
	}
	expectHeld(t, s, a, false)
	if _, err := s.Hold(ctx, a, 0); err == nil {
		t.Error("a lifetime of nothing was accepted")
	}
	expectHeld(t, s, a, false)
}

func expires(t *testing.T, s Addresses, e Env) {
	a := e.Address()
	hold(t, s, a, 2*time.Second)
	gone := untilGone(t, s, a)
	if gone < 1500*time.Millisecond || gone > 4*time.Second {
		t.Errorf("with a lifetime of 2 s it went after %s", gone)
	}
}

func staysWhileRefreshed(t *testing.T, s Addresses, e Env) {
	a := e.Address()
	for range 7 {
		hold(t, s, a, 2*time.Second)
		time.Sleep(500 * time.Millisecond)
		expectHeld(t, s, a, true)
	}
}

// A later, shorter lifetime replaces a longer one.
func shortened(t *testing.T, s Addresses, e Env) {
	a := e.Address()
	hold(t, s, a, time.Minute)
	hold(t, s, a, 2*time.Second)
	if gone := untilGone(t, s, a); gone > 4*time.Second {
		t.Errorf("with a lifetime of 2 s after one of a minute it went after %s", gone)
	}
}

func takesOver(t *testing.T, s Addresses, e Env) {
	a := e.Address()
	e.AddByHand(t)
	expectHeld(t, s, a, true)
	if added, err := s.Hold(t.Context(), a, 2*time.Second); err != nil || added {
		t.Errorf("hold of one added by hand: added %v, %v; it was here", added, err)
	}
	if gone := untilGone(t, s, a); gone < 1500*time.Millisecond || gone > 4*time.Second {
		t.Errorf("one added by hand and held for 2 s went after %s", gone)
	}
	e.AddByHand(t)
	if removed, err := s.Drop(t.Context(), a); err != nil || !removed {
		t.Errorf("drop of one added by hand: %v, %v", removed, err)
	}
	expectHeld(t, s, a, false)
	hold(t, s, a, 5*time.Second)
	e.RemoveByHand(t)
	if added, err := s.Hold(t.Context(), a, 5*time.Second); err != nil || !added {
		t.Errorf("hold after somebody removed it: added %v, %v", added, err)
	}
}

func announces(t *testing.T, s Addresses, e Env) {
	a := e.Address()
	if err := s.Announce(t.Context(), a); err == nil {
		t.Error("an address that is not here was announced")
	}
	hold(t, s, a, 5*time.Second)
	before := e.Announced(t)
	for range 2 {
		if err := s.Announce(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the network hears two announcements", func() bool { return e.Announced(t) >= before+2 })
}

func watches(t *testing.T, s Addresses, e Env) {
	ctx, cancel := context.WithCancel(t.Context())
	a, events, done := e.Address(), make(chan bool, 16), make(chan struct{})
	go func() {
		defer close(done)
		s.Watch(ctx, a, func(held bool) { events <- held })
	}()
	expect := func(what string, want bool) {
		t.Helper()
		select {
		case got := <-events:
			if got != want {
				t.Errorf("%s: told %v, want %v", what, got, want)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: told nothing", what)
		}
	}
	expect("at the start", false)
	hold(t, s, a, time.Minute)
	expect("added", true)
	hold(t, s, a, time.Minute) // no change
	e.RemoveByHand(t)
	expect("removed by hand", false)
	e.AddByHand(t)
	expect("added by hand", true)
	if _, err := s.Drop(ctx, a); err != nil {
		t.Fatal(err)
	}
	expect("dropped", false)
	hold(t, s, a, time.Second)
	expect("added", true)
	expect("its lifetime is over", false)
	cancel()
	<-done
	if len(events) > 0 {
		t.Error("told something more")
	}
}

func probes(t *testing.T, s Addresses, e Env) {
	a := e.Address()
	ask := func(what string, want ...net.HardwareAddr) {
		t.Helper()
		got, err := s.Probe(t.Context(), a, 300*time.Millisecond)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		if len(got) != len(want) || len(want) == 1 && got[0].String() != want[0].String() {
			t.Errorf("%s: %v answer, want %v", what, got, want)
		}
	}
	ask("nobody has it")
	hold(t, s, a, time.Minute)
	ask("this host alone has it")
	other := e.OtherTakes(t)
	ask("another has it too", other)
	if _, err := s.Drop(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	ask("another has it", other)
	e.OtherLeaves(t)
	ask("nobody has it any more")
}

func endsConnections(t *testing.T, s Addresses, e Env) {
	a := e.Address()
	hold(t, s, a, time.Minute)
	over := []<-chan struct{}{e.Connect(t), e.Connect(t)}
	hold(t, s, a, time.Minute)
	for _, o := range over {
		select {
		case <-o:
			t.Error("a refresh ended a connection")
		default:
		}
	}
	if _, err := s.Drop(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Second)
	for _, o := range over {
		select {
		case <-o:
		case <-deadline:
			t.Error("a client was not told that its connection is over")
		}
	}
}

// Acting needs a living context; letting go does not.
func endedContext(t *testing.T, s Addresses, e Env) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	a := e.Address()
	if added, err := s.Hold(ended, a, time.Minute); err == nil || added {
		t.Errorf("hold with an ended context: %v, %v", added, err)
	}
	expectHeld(t, s, a, false)
	hold(t, s, a, time.Minute)
	if removed, err := s.Drop(ended, a); err != nil || !removed {
		t.Errorf("drop with an ended context: %v, %v", removed, err)
	}
	expectHeld(t, s, a, false)
	s.Watch(ended, a, func(bool) {}) // returns
}

func hold(t *testing.T, s Addresses, a plan.Address, lifetime time.Duration) {
	t.Helper()
	if _, err := s.Hold(t.Context(), a, lifetime); err != nil {
		t.Fatal(err)
	}
}

func expectHeld(t *testing.T, s Addresses, a plan.Address, want bool) {
	t.Helper()
	if got, err := s.Held(t.Context(), a); err != nil || got != want {
		t.Errorf("held: %v, %v; want %v", got, err, want)
	}
}

// untilGone waits for the address to go and returns how long that took.
func untilGone(t *testing.T, s Addresses, a plan.Address) time.Duration {
	t.Helper()
	start := time.Now()
	eventually(t, "the address goes", func() bool {
		held, err := s.Held(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		return !held
	})
	return time.Since(start)
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for start := time.Now(); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > 6*time.Second {
			t.Fatalf("waited 6 s: %s", what)
		}
	}
}

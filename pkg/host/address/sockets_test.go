package address

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// ended waits for a read to end and says how.
func ended(c net.Conn, wait time.Duration) error {
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	return err
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// Connections on the address end, whoever opened them; all others go on.
func TestDropEndsItsConnectionsOnly(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *world) {
		w.hold(t, time.Minute)
		remote, local := w.dial(t, "client"), w.dial(t, "own")
		vip := w.a
		w.a.Address = map[string]string{v4.Address: "10.77.0.1/32", v6.Address: "fd77::1/128"}[vip.Address]
		bystander := w.dial(t, "client")
		w.a = vip
		w.drop(t)
		for what, c := range map[string]net.Conn{"remote": remote, "local": local} {
			if err := ended(c, time.Second); err == nil || isTimeout(err) {
				t.Errorf("the %s client was not told: %v", what, err)
			}
		}
		if err := ended(bystander, 50*time.Millisecond); !isTimeout(err) {
			t.Errorf("a connection on the host's own address ended: %v", err)
		}
		w.hold(t, time.Minute)
		w.dial(t, "client") // the listener goes on
	})
}

// A program that listens on an IPv4 address has other sockets than one that listens
// on ::. Its listener serves again when the address is back.
func TestDropEndsPlainIPv4(t *testing.T) {
	t.Parallel()
	w := newWorld(t, v4)
	w.hold(t, time.Minute)
	var l net.Listener
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // Go's default listener is of another protocol, which nothing here touches
	w.In(t, "own", func() (err error) { l, err = lc.Listen(t.Context(), "tcp4", w.ip()+":5434"); return err })
	defer l.Close()
	var c net.Conn
	w.In(t, "client", func() (err error) { c, err = net.Dial("tcp", w.ip()+":5434"); return err })
	defer c.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	w.drop(t)
	for what, c := range map[string]net.Conn{"client": c, "server": accepted} {
		if err := ended(c, time.Second); err == nil || isTimeout(err) {
			t.Errorf("the %s was not told: %v", what, err)
		}
	}
	w.hold(t, time.Minute)
	w.In(t, "client", func() (err error) { c, err = net.DialTimeout("tcp", w.ip()+":5434", time.Second); return err })
	c.Close()
}

func TestDropEndsMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t, v4)
	w.hold(t, time.Minute)
	var cs []net.Conn
	for range 300 {
		cs = append(cs, w.dial(t, "client"))
	}
	w.drop(t)
	for i, c := range cs {
		if err := ended(c, time.Second); err == nil || isTimeout(err) {
			t.Fatalf("client %d was not told: %v", i, err)
		}
	}
}

// The address went without a Drop (the agent was dead), and its connections are
// ended only now: too late for a reset from here, so the next holder gives it.
func TestClientsOfLateEndsFindOut(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *world) {
		w.hold(t, time.Minute)
		c := w.dial(t, "client")
		w.RemoveByHand(t)
		if err := ended(c, 50*time.Millisecond); !isTimeout(err) {
			t.Fatalf("the client found out by itself: %v", err)
		}
		w.drop(t)
		w.OtherTakes(t)
		announceFrom(t, w, "other")
		if err := ended(c, 4*time.Second); err == nil || isTimeout(err) || errors.Is(err, io.EOF) {
			t.Errorf("the client was not told: %v", err)
		}
	})
}

func announceFrom(t *testing.T, w *world, host string) {
	m := New(Options{Namespace: w.Path(host)})
	defer m.Close()
	if err := m.Announce(t.Context(), w.a); err != nil {
		t.Fatal(err)
	}
}

type noEnder struct{}

func (noEnder) end(target, time.Time) ([]connection, error) { return nil, errCannotEnd }

// A kernel without the ability costs a note in the log, once.
func TestKernelThatCannotEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, v4)
	core, logs := observer.New(zap.DebugLevel)
	w.m.o.Log, w.m.enders = zap.New(core), noEnder{}
	for range 2 {
		w.hold(t, time.Minute)
		w.drop(t)
	}
	if n := logs.FilterMessageSnippet("left to their clients").Len(); n != 1 || logs.Len() != 1 {
		t.Errorf("%d notes, %d lines", n, logs.Len())
	}
}

package systemd

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// peer is systemd's own socket: it answers Subscribe and sends what a test says.
type peer struct {
	t    *testing.T
	path string
	l    net.Listener

	mu         sync.Mutex
	conns      []net.Conn
	subscribed chan struct{}
}

func newPeer(t *testing.T) *peer {
	p := &peer{t: t, path: filepath.Join(t.TempDir(), "private"), subscribed: make(chan struct{}, 8)}
	p.open()
	t.Cleanup(p.shut)
	return p
}

func (p *peer) open() {
	l, err := net.Listen("unix", p.path)
	if err != nil {
		p.t.Fatal(err)
	}
	p.l = l
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
}

// shut ends the socket and its connections, as a systemd that executes itself anew.
func (p *peer) shut() {
	p.l.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *peer) serve(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch words := strings.Fields(strings.TrimLeft(line, "\x00")); {
		case len(words) == 0:
		case words[0] == "AUTH" && len(words) > 1:
			c.Write([]byte("OK 0123456789abcdef0123456789abcdef\r\n"))
		case words[0] == "AUTH":
			c.Write([]byte("REJECTED EXTERNAL\r\n"))
		case words[0] == "NEGOTIATE_UNIX_FD":
			c.Write([]byte("ERROR\r\n"))
		case words[0] == "BEGIN":
			p.messages(c, r)
			return
		}
	}
}

func (p *peer) messages(c net.Conn, r *bufio.Reader) {
	for {
		m, err := godbus.DecodeMessage(r)
		if err != nil {
			return
		}
		if m.Type != godbus.TypeMethodCall {
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, c)
		p.send(c, &godbus.Message{Type: godbus.TypeMethodReply, Headers: map[godbus.HeaderField]godbus.Variant{
			godbus.FieldReplySerial: godbus.MakeVariant(m.Serial()),
		}})
		p.mu.Unlock()
		if member, _ := m.Headers[godbus.FieldMember].Value().(string); member == "Subscribe" {
			p.subscribed <- struct{}{}
		}
	}
}

func (p *peer) send(c net.Conn, m *godbus.Message) {
	if len(m.Body) > 0 {
		m.Headers[godbus.FieldSignature] = godbus.MakeVariant(godbus.SignatureOf(m.Body...))
	}
	if err := m.EncodeTo(c, binary.LittleEndian); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, net.ErrClosed) {
		p.t.Errorf("send: %v", err) // who has gone hears nothing, which is no fault
	}
}

func (p *peer) signal(path godbus.ObjectPath, iface, member string, body ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		p.send(c, &godbus.Message{Type: godbus.TypeSignal, Body: body, Headers: map[godbus.HeaderField]godbus.Variant{
			godbus.FieldPath: godbus.MakeVariant(path), godbus.FieldInterface: godbus.MakeVariant(iface),
			godbus.FieldMember: godbus.MakeVariant(member), godbus.FieldSender: godbus.MakeVariant(managerName),
		}})
	}
}

func (p *peer) active(unit, state string) {
	p.signal(godbus.ObjectPath(managerPath+"/unit/"+dbus.PathBusEscape(unit)), "org.freedesktop.DBus.Properties", "PropertiesChanged",
		managerName+".Unit", map[string]godbus.Variant{"ActiveState": godbus.MakeVariant(state)}, []string{})
}

func TestSignals(t *testing.T) {
	p := newPeer(t)
	s := newSignals(nil, func(ctx context.Context) (*godbus.Conn, bool, error) {
		c, err := dialPeer(ctx, "unix:path="+p.path)
		return c, false, err
	})
	defer s.Close()
	told := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go s.Watch(ctx, "haproxy@c.service", func() { told <- struct{}{} })
	<-p.subscribed
	expect := func(what string, want bool) {
		t.Helper()
		limit := 100 * time.Millisecond
		if want {
			limit = 5 * time.Second
		}
		got := false
		select {
		case <-told:
			got = true
		case <-time.After(limit):
		}
		if got != want {
			t.Errorf("%s: told %v, want %v", what, got, want)
		}
	}
	quiet := func() {
		for {
			select {
			case <-told:
			case <-time.After(100 * time.Millisecond):
				return
			}
		}
	}
	quiet() // subscribing may tell, depending on which of the two came first
	for _, step := range []struct {
		what string
		act  func()
		want bool
	}{
		{"another unit stopped", func() { p.active("haproxy@d.service", "inactive") }, false},
		{"it is stopping", func() { p.active("haproxy@c.service", "deactivating") }, false},
		{"it stopped", func() { p.active("haproxy@c.service", "inactive") }, true},
		{"it is still stopped", func() { p.active("haproxy@c.service", "inactive") }, false},
		{"it is starting", func() { p.active("haproxy@c.service", "activating") }, false},
		{"it runs", func() { p.active("haproxy@c.service", "active") }, true},
		{"it failed", func() { p.active("haproxy@c.service", "failed") }, true},
		{"unit files changed", func() { p.signal(managerPath, managerIface, "UnitFilesChanged") }, true},
		{"reloading begins", func() { p.signal(managerPath, managerIface, "Reloading", true) }, false},
		{"reloading is over", func() { p.signal(managerPath, managerIface, "Reloading", false) }, true},
		{"something else", func() { p.signal(managerPath, managerIface, "JobNew", uint32(1)) }, false},
		{"a strange body", func() { p.signal(managerPath, managerIface, "Reloading", "x") }, false},
	} {
		step.act()
		expect(step.what, step.want)
	}
	for range 500 { // more than may wait at once
		p.active("haproxy@c.service", "active")
		p.active("haproxy@c.service", "failed")
	}
	quiet()
	p.active("haproxy@c.service", "active")
	expect("the last of very many states was another one", true)
	p.shut()
	p.open()
	<-p.subscribed
	expect("the connection was lost and made again", true)
	p.active("haproxy@c.service", "active")
	expect("a signal over the new connection", true)
	cancel()
	time.Sleep(20 * time.Millisecond)
	p.active("haproxy@c.service", "failed")
	expect("nobody watches any more", false)
}

// A systemd that connects to the bus anew, as when it executes itself, has forgotten
// who subscribed; the connection to the bus is none the worse.
func TestSystemdComesToTheBusAnew(t *testing.T) {
	p := newPeer(t)
	watched := make(chan struct{}) // before that a connection has nobody to tell
	s := newSignals(nil, func(ctx context.Context) (*godbus.Conn, bool, error) {
		<-watched
		c, err := dialPeer(ctx, "unix:path="+p.path)
		return c, true, err
	})
	defer s.Close()
	told := make(chan struct{}, 100)
	go s.Watch(t.Context(), "haproxy@c.service", func() { told <- struct{}{} })
	for subs := 0; subs == 0; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		subs = len(s.subs)
		s.mu.Unlock()
	}
	close(watched)
	<-p.subscribed
	<-told
	owner := func(before, now string) {
		p.signal("/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged", managerName, before, now)
	}
	owner(":1.1", "")
	owner("", ":1.7")
	select {
	case <-p.subscribed:
	case <-time.After(5 * time.Second):
		t.Fatal("not subscribed again")
	}
	select {
	case <-told: // nobody heard what happened meanwhile
	case <-time.After(5 * time.Second):
		t.Error("not told that something may have been missed")
	}
}

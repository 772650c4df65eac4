package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"go.uber.org/zap"
)

const (
	managerPath  = "/org/freedesktop/systemd1"
	managerName  = "org.freedesktop.systemd1"
	managerIface = managerName + ".Manager"
	ownerChanged = "org.freedesktop.DBus.NameOwnerChanged"
	// reconnectAfter is how soon a lost connection is made again, and redialEvery how
	// often that is tried while it fails; subscribers look for themselves meanwhile.
	reconnectAfter = 100 * time.Millisecond
	redialEvery    = 5 * time.Second
)

// Signals tells when a unit may have become another one than it was: it stopped or
// started, or somebody enabled, disabled, masked or edited units. It has one
// connection of its own for all units, and makes it again when it is lost.
type Signals struct {
	log  *zap.Logger
	dial func(ctx context.Context) (c *godbus.Conn, bus bool, err error)

	stop context.CancelFunc
	done chan struct{}

	mu    sync.Mutex
	subs  map[godbus.ObjectPath][]*unitSub
	match func(path godbus.ObjectPath) // asks the bus for a unit's signals; nil without one
}

type unitSub struct {
	changed func()
	last    string // the last settled ActiveState that was told
}

// NewSignals starts to listen; Close ends it.
func NewSignals(log *zap.Logger) *Signals { return newSignals(log, dialSignals) }

func newSignals(log *zap.Logger, dial func(context.Context) (*godbus.Conn, bool, error)) *Signals {
	if log == nil {
		log = zap.NewNop()
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Signals{log: log, dial: dial, stop: stop, done: make(chan struct{}), subs: map[godbus.ObjectPath][]*unitSub{}}
	go func() { defer close(s.done); s.run(ctx) }()
	return s
}

// Close ends the connection and every Watch.
func (s *Signals) Close() {
	s.stop()
	<-s.done
}

// Watch calls changed when the unit may be another one, until ctx ends. changed must
// not block. While systemd can't be heard it is called every few seconds instead.
func (s *Signals) Watch(ctx context.Context, unit string, changed func()) {
	path := godbus.ObjectPath(managerPath + "/unit/" + dbus.PathBusEscape(unit))
	sub := &unitSub{changed: changed}
	s.mu.Lock()
	s.subs[path] = append(s.subs[path], sub)
	if s.match != nil {
		s.match(path)
	}
	s.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-s.done:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// The match stays: a unit that is watched once is watched again.
	if s.subs[path] = slices.DeleteFunc(s.subs[path], func(o *unitSub) bool { return o == sub }); len(s.subs[path]) == 0 {
		delete(s.subs, path)
	}
}

// run keeps a connection until ctx ends.
func (s *Signals) run(ctx context.Context) {
	failing := false
	for ctx.Err() == nil {
		err := s.listen(ctx, func() {
			failing = false
			s.tellAll() // nobody heard what happened before
		})
		if ctx.Err() != nil {
			return
		}
		pause := reconnectAfter
		if failing {
			pause = redialEvery
			s.tellAll()
		} else {
			s.log.Warn("signals of systemd are not heard; its units are looked at every few seconds", zap.Error(err))
		}
		failing = true
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// listen makes a connection and takes signals until it is lost.
func (s *Signals) listen(ctx context.Context, heard func()) error {
	c, bus, err := s.dial(ctx)
	if err != nil {
		return fmt.Errorf("connect to systemd: %w", err)
	}
	defer c.Close()
	ch := make(chan *godbus.Signal, 64)
	c.Signal(ch)
	if err := s.subscribe(ctx, c, bus); err != nil {
		return err
	}
	defer func() {
		s.mu.Lock()
		s.match = nil
		s.mu.Unlock()
	}()
	heard()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.Context().Done():
			return errors.New("the connection was lost")
		case sig, ok := <-ch:
			if !ok {
				return errors.New("the connection was lost")
			}
			if sig.Name == ownerChanged {
				if owner, _ := arg[string](sig, 2); owner != "" {
					// It connected to the bus anew, and may not know any more who subscribed.
					return errors.New("systemd is on the bus anew")
				}
				continue
			}
			s.take(sig)
		}
	}
}

// subscribe asks for signals: a bus by match rules, so that other units' wake
// nobody; systemd's own socket sends all it has.
func (s *Signals) subscribe(ctx context.Context, c *godbus.Conn, bus bool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if bus {
		if err := c.AddMatchSignalContext(ctx, godbus.WithMatchSender("org.freedesktop.DBus"), godbus.WithMatchObjectPath("/org/freedesktop/DBus"),
			godbus.WithMatchInterface("org.freedesktop.DBus"), godbus.WithMatchMember("NameOwnerChanged"), godbus.WithMatchArg(0, managerName)); err != nil {
			return fmt.Errorf("ask the bus who systemd is: %w", err)
		}
		for _, member := range []string{"UnitFilesChanged", "Reloading"} {
			if err := c.AddMatchSignalContext(ctx, godbus.WithMatchSender(managerName), godbus.WithMatchObjectPath(managerPath),
				godbus.WithMatchInterface(managerIface), godbus.WithMatchMember(member)); err != nil {
				return fmt.Errorf("ask the bus for systemd's signals: %w", err)
			}
		}
	}
	s.mu.Lock()
	known := map[godbus.ObjectPath]bool{}
	s.match = func(path godbus.ObjectPath) {
		if !bus || known[path] {
			return
		}
		known[path] = true
		// Not waited for: a signal lost meanwhile is found by the next compare.
		c.BusObject().Go("org.freedesktop.DBus.AddMatch", godbus.FlagNoReplyExpected, nil,
			fmt.Sprintf("type='signal',sender='%s',path='%s',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'", managerName, path))
	}
	for path := range s.subs {
		s.match(path)
	}
	s.mu.Unlock()
	if err := c.Object(managerName, managerPath).CallWithContext(ctx, managerIface+".Subscribe", 0).Err; err != nil {
		return fmt.Errorf("subscribe to systemd: %w", err)
	}
	return nil
}

// take tells those whom a signal concerns.
func (s *Signals) take(sig *godbus.Signal) {
	switch sig.Name {
	case managerIface + ".UnitFilesChanged":
		s.tellAll()
	case managerIface + ".Reloading":
		// What a unit file says is known when reloading is over, not when it begins.
		if begins, ok := arg[bool](sig, 0); ok && !begins {
			s.tellAll()
		}
	case "org.freedesktop.DBus.Properties.PropertiesChanged":
		if iface, _ := arg[string](sig, 0); iface != managerName+".Unit" {
			return
		}
		changed, _ := arg[map[string]godbus.Variant](sig, 1)
		active, _ := changed["ActiveState"].Value().(string)
		s.tellUnit(sig.Path, active)
	}
}

func arg[T any](sig *godbus.Signal, i int) (v T, ok bool) {
	if i < len(sig.Body) {
		v, ok = sig.Body[i].(T)
	}
	return v, ok
}

// tellUnit passes a unit's new state on once it is settled. One on its way
// (activating, deactivating, reloading) is somebody's job at work: to look then would
// be to interfere, and the state it ends in follows.
func (s *Signals) tellUnit(path godbus.ObjectPath, active string) {
	if active != "active" && active != "inactive" && active != "failed" {
		return
	}
	s.mu.Lock()
	var tell []func()
	for _, sub := range s.subs[path] {
		if sub.last != active {
			sub.last = active
			tell = append(tell, sub.changed)
		}
	}
	s.mu.Unlock()
	for _, f := range tell {
		f()
	}
}

// tellAll tells everybody to look. What is told of a unit after it is news, whatever
// was told before: in between, states may have passed unheard.
func (s *Signals) tellAll() {
	s.mu.Lock()
	var tell []func()
	for _, subs := range s.subs {
		for _, sub := range subs {
			sub.last = ""
			tell = append(tell, sub.changed)
		}
	}
	s.mu.Unlock()
	for _, f := range tell {
		f()
	}
}

// dialSignals reaches systemd over the system bus, or over its own socket where
// there is no bus (root only).
func dialSignals(ctx context.Context) (*godbus.Conn, bool, error) {
	c, err := godbus.ConnectSystemBus(godbus.WithContext(ctx), inOrder())
	if err == nil {
		return c, true, nil
	}
	c, err2 := dialPeer(ctx, "unix:path=/run/systemd/private")
	if err2 != nil {
		return nil, false, errors.Join(err, err2)
	}
	return c, false, nil
}

// inOrder has signals come in the order in which they were sent. The library's own
// way mixes them up when more than a few wait, and of two states told the wrong way
// round the older would be taken for the present one.
func inOrder() godbus.ConnOption {
	return godbus.WithSignalHandler(godbus.NewSequentialSignalHandler())
}

// dialPeer connects without a bus: nobody to say hello to.
func dialPeer(ctx context.Context, address string) (*godbus.Conn, error) {
	c, err := godbus.Dial(address, godbus.WithContext(ctx), inOrder())
	if err != nil {
		return nil, err
	}
	// The number rather than the name: no user has to be looked up.
	if err := c.Auth([]godbus.Auth{godbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

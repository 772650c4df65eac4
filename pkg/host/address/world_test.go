package address

import (
	"flag"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/pgctrl/pgctrl/internal/netnstest"
	"github.com/pgctrl/pgctrl/pkg/host/address/addresstest"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// The tests wait for lifetimes much more than they compute, so they run side by
// side however few cores there are.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "24"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

var (
	v4 = plan.Address{Address: "10.77.0.9/32", Network: "10.77.0.9/24"}
	v6 = plan.Address{Address: "fd77::9/128", Network: "fd77::9/64"}
)

// world is a network of three hosts: own, where the Manager is, other and client.
type world struct {
	*netnstest.Net
	m         *Manager
	a         plan.Address
	listening atomic.Bool
	told      atomic.Int64
}

func newWorld(t *testing.T, a plan.Address) *world { return newWorldFor(t, a) }

func newWorldFor(t testing.TB, a plan.Address) *world {
	w := &world{Net: netnstest.New(t, "own", "other", "client"), a: a}
	w.m = New(Options{Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)), Namespace: w.Path("own")})
	t.Cleanup(w.m.Close)
	return w
}

func TestConformanceIPv4(t *testing.T) {
	addresstest.Conformance(t, func(t *testing.T) (addresstest.Addresses, addresstest.Env) {
		w := newWorld(t, v4)
		return w.m, w
	})
}

func TestConformanceIPv6(t *testing.T) {
	addresstest.Conformance(t, func(t *testing.T) (addresstest.Addresses, addresstest.Env) {
		w := newWorld(t, v6)
		return w.m, w
	})
}

func (w *world) Address() plan.Address { return w.a }

func (w *world) ip() string { return netip.MustParsePrefix(w.a.Address).Addr().String() }

// byHand is the address as people and vip-manager add it: with the network's prefix.
func (w *world) byHand() string {
	if strings.Contains(w.a.Network, ":") {
		return w.a.Network + " dev eth0 nodad"
	}
	return w.a.Network + " dev eth0"
}

func (w *world) OtherTakes(t testing.TB) net.HardwareAddr {
	w.IP(t, "other", "addr add "+w.byHand())
	return w.Hardware(t, "other")
}

func (w *world) OtherLeaves(t testing.TB) { w.IP(t, "other", "addr del "+w.a.Network+" dev eth0") }

func (w *world) AddByHand(t testing.TB) { w.IP(t, "own", "addr add "+w.byHand()) }

func (w *world) RemoveByHand(t testing.TB) {
	for _, p := range []string{w.a.Address, w.a.Network} {
		if strings.Contains(w.Show(t, "own", "addr", "show"), " "+p+" ") {
			w.IP(t, "own", "addr del "+p+" dev eth0")
		}
	}
}

// listen makes own accept connections on every address, also IPv4 ones over IPv6.
func (w *world) listen(t testing.TB) {
	if w.listening.Swap(true) {
		return
	}
	var l net.Listener
	w.In(t, "own", func() (err error) { l, err = net.Listen("tcp", "[::]:5433"); return err })
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

func (w *world) dial(t testing.TB, from string) net.Conn {
	w.listen(t)
	var c net.Conn
	w.In(t, from, func() (err error) {
		c, err = net.DialTimeout("tcp", net.JoinHostPort(w.ip(), "5433"), 5*time.Second)
		return err
	})
	t.Cleanup(func() { c.Close() })
	// An answer proves that the connection was accepted, not only established.
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *world) Connect(t testing.TB) <-chan struct{} {
	c, over := w.dial(t, "client"), make(chan struct{})
	go func() {
		defer close(over)
		_, _ = c.Read(make([]byte, 1))
	}()
	return over
}

// Announced counts the packets that the client hears from now on.
func (w *world) Announced(t testing.TB) int {
	if w.told.CompareAndSwap(0, 1) {
		w.hear(t)
	}
	return int(w.told.Load()) - 1
}

func (w *world) hear(t testing.TB) {
	ethertype, tgt := uint16(unix.ETH_P_ARP), mustParse(t, w.a)
	if !tgt.ip.Is4() {
		ethertype = unix.ETH_P_IPV6
	}
	own := hardware(w.Hardware(t, "own"))
	var s *wire
	w.In(t, "client", func() error {
		in, err := net.InterfaceByName("eth0")
		if err == nil {
			s, err = openWire(in.Index, ethertype, true)
		}
		return err
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer s.close()
		_ = s.receive(t.Context(), time.Now().Add(time.Minute), func(b []byte) {
			p := prober{t: tgt, found: map[hardware]bool{}}
			p.take(b)
			if p.found[own] {
				w.told.Add(1)
			}
		})
	}()
	t.Cleanup(func() { <-done })
}

func mustParse(t testing.TB, a plan.Address) target {
	tgt, err := parse(a)
	if err != nil {
		t.Fatal(err)
	}
	return tgt
}

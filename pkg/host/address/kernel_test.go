package address

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// deletions counts what the kernel says about an address going in own.
func (w *world) deletions(t *testing.T) func() int {
	var s *os.File
	tgt := mustParse(t, w.a)
	w.In(t, "own", func() (err error) { s, err = subscribe(tgt, 0); return err })
	t.Cleanup(func() { s.Close() })
	return func() int {
		n, b := 0, make([]byte, 64<<10)
		for {
			if err := s.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			l, err := s.Read(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return n
			}
			if err != nil {
				t.Fatal(err)
			}
			msgs, err := syscall.ParseNetlinkMessage(b[:l])
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range msgs {
				if ip, _, err := addressMessage(m.Data); err == nil && ip == tgt.ip && m.Header.Type == unix.RTM_DELADDR {
					n++
				}
			}
		}
	}
}

func eachFamily(t *testing.T, f func(t *testing.T, w *world)) {
	for name, a := range map[string]plan.Address{"IPv4": v4, "IPv6": v6} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, newWorld(t, a))
		})
	}
}

func (w *world) hold(t *testing.T, lifetime time.Duration) {
	t.Helper()
	if _, err := w.m.Hold(t.Context(), w.a, lifetime); err != nil {
		t.Fatal(err)
	}
}

func (w *world) drop(t *testing.T) {
	t.Helper()
	if _, err := w.m.Drop(t.Context(), w.a); err != nil {
		t.Fatal(err)
	}
}

func TestRefreshLeavesNoGap(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *world) {
		w.hold(t, 5*time.Second)
		deleted := w.deletions(t)
		for range 50 {
			w.hold(t, 5*time.Second)
		}
		if n := deleted(); n != 0 {
			t.Errorf("the kernel said %d times that the address went", n)
		}
		w.drop(t)
		if n := deleted(); n != 1 {
			t.Errorf("this test sees %d deletions in a drop, want 1", n)
		}
	})
}

// What an address looks like to people and other programs.
func TestAddressAsShown(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *world) {
		w.hold(t, time.Hour)
		got := w.Show(t, "own", "address", "show", "to", w.a.Address)
		want := []string{w.a.Address + " scope global", "noprefixroute", "valid_lft 3600sec preferred_lft 3600sec"}
		if w.a == v6 {
			want = []string{w.a.Address + " scope global nodad deprecated", "noprefixroute", "valid_lft 3600sec preferred_lft 0sec"}
		}
		for _, s := range want {
			if !strings.Contains(got, s) {
				t.Errorf("%q is not in:\n%s", s, got)
			}
		}
		if strings.Contains(got, "tentative") {
			t.Errorf("not usable at once:\n%s", got)
		}
	})
}

// The host's own connections must not depend on an address that moves away.
func TestAddressIsNoSource(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *world) {
		w.hold(t, time.Minute)
		// A peer next to the virtual address: the longest match of all.
		peer, dial := "10.77.0.8", "udp4"
		if w.a == v6 {
			peer, dial = "fd77::8", "udp6"
		}
		w.In(t, "own", func() error {
			c, err := net.Dial(dial, net.JoinHostPort(peer, "9"))
			if err == nil {
				defer c.Close()
				if got := netip.MustParseAddrPort(c.LocalAddr().String()).Addr(); got == mustParse(t, w.a).ip {
					err = fmt.Errorf("a connection to %s would come from %s", peer, got)
				}
			}
			return err
		})
	})
}

// An address that a person added first is the primary of its network, and the kernel
// removes the host's own with it.
func TestHostAddressSurvives(t *testing.T) {
	for _, act := range []string{"hold", "drop"} {
		t.Run(act, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, v4)
			w.In(t, "own", func() error {
				return os.WriteFile("/proc/sys/net/ipv4/conf/eth0/promote_secondaries", []byte("0"), 0o644)
			})
			w.IP(t, "own", "addr del 10.77.0.1/24 dev eth0", "addr add 10.77.0.9/24 dev eth0", "addr add 10.77.0.1/24 dev eth0")
			if act == "hold" {
				w.hold(t, time.Minute)
			} else {
				w.drop(t)
			}
			got := w.Show(t, "own", "-br", "address", "show", "dev", "eth0")
			if !strings.Contains(got, "10.77.0.1/24") || strings.Contains(got, "10.77.0.9/24") || strings.Contains(got, "10.77.0.9/32") != (act == "hold") {
				t.Errorf("after %s: %s", act, got)
			}
		})
	}
}

// An address on another interface moves without a moment in which it is nowhere.
func TestMovesBetweenInterfaces(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *world) {
		w.Plug(t, "own", "eth1")
		w.hold(t, time.Minute)
		w.a.Interface = "eth1"
		if added, err := w.m.Hold(t.Context(), w.a, time.Minute); err != nil || added {
			t.Errorf("added %v, %v", added, err)
		}
		if got := w.Show(t, "own", "-br", "address", "show", "to", w.a.Address); !strings.HasPrefix(got, "eth1") || strings.Contains(got, "eth0") {
			t.Errorf("it is on %s", got)
		}
	})
}

// What somebody does to an address between two refreshes is seen by the next.
func TestRefreshSeesWhatWasDone(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *world) {
		w.Plug(t, "own", "eth1")
		shown := func() string { return w.Show(t, "own", "-br", "address", "show", "to", w.a.Address) }
		for _, c := range []struct {
			what  string
			act   [][]string
			added bool
		}{
			{"nothing", nil, false},
			{"removed", [][]string{{"address", "del", w.a.Address, "dev", "eth0"}}, true},
			{"put on another interface too", [][]string{{"address", "add", w.a.Address, "dev", "eth1"}}, false},
			{"moved to another interface", [][]string{{"address", "add", w.a.Address, "dev", "eth1"}, {"address", "del", w.a.Address, "dev", "eth0"}}, false},
		} {
			w.hold(t, time.Minute)
			w.hold(t, time.Minute)
			for _, args := range c.act {
				w.Show(t, "own", args...)
			}
			if added, err := w.m.Hold(t.Context(), w.a, time.Minute); err != nil || added != c.added {
				t.Errorf("%s: added %v, %v", c.what, added, err)
			}
			got := shown()
			if strings.Count(got, "eth") != 1 {
				t.Errorf("%s: it is on %q", c.what, got)
			}
		}
	})
}

// A host with two interfaces on one network answers for the address on both.
func TestProbeKnowsItsOwnInterfaces(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *world) {
		w.Plug(t, "own", "eth1")
		w.hold(t, time.Minute)
		if got, err := w.m.Probe(t.Context(), w.a, 200*time.Millisecond); err != nil || len(got) > 0 {
			t.Errorf("%v answer, %v", got, err)
		}
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, v6)
	w.In(t, "own", func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", []byte("1"), 0o644)
	})
	w.a.Interface = "eth0"
	_, err := w.m.Hold(t.Context(), w.a, time.Minute)
	var r *plan.Refusal
	if !errors.As(err, &r) || r.Reason != observed.NoInterface || r.Next != "sysctl net.ipv6.conf.eth0.disable_ipv6=0" {
		t.Errorf("without IPv6: %v", err)
	}
	w.a = v4
	w.IP(t, "own", "link set eth0 down")
	if _, err = w.m.Hold(t.Context(), w.a, time.Minute); !errors.As(err, &r) || r.Next != "ip link set eth0 up" {
		t.Errorf("interface down: %v", err)
	}
}

// clock is a monotonic clock that jumps at its n-th reading.
func clock(n int, jump time.Duration) func() time.Time {
	return func() time.Time {
		if n--; n < 0 {
			return time.Now().Add(jump)
		}
		return time.Now()
	}
}

// A process that is stopped in the middle of a Hold and continued an age later
// must not come back with an address that is another's by now.
func TestHoldComesLate(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *world) {
		for name, c := range map[string]struct {
			readings int
			jump     time.Duration
		}{
			"before the kernel is told": {1, 6 * time.Second},
			"while the kernel is told":  {2, 6 * time.Second},
		} {
			w.m.now = clock(c.readings, c.jump)
			if added, err := w.m.Hold(t.Context(), w.a, 5*time.Second); !errors.Is(err, ErrLate) || added {
				t.Errorf("%s: added %v, %v", name, added, err)
			}
			if held, _ := w.m.Held(t.Context(), w.a); held {
				t.Errorf("%s: it is here", name)
			}
		}
		w.m.now = clock(2, 1500*time.Millisecond)
		w.hold(t, 100*time.Second)
		if got := w.Show(t, "own", "address", "show", "to", w.a.Address); !strings.Contains(got, "valid_lft 98sec") {
			t.Errorf("1.5 s late, 98 s are left of 100:\n%s", got)
		}
		w.drop(t)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w.m.now = clock(3, 2*time.Second)
		if added, err := w.m.Hold(ctx, w.a, 5*time.Second); !errors.Is(err, context.DeadlineExceeded) || added {
			t.Errorf("after its deadline: added %v, %v", added, err)
		}
		if held, _ := w.m.Held(t.Context(), w.a); held {
			t.Error("after its deadline: it is here")
		}
	})
}

// A client that remembers the last holder learns of the new one.
func TestAnnounceChangesWhatClientsRemember(t *testing.T) {
	eachFamily(t, func(t *testing.T, w *world) {
		w.OtherTakes(t)
		ip, old, own := w.ip(), w.Hardware(t, "other").String(), w.Hardware(t, "own").String()
		w.In(t, "client", func() error { // nobody answers on port 9, but the neighbour is looked up
			c, err := net.DialTimeout("tcp", net.JoinHostPort(ip, "9"), 2*time.Second)
			if err == nil {
				c.Close()
			}
			return nil
		})
		if got := w.Show(t, "client", "neigh", "show", ip); !strings.Contains(got, old) {
			t.Fatalf("the client remembers %q, want %s", got, old)
		}
		w.OtherLeaves(t)
		w.hold(t, time.Minute)
		if err := w.m.Announce(t.Context(), w.a); err != nil {
			t.Fatal(err)
		}
		// Linux believes an unasked word only 1 s after the last one it had
		// (net.ipv4.neigh.*.locktime), which is one reason to announce repeatedly.
		for start := time.Now(); !strings.Contains(w.Show(t, "client", "neigh", "show", ip), own); time.Sleep(100 * time.Millisecond) {
			if time.Since(start) > 3*time.Second {
				t.Fatalf("the client remembers %q, want %s", w.Show(t, "client", "neigh", "show", ip), own)
			}
			if err := w.m.Announce(t.Context(), w.a); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A watcher that is told more than its socket holds begins anew and ends up right.
func TestWatchSurvivesOverflow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, v4)
	core, logs := observer.New(zap.WarnLevel)
	w.m.o.Log = zap.New(core)
	w.m.watchBuffer = 2304 // the least that the kernel allows: two or three messages
	ctx, cancel := context.WithCancel(t.Context())
	events, release, done := make(chan bool, 1000), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		w.m.Watch(ctx, w.a, func(held bool) {
			events <- held
			<-release
		})
	}()
	if <-events {
		t.Error("held at the start")
	}
	for range 50 { // while the watcher is busy
		w.hold(t, time.Minute)
		w.drop(t)
	}
	w.hold(t, time.Minute)
	close(release)
	for start := time.Now(); logs.FilterMessageSnippet("begins anew").Len() == 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > 2*time.Second {
			t.Fatal("nothing was lost: this test tests nothing")
		}
	}
	last := false
	for start := time.Now(); !last || len(events) > 0; {
		select {
		case last = <-events:
		case <-time.After(time.Second):
			t.Fatalf("last told %v after %s", last, time.Since(start))
		}
	}
	w.drop(t)
	if <-events {
		t.Error("told true after a drop")
	}
	cancel()
	<-done
}

package holders

import (
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgctrl/pgctrl/internal/netnstest"
	"github.com/pgctrl/pgctrl/pkg/host/address"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

var (
	v4 = plan.Address{Address: "10.77.0.9/32", Network: "10.77.0.9/24"}
	v6 = plan.Address{Address: "fd77::9/128", Network: "fd77::9/64"}
)

// world is two hosts under observation, with hands to give and take the address.
type world struct {
	t *testing.T
	*netnstest.Net
	a      plan.Address
	o      *Observer
	drives map[string]*address.Manager
}

func newWorld(t *testing.T, a plan.Address) *world {
	w := &world{t: t, Net: netnstest.New(t, "a", "b"), a: a, drives: map[string]*address.Manager{}}
	for _, h := range []string{"a", "b"} {
		w.drives[h] = address.New(address.Options{Namespace: w.Path(h)})
		t.Cleanup(w.drives[h].Close)
	}
	return w
}

func (w *world) observe() {
	w.t.Helper()
	var err error
	w.o, err = Observe(netip.MustParsePrefix(w.a.Address).Addr(), Host{"a", w.Path("a")}, Host{"b", w.Path("b")})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.o.Stop() })
}

func (w *world) take(host string) {
	w.t.Helper()
	if _, err := w.drives[host].Hold(w.t.Context(), w.a, time.Minute); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) leave(host string) {
	w.t.Helper()
	if _, err := w.drives[host].Drop(w.t.Context(), w.a); err != nil {
		w.t.Fatal(err)
	}
}

// await waits until somebody, or nobody, is seen to have the address.
func (w *world) await(somebody bool, complaint string) {
	w.t.Helper()
	for start := time.Now(); len(w.o.Holders()) > 0 != somebody; time.Sleep(time.Millisecond) {
		if time.Since(start) > 5*time.Second {
			w.t.Fatal(complaint)
		}
	}
}

func (w *world) judge(asked ...Move) Report {
	w.t.Helper()
	time.Sleep(50 * time.Millisecond) // an IPv6 addition is told a moment after it
	tl := w.o.Stop()
	r := tl.Judge(asked...)
	if len(r.Blind) > 0 {
		w.t.Errorf("blind: %v", r.Blind)
	}
	return r
}

// asked is any number of moves within the test.
func asked(n int) (ms []Move) {
	for range n {
		ms = append(ms, Move{After: time.Now().Add(-time.Hour), Before: time.Now().Add(time.Hour)})
	}
	return ms
}

func eachFamily(t *testing.T, f func(w *world)) {
	for name, a := range map[string]plan.Address{"IPv4": v4, "IPv6": v6} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(newWorld(t, a))
		})
	}
}

// The proof of the instrument: a second holder planted for 20 ms.
func TestPlantedSecondHolder(t *testing.T) {
	eachFamily(t, func(w *world) {
		w.take("a")
		w.observe()
		time.Sleep(20 * time.Millisecond)
		w.take("b")
		for start := time.Now(); w.a == v6 && len(w.o.Holders()) < 2 && time.Since(start) < time.Second; {
			time.Sleep(time.Millisecond) // the kernel's worker; package comment
		}
		time.Sleep(20 * time.Millisecond)
		w.leave("b")
		r := w.judge()
		if len(r.Doubles) != 1 || len(r.Flaps) != 0 || strings.Join(r.Doubles[0].Hosts, " ") != "a b" {
			w.t.Fatalf("not caught: %s", r)
		}
		if d := r.Doubles[0].To.Sub(r.Doubles[0].From); d < 10*time.Millisecond || d > 500*time.Millisecond {
			w.t.Errorf("planted for 20 ms, reported for %s", d)
		}
	})
}

// The proof of the instrument: a flap of 20 ms.
func TestPlantedFlap(t *testing.T) {
	eachFamily(t, func(w *world) {
		w.take("a")
		w.observe()
		w.leave("a")
		time.Sleep(20 * time.Millisecond)
		w.take("a")
		r := w.judge()
		if len(r.Flaps) != 1 || len(r.Doubles) != 0 || r.Flaps[0].From != "a" || r.Flaps[0].To != "a" {
			w.t.Fatalf("not caught: %s", r)
		}
		if d := r.Flaps[0].Back.Sub(r.Flaps[0].Gone); d < 15*time.Millisecond || d > 500*time.Millisecond {
			w.t.Errorf("planted for 20 ms, reported for %s", d)
		}
	})
}

// However busy the machine is: an overlap of one system call is seen every time, and
// a hand-over without one is never taken for an overlap.
func TestOrderIsTheKernels(t *testing.T) {
	t.Parallel()
	w := newWorld(t, v4)
	w.observe()
	stop, busy := make(chan struct{}), sync.WaitGroup{}
	for range runtime.NumCPU() {
		busy.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	const rounds = 25
	w.take("a")
	for range rounds { // without overlap
		w.leave("a")
		w.take("b")
		w.leave("b")
		w.take("a")
	}
	for range rounds { // with
		w.take("b")
		w.leave("a")
		w.take("a")
		w.leave("b")
	}
	close(stop)
	busy.Wait()
	r := w.judge(asked(4 * rounds)...)
	if len(r.Doubles) != 2*rounds || len(r.Flaps) != 0 || r.Moves != 4*rounds {
		t.Errorf("want %d doubles, 0 flaps, %d moves; got %s", 2*rounds, 4*rounds, r)
	}
}

// Refreshes and copies on one host are nothing.
func TestQuietWhenNothingMoves(t *testing.T) {
	eachFamily(t, func(w *world) {
		w.observe()
		w.take("a")
		for range 10 {
			w.take("a")
		}
		w.Plug(w.t, "a", "eth1")
		extra := " dev eth1"
		if w.a == v6 {
			extra += " nodad"
		}
		w.IP(w.t, "a", "addr add "+w.a.Address+extra)
		w.IP(w.t, "a", "addr del "+w.a.Address+" dev eth1")
		time.Sleep(20 * time.Millisecond)
		if got := strings.Join(w.o.Holders(), " "); got != "a" {
			w.t.Errorf("holders now: %q", got)
		}
		if r := w.judge(); !r.Clean() {
			w.t.Error(r)
		}
	})
}

// The kernel's own removal when a lifetime is over counts like any other.
func TestExpiryIsSeen(t *testing.T) {
	eachFamily(t, func(w *world) {
		w.observe()
		if _, err := w.drives["a"].Hold(w.t.Context(), w.a, time.Second); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(2500 * time.Millisecond)
		tl := w.o.Stop()
		if len(tl.Changes) != 2 || tl.Changes[1].Has {
			w.t.Fatalf("seen: %+v", tl.Changes)
		}
		if d := tl.Changes[1].At.Sub(tl.Changes[0].At); d < 900*time.Millisecond || d > 2200*time.Millisecond {
			w.t.Errorf("gone after %s", d)
		}
	})
}

// A host that boots again is a new network namespace at the old path.
func TestRebootIsFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, v4)
	w.observe()
	w.take("a")
	w.Off(t, "a")
	w.await(false, "the address of a host that is off is still seen")
	w.On(t, "a")
	w.Plug(t, "a", "eth0", "10.77.0.1/24")
	w.take("a")
	w.await(true, "the address of a host that is on again is not seen")
	w.take("b")
	w.leave("b")
	r := w.judge()
	if len(r.Flaps) != 1 || r.Flaps[0].To != "a" || len(r.Doubles) != 1 {
		t.Errorf("want the reboot's flap and one second holder, got %s", r)
	}
}

// The kernel gives the inode number of a namespace that ended to the next one: a
// host that boots again may look like the one that went.
func TestRebootUnderTheSameInodeIsFollowed(t *testing.T) {
	w := newWorld(t, v4)
	w.observe()
	for round := 0; !w.rebootUnderTheSameInode("a"); round++ {
		if round == 20 {
			t.Fatal("the number was always given to somebody else")
		}
	}
	w.IP(t, "a", "link set lo up", "addr add 10.77.0.9/32 dev lo")
	w.await(true, "the address of a host that is on again is not seen")
}

// rebootUnderTheSameInode replaces a host that is heard. The new one is made elsewhere,
// so that the observer sees no other number meanwhile. False: another namespace of
// this machine has the number now; the host is a new one all the same.
func (w *world) rebootUnderTheSameInode(host string) bool {
	w.t.Helper()
	was := inode(w.t, w.Path(host))
	w.Off(w.t, host)
	w.await(false, "the address of a host that is off is still seen")
	others := netnstest.New(w.t)
	// The kernel takes a number back some time after the namespace has gone.
	for start := time.Now(); time.Since(start) < 3*time.Second; others.Off(w.t, "one") {
		others.On(w.t, "one")
		if inode(w.t, others.Path("one")) != was {
			continue
		}
		defer others.Off(w.t, "one")
		if err := os.WriteFile(w.Path(host), nil, 0o400); err != nil {
			w.t.Fatal(err)
		}
		if err := unix.Mount(others.Path("one"), w.Path(host), "", unix.MS_BIND, ""); err != nil {
			w.t.Fatal(err)
		}
		return true
	}
	w.On(w.t, host)
	w.IP(w.t, host, "link set lo up", "addr add 10.77.0.9/32 dev lo")
	w.await(true, "a new host is not seen")
	return false
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// A namespace can end with the address in it and no word about the address.
func TestEndOfANamespace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, v4)
	w.observe()
	w.IP(t, "a", "addr add 10.77.0.9/32 dev lo")
	w.Off(t, "a")
	w.await(false, "the address of a namespace that is no more is still seen")
	if n := len(w.o.Stop().Changes); n != 2 {
		t.Errorf("%d changes, want 2", n)
	}
}

// When messages are lost the observer says that it proves nothing.
func TestLostMessagesAreSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, v4)
	done := make(chan struct{})
	var r Report
	go func() {
		defer close(done)
		runtime.LockOSThread()
		h := &hostState{Host: Host{"a", w.Path("a")}, at: map[place]bool{}}
		o := &Observer{hosts: []*hostState{h}, ids: map[int32]*hostState{}, now: map[string]bool{}, fd: -1, own: -1, buffer: 2304,
			t: Timeline{Address: netip.MustParseAddr("10.77.0.9")}}
		defer o.close()
		if err := o.open(); err != nil {
			t.Error(err)
			return
		}
		o.findHosts(false)
		for range 20 {
			w.take("a")
			w.leave("a")
		}
		o.read(0)
		r = o.t.Judge()
	}()
	<-done
	if len(r.Blind) == 0 || r.Clean() {
		t.Errorf("messages were lost in silence: %s", r)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(_ *testing.T, b, control []byte) { decode(b, control) })
}

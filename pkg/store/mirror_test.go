package store_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/store/model"
)

// TestTrap_MuteWatch: a stream that hangs says nothing and reports
// nothing. The mirror must know that it is old, and heal itself on a new stream.
func TestTrap_MuteWatch(t *testing.T) {
	for _, stream := range []string{"", "own"} {
		synctest.Test(t, func(t *testing.T) {
			s := model.New()
			m, announced := run(t, client(t, s, "c"), store.MirrorOptions{Name: "m", Prefixes: []string{"/a/", "/b/"}, Stream: stream})
			time.Sleep(10*time.Second + 500*time.Millisecond) // between two proofs
			if age(m) > store.DefaultProbeEvery {
				t.Errorf("at rest the proof is %s old", age(m))
			}
			s.DropWatch("c")
			s.Put("/a/x", "1")
			time.Sleep(store.DefaultStaleAfter - 600*time.Millisecond)
			if has(m, "/a/x") || age(m) < store.DefaultStaleAfter-200*time.Millisecond {
				t.Errorf("under a mute watch: key seen %v, proof %s old", has(m, "/a/x"), age(m))
			}
			time.Sleep(time.Second)
			if !has(m, "/a/x") || age(m) > 2*time.Second || m.Relists() != 1 {
				t.Errorf("afterwards: key seen %v, proof %s old, %d relists", has(m, "/a/x"), age(m), m.Relists())
			}
			s.Put("/b/y", "1")
			if got := announced(); !slices.Equal(got, []string{"put /a/x", "put /b/y"}) {
				t.Errorf("announced %q", got)
			}
		})
	}
}

// TestIdleMuteWatchIsNoticedAtTheNextWrite: while nothing is written anywhere a
// mute watch misses nothing, and the mirror is rightly fresh.
func TestIdleMuteWatchIsNoticedAtTheNextWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := model.New()
		m, _ := run(t, client(t, s, "c"), store.MirrorOptions{Name: "m", Prefixes: []string{"/a/"}})
		synctest.Wait() // the watch is there
		s.DropWatch("c")
		time.Sleep(time.Minute + 500*time.Millisecond)
		if age(m) > store.DefaultProbeEvery || m.Relists() != 0 {
			t.Errorf("proof %s old, %d relists", age(m), m.Relists())
		}
		s.Put("/elsewhere", "1")
		time.Sleep(store.DefaultStaleAfter + time.Second)
		if m.Relists() != 1 || age(m) > 2*time.Second {
			t.Errorf("after a write: proof %s old, %d relists", age(m), m.Relists())
		}
	})
}

// TestCutClientBecomesStale: everything hangs, nothing fails. The age grows; the
// last snapshot stays; after healing nothing is missing.
func TestCutClientBecomesStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := model.New()
		s.Put("/a/x", "1")
		m, announced := run(t, client(t, s, "c"), store.MirrorOptions{Name: "m", Prefixes: []string{"/a/"}})
		time.Sleep(3 * time.Second)
		s.Cut("c")
		time.Sleep(time.Minute)
		if age(m) < time.Minute-time.Second || !has(m, "/a/x") {
			t.Errorf("after a minute: proof %s old, snapshot kept %v", age(m), has(m, "/a/x"))
		}
		s.Put("/a/y", "1")
		s.Delete("/a/x")
		s.Heal("c")
		time.Sleep(5 * time.Second)
		if age(m) > 2*time.Second || has(m, "/a/x") || !has(m, "/a/y") {
			t.Errorf("after healing: proof %s old, x %v, y %v", age(m), has(m, "/a/x"), has(m, "/a/y"))
		}
		if got := announced(); !slices.Equal(got, []string{"put /a/x", "delete /a/x", "put /a/y"}) {
			t.Errorf("announced %q", got)
		}
	})
}

// TestTrap_CompactionDuringDowntime: the history of what was missed is gone. Deletions
// are found by comparing, and a key deleted and created again is not an update.
func TestTrap_CompactionDuringDowntime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := model.New()
		for _, key := range []string{"/a/gone", "/a/kept", "/a/again", "/b/gone"} {
			s.Put(key, "1")
		}
		m, announced := run(t, client(t, s, "c"), store.MirrorOptions{Name: "m", Prefixes: []string{"/a/", "/b/"}})
		announced()
		s.Cut("c")
		s.Delete("/a/gone")
		s.Delete("/b/gone")
		s.Delete("/a/again")
		s.Put("/a/again", "1")
		s.Compact(s.Put("/b/new", "1"))
		s.Heal("c")
		time.Sleep(5 * time.Second)
		got := announced()[4:]
		if want := []string{"put /a/again", "delete /a/gone", "delete /b/gone", "put /b/new"}; !slices.Equal(got, want) {
			t.Errorf("announced %q, expected %q", got, want)
		}
		if m.Relists() != 1 || m.Divergences() != 0 || age(m) > 2*time.Second {
			t.Errorf("relists %d, divergences %d, proof %s old", m.Relists(), m.Divergences(), age(m))
		}
	})
}

// TestCanceledWatchListsAgain: whatever ends a watch, nothing is missed.
func TestCanceledWatchListsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := model.New()
		m, announced := run(t, client(t, s, "c"), store.MirrorOptions{Name: "m", Prefixes: []string{"/a/", "/b/"}})
		for i := range 20 {
			s.FailWatch("c")
			s.Put(fmt.Sprintf("/a/%02d", i), "1")
			s.Put(fmt.Sprintf("/b/%02d", i), "1")
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		if got := announced(); len(got) != 40 || m.Relists() == 0 || age(m) > 2*time.Second {
			t.Errorf("announced %d changes with %d relists, proof %s old; expected 40 with some", len(got), m.Relists(), age(m))
		}
	})
}

// TestTrap_ListWatchGap: somebody writes all the time while the mirror
// starts, over a slow link; nothing may fall between list and watch, or come twice.
func TestTrap_ListWatchGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := model.New()
		s.Delay("c", 40*time.Millisecond)
		ctx, stop := context.WithCancel(t.Context())
		written := make(chan int)
		go func() {
			n := 0
			for ; ctx.Err() == nil; n++ {
				s.Put(fmt.Sprintf("/a/%05d", n), "1")
				time.Sleep(time.Millisecond)
			}
			written <- n
		}()
		time.Sleep(5 * time.Millisecond)
		m, announced := run(t, client(t, s, "c"), store.MirrorOptions{Name: "m", Prefixes: []string{"/a/", "/b/"}})
		time.Sleep(time.Second)
		stop()
		n := <-written
		time.Sleep(time.Second)
		if got := len(m.Snapshot().Range("/a/")); got != n {
			t.Errorf("the mirror holds %d keys, %d were written", got, n)
		}
		log := announced()
		if slices.Sort(log); len(slices.Compact(log)) != n || len(announced()) != n {
			t.Errorf("announced %d changes, %d of them distinct; %d keys were written", len(announced()), len(slices.Compact(log)), n)
		}
	})
}

// TestProofDatesFromTheQuestion: an answer that takes its time proves what was
// when it was asked for.
func TestProofDatesFromTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := model.New()
		m, _ := run(t, client(t, s, "c"), store.MirrorOptions{Name: "m", Prefixes: []string{"/a/"}})
		s.Delay("c", 800*time.Millisecond)
		for range 20 {
			s.Put("/a/x", "1")
			time.Sleep(900 * time.Millisecond)
			at, _ := m.Fresh()
			m.OnChange(func(int64, []store.Change) {})
			if d := time.Since(at); d < 400*time.Millisecond {
				t.Fatalf("proof is %s old, its answer alone took longer", d)
			}
		}
	})
}

// lossy is a watcher that loses the events of one key, as etcd has (#18089).
type lossy struct {
	clientv3.Watcher
	loses string
}

func (l lossy) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	in, out := l.Watcher.Watch(ctx, key, opts...), make(chan clientv3.WatchResponse)
	go func() {
		defer close(out)
		for r := range in {
			kept := r.Events[:0:0]
			for _, ev := range r.Events {
				if string(ev.Kv.Key) != l.loses {
					kept = append(kept, ev)
				}
			}
			r.Events = kept
			select {
			case out <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// TestDivergenceIsCountedAndRepaired: the mirror can't notice a lost event; the
// full compare does.
func TestDivergenceIsCountedAndRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := model.New()
		p := s.Connect("c")
		c := store.New(p.KV, lossy{p.Watcher, "/a/lost"}, p.Lease, nil)
		t.Cleanup(func() { _ = c.Close() })
		m, announced := run(t, c, store.MirrorOptions{Name: "m", Prefixes: []string{"/a/"}})
		s.Put("/a/lost", "1")
		s.Put("/a/seen", "1")
		time.Sleep(4 * time.Minute)
		if has(m, "/a/lost") || m.Divergences() != 0 {
			t.Fatalf("key seen %v, divergences %d", has(m, "/a/lost"), m.Divergences())
		}
		time.Sleep(12 * time.Minute)
		if !has(m, "/a/lost") || m.Divergences() != 1 {
			t.Errorf("after the compare: key seen %v, divergences %d", has(m, "/a/lost"), m.Divergences())
		}
		if got := announced(); !slices.Equal(got, []string{"put /a/seen", "put /a/lost"}) {
			t.Errorf("announced %q", got)
		}
		time.Sleep(time.Hour)
		if m.Divergences() != 1 {
			t.Errorf("a repaired mirror still differs: %d", m.Divergences())
		}
	})
}

package engine

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func k(name string) Key { return Key{Controller: "c", Cluster: name} }

// drain takes everything that is ready, in order.
func drain(q *Queue) []string {
	var out []string
	for q.Len() > 0 {
		key, _, _ := q.Get()
		out = append(out, key.Cluster)
		q.Done(key, Next{})
	}
	return out
}

func TestQueueOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue()
		defer q.Close()
		q.Add(k("resync"), Resync)
		q.Add(k("change-1"), Change)
		q.Add(k("change-2"), Change)
		q.Add(k("raised"), Resync)
		q.Add(k("failover"), Failover)
		q.Add(k("change-1"), Resync) // lowers nothing, moves nothing
		q.Add(k("raised"), Change)
		want := []string{"failover", "change-1", "change-2", "raised", "resync"}
		if got := drain(q); !slices.Equal(got, want) {
			t.Errorf("got %q, expected %q", got, want)
		}
	})
}

func TestQueueDedupes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue()
		defer q.Close()
		for range 100 {
			q.Add(k("a"), Change)
		}
		key, _, _ := q.Get()
		if q.Len() != 0 {
			t.Fatalf("%d keys wait", q.Len())
		}
		for range 100 {
			q.Add(key, Resync)
		}
		q.Add(key, Failover)
		if q.Len() != 0 {
			t.Error("a key is handed out while it is being worked on")
		}
		q.Done(key, Next{After: time.Minute})
		if _, class, _ := q.Get(); class != Failover {
			t.Errorf("class %s, expected the most urgent of what was added", class)
		}
		q.Done(key, Next{})
		time.Sleep(time.Hour)
		if q.Len() != 0 || len(q.items) != 0 {
			t.Errorf("%d keys wait, %d are remembered", q.Len(), len(q.items))
		}
	})
}

// TestQueueAddIn: what waits is looked at once, at the earliest time asked for, and
// at once when something urgent comes meanwhile.
func TestQueueAddIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue()
		defer q.Close()
		took := func() (time.Duration, Class) {
			t.Helper()
			since := time.Now()
			key, class, _ := q.Get()
			q.Done(key, Next{})
			if q.Len() != 0 || len(q.items) != 0 {
				t.Errorf("%d keys wait, %d are remembered", q.Len(), len(q.items))
			}
			return time.Since(since), class
		}
		q.AddIn(k("a"), Failover, time.Second)
		time.Sleep(600 * time.Millisecond)
		q.AddIn(k("a"), Change, time.Second) // puts nothing off, lowers nothing
		if d, class := took(); d != 400*time.Millisecond || class != Failover {
			t.Errorf("handed out after %s as %s", d, class)
		}
		q.AddIn(k("a"), Change, time.Minute)
		q.AddIn(k("a"), Failover, time.Second)
		if d, class := took(); d != time.Second || class != Failover {
			t.Errorf("handed out after %s as %s", d, class)
		}
		q.AddIn(k("a"), Failover, time.Minute)
		q.Add(k("a"), Change)
		if d, _ := took(); d != 0 {
			t.Errorf("handed out after %s although a change came", d)
		}
	})
}

func TestQueueBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue()
		defer q.Close()
		q.Add(k("a"), Change)
		fail := func() time.Duration {
			key, _, _ := q.Get()
			q.Done(key, Next{Failed: true})
			started := time.Now()
			for q.Len() == 0 {
				time.Sleep(time.Millisecond)
			}
			return time.Since(started)
		}
		for i := range 12 {
			base := min(firstRetry<<i, mostRetry)
			if d := fail(); d < base/2-time.Millisecond || d > min(base*3/2, mostRetry)+2*time.Millisecond {
				t.Errorf("wait %d took %s, expected about %s", i, d, base)
			}
		}
		// Looking again is no reason to hope; a newer input is.
		q.Add(k("a"), Resync)
		if d := fail(); d < 10*time.Second {
			t.Errorf("a resync shortened the backoff to %s", d)
		}
		key, _, _ := q.Get()
		q.Done(key, Next{Failed: true})
		q.Add(key, Change)
		if q.Len() != 1 {
			t.Error("a newer input does not end the wait")
		}
		if d := fail(); d > 2*firstRetry {
			t.Errorf("a newer input left the backoff at %s", d)
		}
		key, _, _ = q.Get()
		q.Done(key, Next{})
		q.Add(key, Retry)
		if d := fail(); d > 2*firstRetry {
			t.Errorf("success left the backoff at %s", d)
		}
	})
}

func TestQueueAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue()
		defer q.Close()
		for i, d := range []time.Duration{3 * time.Second, time.Second, 2 * time.Second} {
			q.Add(k(fmt.Sprint(i)), Change)
			key, _, _ := q.Get()
			q.Done(key, Next{After: d})
		}
		started := time.Now()
		for _, want := range []string{"1", "2", "0"} {
			key, class, _ := q.Get()
			if key.Cluster != want || class != Resync {
				t.Errorf("after %s came %s (%s), expected %s", time.Since(started), key.Cluster, class, want)
			}
			q.Done(key, Next{})
		}
		if d := time.Since(started); d != 3*time.Second {
			t.Errorf("the last came after %s", d)
		}
		// Whoever is looked at earlier is not looked at again by the old timer.
		q.Add(k("a"), Change)
		key, _, _ := q.Get()
		q.Done(key, Next{After: time.Second})
		q.Add(key, Change)
		key, _, _ = q.Get()
		q.Done(key, Next{})
		time.Sleep(time.Minute)
		if q.Len() != 0 {
			t.Error("a timer outlived what it was set for")
		}
	})
}

func TestQueueCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, _, ok := q.Get(); ok {
					t.Error("a closed queue hands out keys")
				}
			})
		}
		synctest.Wait()
		q.Close()
		wg.Wait()
		q.Add(k("a"), Change)
		if _, _, ok := q.Get(); ok {
			t.Error("a closed queue hands out keys")
		}
	})
}

// TestQueueLosesNothing: after any sequence of additions and work, every key that
// was added is worked on once more, at most one at a time, the most urgent first.
func TestQueueLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := NewQueue()
		defer q.Close()
		owed := map[Key]Class{}    // not handed out since it was added
		running := map[Key]Class{} // the class owed to it afterwards, or -1
		keyOf := rapid.SampledFrom([]Key{k("a"), k("b"), k("c"), k("d")})
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				key, class := keyOf.Draw(t, "key"), Class(rapid.IntRange(0, 3).Draw(t, "class"))
				q.Add(key, class)
				if again, ok := running[key]; ok {
					running[key] = max(again, class)
				} else if now, ok := owed[key]; !ok || class > now {
					owed[key] = class
				}
			},
			"get": func(t *rapid.T) {
				if len(owed) == 0 {
					return
				}
				key, class, ok := q.Get()
				if _, busy := running[key]; !ok || busy || owed[key] != class {
					t.Fatalf("got %v as %s; owed %v, running %v", key, class, owed, running)
				}
				for _, other := range owed {
					if other > class {
						t.Fatalf("got %v as %s, but %s waits", key, class, other)
					}
				}
				delete(owed, key)
				running[key] = -1
			},
			"done": func(t *rapid.T) {
				for key, again := range running {
					q.Done(key, Next{})
					if delete(running, key); again >= 0 {
						owed[key] = again
					}
					return
				}
			},
			"": func(t *rapid.T) {
				if q.Len() != len(owed) {
					t.Fatalf("%d wait, expected %d", q.Len(), len(owed))
				}
			},
		})
	})
}

func BenchmarkQueue(b *testing.B) {
	q := NewQueue()
	defer q.Close()
	names := make([]Key, 5000)
	for i := range names {
		names[i] = Key{"haproxy", fmt.Sprintf("pg-%05d", i)}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		q.Add(names[i%len(names)], Class(i)%classes)
		key, _, _ := q.Get()
		q.Done(key, Next{})
	}
}

// BenchmarkQueueBacklog is the same with 5000 keys waiting.
func BenchmarkQueueBacklog(b *testing.B) {
	q := NewQueue()
	defer q.Close()
	for i := range 5000 {
		q.Add(Key{"haproxy", fmt.Sprintf("pg-%05d", i)}, Resync)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		key, _, _ := q.Get()
		q.Add(key, Change)
		q.Done(key, Next{})
	}
}

package storetest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/store"
)

func keep(t *testing.T, b Backend, p store.Presence) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- b.Store.Keep(ctx, p) }()
	stopped := false
	stop = func() error {
		cancel()
		if stopped {
			return nil
		}
		stopped = true
		return <-result
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

func testPresence(t *testing.T, b Backend) {
	var value atomic.Value
	value.Store("one")
	poke := make(chan struct{}, 1)
	stop := keep(t, b, store.Presence{
		Key: "/alive/n", TTL: time.Second, Poke: poke,
		Value: func() []byte {
			if value.Load() == "" {
				return nil
			}
			return []byte(value.Load().(string))
		},
	})
	is := func(want string) func() bool {
		return func() bool {
			e, ok := get(t, b, "/alive/n")
			return ok == (want != "") && string(e.Value) == want && (!ok || e.Lease != 0)
		}
	}
	eventually(t, "the key is there", is("one"))
	first, _ := get(t, b, "/alive/n")
	value.Store("two")
	poke <- struct{}{}
	eventually(t, "the new value is there", is("two"))
	value.Store("")
	poke <- struct{}{}
	eventually(t, "no value, no key", is(""))
	value.Store("three")
	poke <- struct{}{}
	eventually(t, "the third value is there", is("three"))
	if e, _ := get(t, b, "/alive/n"); e.Lease != first.Lease || e.ModRevision != first.ModRevision+3 {
		t.Errorf("lease %d, revision %d; expected the first lease %d and three writes after %d", e.Lease, e.ModRevision, first.Lease, first.ModRevision)
	}
	del(t, b, "/alive/n")
	eventually(t, "a key removed by hand comes back", is("three"))
	put(t, b, "/alive/n", "by hand")
	eventually(t, "a key overwritten by hand comes back", is("three"))
	noError(t, stop())
	if _, ok := get(t, b, "/alive/n"); ok {
		t.Error("the key outlives its keeper")
	}
}

func testPresenceTaken(t *testing.T, b Backend) {
	put(t, b, "/alive/n", "machine-2")
	stop := keep(t, b, store.Presence{
		Key: "/alive/n", TTL: time.Second,
		Value: func() []byte { return []byte("machine-1") },
		Mine:  func(e kv.KV) bool { return string(e.Value) == "machine-1" },
	})
	// It gives up by itself; stop only collects the result.
	eventually(t, "the keeper gives up", func() bool {
		leases := must[*clientv3.LeaseLeasesResponse](t)(b.Lease.Leases(t.Context()))
		return len(leases.Leases) == 0
	})
	if err := stop(); err != nil && !errors.Is(err, store.ErrTaken) {
		t.Errorf("got %v, expected %v", err, store.ErrTaken)
	}
	if e, _ := get(t, b, "/alive/n"); string(e.Value) != "machine-2" {
		t.Errorf("the other's key says %q", e.Value)
	}
}

func testPresenceLeaseLost(t *testing.T, b Backend) {
	keep(t, b, store.Presence{Key: "/alive/n", TTL: time.Second, Value: func() []byte { return []byte("x") }})
	var lease int64
	eventually(t, "the key is there", func() bool { e, ok := get(t, b, "/alive/n"); lease = e.Lease; return ok })
	must[*clientv3.LeaseRevokeResponse](t)(b.Lease.Revoke(t.Context(), clientv3.LeaseID(lease)))
	eventually(t, "the key is back under another lease", func() bool {
		e, ok := get(t, b, "/alive/n")
		return ok && e.Lease != lease
	})
}

const electionKey = "/election/server"

func campaign(ctx context.Context, t *testing.T, b Backend, id string) *store.Leadership {
	t.Helper()
	l, err := b.Store.Campaign(ctx, electionKey, id, 2*time.Second)
	noError(t, err)
	t.Cleanup(func() { _ = l.Resign(context.Background()) })
	return l
}

func testElection(t *testing.T, b Backend) {
	ctx := ctxFor(t)
	first := campaign(ctx, t, b, "one")
	if e, _ := get(t, b, electionKey); e.CreateRevision != first.Epoch() || string(e.Value) != "one" || e.Lease == 0 {
		t.Errorf("the key says %+v, epoch is %d", e, first.Epoch())
	}
	won := make(chan *store.Leadership)
	go func() { won <- campaign(ctx, t, b, "two") }()
	// Longer than a lease: renewals keep the first.
	select {
	case <-won:
		t.Error("two leaders")
	case <-first.Context().Done():
		t.Errorf("leadership ended: %v", context.Cause(first.Context()))
	case <-time.After(2500 * time.Millisecond):
	}
	if !first.Held() {
		t.Error("leadership is not held")
	}
	noError(t, first.Resign(ctx))
	if first.Held() || !errors.Is(context.Cause(first.Context()), store.ErrResigned) {
		t.Errorf("after resigning: held %v, %v", first.Held(), context.Cause(first.Context()))
	}
	second := <-won
	if second.Epoch() <= first.Epoch() {
		t.Errorf("epoch went from %d to %d", first.Epoch(), second.Epoch())
	}
	for l, want := range map[*store.Leadership]error{first: store.ErrConflict, second: nil} {
		if _, err := b.Store.Commit(ctx, []store.Guard{l.Guard()}, []store.Op{store.Put("/x", nil)}); !errors.Is(err, want) {
			t.Errorf("commit of epoch %d: %v, expected %v", l.Epoch(), err, want)
		}
	}
}

// testDeposed: whoever removes the key by hand ends the leadership, at once.
func testDeposed(t *testing.T, b Backend) {
	ctx := ctxFor(t)
	l := campaign(ctx, t, b, "one")
	del(t, b, electionKey)
	select {
	case <-l.Context().Done():
	case <-ctx.Done():
		t.Fatal("leadership survives its key")
	}
	if !errors.Is(context.Cause(l.Context()), store.ErrDeposed) {
		t.Errorf("ended by %v, expected %v", context.Cause(l.Context()), store.ErrDeposed)
	}
	if again := campaign(ctx, t, b, "one"); again.Epoch() <= l.Epoch() {
		t.Errorf("epoch went from %d to %d", l.Epoch(), again.Epoch())
	}
}

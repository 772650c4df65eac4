package storetest

import (
	"context"
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func testWatchHistory(t *testing.T, b Backend) {
	put(t, b, "/w/a", "1")
	from := put(t, b, "/w/a", "2")
	put(t, b, "/other", "x")
	put(t, b, "/w2", "x")
	gone := del(t, b, "/w/a")
	ch := b.Watcher.Watch(ctxFor(t), "/w/", clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithCreatedNotify())
	live := put(t, b, "/w/b", "3")

	var events []*clientv3.Event
	for len(events) < 3 {
		r := next(t, ch)
		noError(t, r.Err())
		events = append(events, r.Events...)
	}
	if e := events[0]; string(e.Kv.Value) != "2" || e.Kv.ModRevision != from || !e.IsModify() {
		t.Errorf("first event is %v, expected the put of 2 at %d", e, from)
	}
	if e := events[1]; e.Type != clientv3.EventTypeDelete || e.Kv.ModRevision != gone || len(e.Kv.Value) != 0 || e.Kv.CreateRevision != 0 {
		t.Errorf("second event is %v, expected the deletion at %d", e, gone)
	}
	if e := events[2]; string(e.Kv.Key) != "/w/b" || e.Kv.ModRevision != live || !e.IsCreate() {
		t.Errorf("third event is %v, expected the creation of /w/b at %d", e, live)
	}
}

func testWatchAtomic(t *testing.T, b Backend) {
	rev := put(t, b, "/w/a", "1")
	ch := b.Watcher.Watch(ctxFor(t), "/w/", clientv3.WithPrefix(), clientv3.WithRev(rev+1), clientv3.WithFragment())
	must[*clientv3.TxnResponse](t)(b.KV.Txn(t.Context()).Then(
		clientv3.OpPut("/w/a", "2"), clientv3.OpPut("/x", "2"), clientv3.OpPut("/w/b", "2")).Commit())
	r := next(t, ch)
	if len(r.Events) != 2 || r.Events[0].Kv.ModRevision != r.Events[1].Kv.ModRevision {
		t.Errorf("one transaction came as %v", r.Events)
	}
}

func testWatchCompacted(t *testing.T, b Backend) {
	old := put(t, b, "/w/a", "1")
	put(t, b, "/w/a", "2")
	rev := put(t, b, "/w/a", "3")
	must[*clientv3.CompactResponse](t)(b.KV.Compact(t.Context(), rev))
	ch := b.Watcher.Watch(ctxFor(t), "/w/", clientv3.WithPrefix(), clientv3.WithRev(old), clientv3.WithCreatedNotify())
	r := next(t, ch)
	if !r.Canceled || r.CompactRevision != rev || !errors.Is(r.Err(), rpctypes.ErrCompacted) {
		t.Errorf("canceled %v, compact revision %d, %v; expected true, %d, %v", r.Canceled, r.CompactRevision, r.Err(), rev, rpctypes.ErrCompacted)
	}
	if _, open := <-ch; open {
		t.Error("the watch goes on after that")
	}
	ch = b.Watcher.Watch(ctxFor(t), "/w/", clientv3.WithPrefix(), clientv3.WithRev(rev+1))
	put(t, b, "/w/a", "4")
	if r := next(t, ch); len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "4" {
		t.Errorf("a watch from after the compaction says %v", r)
	}
}

func testWatchProgress(t *testing.T, b Backend) {
	ctx, cancel := context.WithCancel(ctxFor(t))
	defer cancel()
	ch := b.Watcher.Watch(ctx, "/w/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if r := <-ch; !r.Created {
		t.Fatalf("first response is %v, expected the notice of creation", r)
	}
	put(t, b, "/w/a", "1")
	rev := put(t, b, "/elsewhere", "1")
	if r := next(t, ch); len(r.Events) != 1 {
		t.Fatalf("expected the event first, got %v", r)
	}
	noError(t, b.Watcher.RequestProgress(ctx))
	if r := next(t, ch); !r.IsProgressNotify() || r.Header.Revision < rev {
		t.Errorf("got %v, expected progress to %d", r, rev)
	}
}

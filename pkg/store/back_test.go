package store_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/store/model"
)

// restored is an etcd that answers from another one once it was put back.
type restored struct {
	clientv3.KV
	to atomic.Pointer[clientv3.KV]
}

// Get implements clientv3.KV.
func (r *restored) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if to := r.to.Load(); to != nil {
		return (*to).Get(ctx, key, opts...)
	}
	return r.KV.Get(ctx, key, opts...)
}

// TestMirrorOfAStoreThatWentBack: the watch waits in silence for revisions that come
// a second time. The mirror must notice by its proofs and read what there is.
func TestMirrorOfAStoreThatWentBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now, yesterday := model.New(), model.New()
		for _, s := range []*model.Server{now, yesterday} {
			s.Put("/a/x", "1")
		}
		now.Put("/a/y", "1")
		now.Put("/a/z", "1")
		parts, old := now.Connect("c"), yesterday.Connect("c")
		t.Cleanup(func() { _ = old.Watcher.Close(); _ = old.Lease.Close() })
		kv := &restored{KV: parts.KV}
		c := store.New(kv, parts.Watcher, parts.Lease, nil)
		t.Cleanup(func() { _ = c.Close() })
		m, _ := run(t, c, store.MirrorOptions{Name: "m", Prefixes: []string{"/a/"}})
		time.Sleep(3 * time.Second)
		if !has(m, "/a/y") || m.Relists() != 0 {
			t.Fatalf("before: %v, %d relists", has(m, "/a/y"), m.Relists())
		}
		kv.to.Store(&old.KV)
		now.DropWatch("c") // it is silent from then on, as etcd's is
		time.Sleep(2 * store.DefaultProbeEvery)
		if has(m, "/a/y") || !has(m, "/a/x") || m.Relists() == 0 {
			t.Errorf("after: /a/y %v, /a/x %v, %d relists", has(m, "/a/y"), has(m, "/a/x"), m.Relists())
		}
	})
}

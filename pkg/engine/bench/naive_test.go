package bench

import (
	"context"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// naive is the baseline: it lists, watches, dedupes, and writes what it made of a
// document under a guard. It proves no freshness, compares nothing, retries
// nothing, knows no urgency and survives no compaction.
func naive(ctx context.Context, t testing.TB, etcd *etcdtest.Server) {
	c := etcd.Client(t)
	l := keys.Default
	lease, err := c.Grant(ctx, 60)
	must(t, err)
	put, err := c.Put(ctx, l.ElectionKey(), "naive", clientv3.WithLease(lease.ID))
	must(t, err)
	epoch := put.Header.Revision

	var mu sync.Mutex
	dirty := map[string]string{}
	wake := make(chan struct{}, 1)
	add := func(key string, value []byte) {
		ref, err := l.Parse(key)
		if err != nil || !strings.HasPrefix(ref.Doc, "members/") {
			return
		}
		mu.Lock()
		dirty[ref.Cluster] = string(value)
		mu.Unlock()
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	list, err := c.Get(ctx, l.DesiredPrefix(), clientv3.WithPrefix())
	must(t, err)
	for _, e := range list.Kvs {
		add(string(e.Key), e.Value)
	}
	events := c.Watch(ctx, l.DesiredPrefix(), clientv3.WithPrefix(), clientv3.WithRev(list.Header.Revision+1))
	work := make(chan [2]string)
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for w := range work {
				_, _ = c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(l.ElectionKey()), "=", epoch)).
					Then(clientv3.OpPut(l.PlanKey("n1", w[0], "bench"), plan(w[1]))).Commit()
			}
		})
	}
	defer workers.Wait()
	defer close(work)
	for {
		select {
		case <-wake:
			mu.Lock()
			batch := dirty
			dirty = map[string]string{}
			mu.Unlock()
			for cluster, value := range batch {
				work <- [2]string{cluster, value}
			}
		case r, ok := <-events:
			if !ok {
				return
			}
			for _, ev := range r.Events {
				add(string(ev.Kv.Key), ev.Kv.Value)
			}
		case <-ctx.Done():
			return
		}
	}
}

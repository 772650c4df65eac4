package eventlog

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// ratePerSecond is at which documents are written in BenchmarkVisible.
const ratePerSecond = 200

// BenchmarkVisible writes 200 documents a second and measures, of each, when a watcher of the
// documents sees it and when a watcher of the events sees its event, from the moment before it is
// written. The first is what anybody pays who watches etcd; the difference is what events cost.
//
//	go test -run '^$' -bench Visible -benchtime 2000x ./pkg/eventlog
func BenchmarkVisible(b *testing.B) {
	s := etcdtest.Start(b)
	raw := s.Client(b)
	client, err := store.Connect(b.Context(), store.Options{Endpoints: s.Endpoints()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	l, err := client.Campaign(b.Context(), keys.Default.ElectionKey(), "bench", 5*time.Second)
	if err != nil {
		b.Fatal(err)
	}
	stream, err := New(Options{Client: client, Layout: keys.Default})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(l.Context())
	var running sync.WaitGroup
	running.Go(func() { stream.Lead(ctx, l) })
	defer func() { stop(); running.Wait(); _ = l.Resign(context.Background()) }()
	for {
		if resp, err := raw.Get(ctx, keys.Default.EventsCursor()); err == nil && len(resp.Kvs) > 0 {
			break
		}
	}
	documents := raw.Watch(ctx, keys.Default.DesiredPrefix(), clientv3.WithPrefix())
	found := raw.Watch(ctx, keys.Default.Prefix(keys.Events), clientv3.WithPrefix())

	var mu sync.Mutex
	began := map[int64]time.Time{} // by the revision of the document
	var plain, visible []time.Duration
	var seen sync.WaitGroup
	seen.Add(2)
	follow := func(ch clientv3.WatchChan, revision func(*clientv3.Event) int64, into *[]time.Duration) {
		defer seen.Done()
		for got := 0; got < b.N; {
			resp := <-ch
			now := time.Now()
			for _, ev := range resp.Events {
				rev := revision(ev)
				var at time.Time
				for at.IsZero() { // the writer may not have its answer yet
					mu.Lock()
					at = began[rev]
					mu.Unlock()
				}
				*into = append(*into, now.Sub(at))
				got++
			}
		}
	}
	go follow(documents, func(ev *clientv3.Event) int64 { return ev.Kv.ModRevision }, &plain)
	go follow(found, func(ev *clientv3.Event) (rev int64) {
		id := string(ev.Kv.Key[strings.LastIndexByte(string(ev.Kv.Key), '/')+1:])
		_, _ = fmt.Sscanf(id, "%d-", &rev)
		return rev
	}, &visible)

	b.ResetTimer()
	tick := time.NewTicker(time.Second / ratePerSecond)
	defer tick.Stop()
	var writes sync.WaitGroup
	for i := range b.N {
		<-tick.C
		writes.Go(func() {
			at := time.Now()
			resp, err := raw.Put(ctx, keys.Default.ClusterDoc(fmt.Sprint("c", i%50), fmt.Sprint("services/s", i%400)), port(6000+i))
			if err != nil {
				b.Error(err)
				return
			}
			mu.Lock()
			began[resp.Header.Revision] = at
			mu.Unlock()
		})
	}
	writes.Wait()
	seen.Wait()
	b.StopTimer()
	b.ReportMetric(quantile(plain, .5), "plain-p50-ms")
	b.ReportMetric(quantile(plain, .99), "plain-p99-ms")
	b.ReportMetric(quantile(visible, .5), "event-p50-ms")
	b.ReportMetric(quantile(visible, .99), "event-p99-ms")
	b.ReportMetric(quantile(visible, .5)/quantile(plain, .5), "p50-ratio")
}

func quantile(list []time.Duration, q float64) float64 {
	slices.Sort(list)
	if len(list) == 0 {
		return 0
	}
	return float64(list[min(len(list)-1, int(q*float64(len(list))))]) / float64(time.Millisecond)
}

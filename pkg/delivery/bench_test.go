package delivery_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/delivery"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// BenchmarkDelivered writes events one after the other, 50 a second, and measures of each when a
// receiver on the same host has it, from the moment before it is written; beside that, what a write
// and a POST take by themselves.
//
//	go test -run '^$' -bench Delivered -benchtime 500x ./pkg/delivery
func BenchmarkDelivered(b *testing.B) {
	c, err := store.Connect(b.Context(), store.Options{Endpoints: etcdtest.Start(b).Endpoints()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	came := make(chan time.Time, 1)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		at := time.Now()
		w.WriteHeader(http.StatusNoContent)
		came <- at
	}))
	defer receiver.Close()
	put := func(key string, value []byte) int64 {
		rev, err := c.Commit(b.Context(), nil, []store.Op{store.Put(key, value)})
		if err != nil {
			b.Fatal(err)
		}
		return rev
	}
	tm := &term{guard: store.CreateIs(l.ElectionKey(), put(l.ElectionKey(), []byte("me"))), done: make(chan struct{})}
	tm.ctx, tm.cancel = context.WithCancel(context.Background())
	put(l.ClusterDoc("c", "hooks/page"), []byte("events: [all]\nwebhook: {url: \""+receiver.URL+"\"}\n"))
	go func() {
		defer close(tm.done)
		delivery.New(delivery.Options{Client: c, Layout: l, Version: "test"}).Run(tm)
	}()
	defer func() { tm.cancel(); <-tm.done }()

	var whole, write, post []time.Duration
	one := func(n int) {
		id := events.ID{Revision: int64(1000 + n)}.String()
		value, err := json.Marshal(events.Event{Schema: events.Schema, ID: id, Cluster: "c", Kind: events.VIPTaken, Severity: events.Info, Seen: time.Now(), Message: "x"})
		if err != nil {
			b.Fatal(err)
		}
		at := time.Now()
		put(l.EventKey("c", id), value)
		written := time.Since(at)
		whole, write = append(whole, (<-came).Sub(at)), append(write, written)
	}
	one(0) // once it is under way
	whole, write = nil, nil
	b.ResetTimer()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := range b.N {
		<-tick.C
		one(i + 1)
		at := time.Now()
		resp, err := receiver.Client().Post(receiver.URL, "application/json", nil)
		if err != nil {
			b.Fatal(err)
		}
		_ = resp.Body.Close()
		post = append(post, (<-came).Sub(at))
	}
	b.StopTimer()
	ms := func(list []time.Duration, q float64) float64 {
		slices.Sort(list)
		return float64(list[min(len(list)-1, int(q*float64(len(list))))]) / float64(time.Millisecond)
	}
	b.ReportMetric(ms(whole, .5), "hook-p50-ms")
	b.ReportMetric(ms(whole, .99), "hook-p99-ms")
	b.ReportMetric(ms(write, .5), "write-p50-ms")
	b.ReportMetric(ms(post, .5), "post-p50-ms")
	b.ReportMetric(ms(whole, .5)/(ms(write, .5)+ms(post, .5)), "p50-ratio")
}

package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/engine"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// copier plans what a cluster's members say: next to no work, so that what is
// measured is the engine.
type copier struct{}

func (copier) Name() string { return "bench" }

func (copier) Inputs() []controllers.Access {
	return []controllers.Access{{Family: keys.Desired, Part: "members"}}
}

func (copier) Outputs() []controllers.Access {
	return []controllers.Access{{Family: keys.Plan, Part: "bench"}}
}

func (copier) Plan(in controllers.Input) (controllers.Result, error) {
	for _, e := range in.Snapshot.Range(in.Layout.ClusterDocs(in.Cluster) + "members/") {
		return controllers.Result{Outputs: []controllers.Output{
			{Key: in.Layout.PlanKey("n1", in.Cluster, "bench"), Value: []byte(plan(string(e.Value)))},
		}}, nil
	}
	return controllers.Result{}, nil
}

// plan is some 2 KiB, as a plan has.
func plan(of string) string { return of + strings.Repeat(" and so on", 200) }

// ours runs the engine until ctx ends.
func ours(ctx context.Context, t testing.TB, etcd *etcdtest.Server) {
	c, err := store.Connect(ctx, store.Options{Endpoints: etcd.Endpoints()})
	must(t, err)
	defer func() { _ = c.Close() }()
	e, err := engine.New(engine.Options{Client: c, Controllers: []controllers.Controller{copier{}}, ID: "bench"})
	must(t, err)
	must(t, e.Run(ctx))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
		panic(err)
	}
}

// fill writes n clusters of ten documents.
func fill(t testing.TB, c *clientv3.Client, n int) {
	l := keys.Default
	var ops []clientv3.Op
	for i := range n {
		cluster := fmt.Sprintf("pg-%05d", i)
		ops = append(ops, clientv3.OpPut(l.ClusterDoc(cluster, "members/"+cluster+"-1"), "node: n1"))
		for j := range 9 {
			ops = append(ops, clientv3.OpPut(l.ClusterDoc(cluster, fmt.Sprintf("users/u%d", j)), "{}"))
		}
	}
	for batch := range slices.Chunk(ops, 120) {
		_, err := c.Txn(t.Context()).Then(batch...).Commit()
		must(t, err)
	}
}

// run starts a contender and returns what ends it.
func run(b *testing.B, etcd *etcdtest.Server, f func(context.Context, testing.TB, *etcdtest.Server)) func() {
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { defer close(done); f(ctx, b, etcd) }()
	return func() { cancel(); <-done }
}

var contenders = []struct {
	name string
	run  func(context.Context, testing.TB, *etcdtest.Server)
}{{"engine", ours}, {"naive", naive}}

// BenchmarkColdStart5000 is from the start of the program until 5000 clusters of
// ten documents each have their plan, each in a fenced transaction.
func BenchmarkColdStart5000(b *testing.B) {
	const n = 5000
	for _, c := range contenders {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				etcd := etcdtest.Start(b)
				client := etcd.Client(b)
				fill(b, client, n)
				plans := client.Watch(b.Context(), keys.Default.Prefix(keys.Plan), clientv3.WithPrefix())
				b.StartTimer()
				stop := run(b, etcd, c.run)
				for seen := 0; seen < n; {
					r := <-plans
					seen += len(r.Events)
				}
				b.StopTimer()
				stop()
				_ = client.Close()
				etcd.Stop()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkChangeToWrite is from the writing of a document until a watch shows the
// plan made of it, among 500 clusters, at about 200 changes a second.
func BenchmarkChangeToWrite(b *testing.B) {
	for _, c := range contenders {
		b.Run(c.name, func(b *testing.B) {
			etcd := etcdtest.Start(b)
			client := etcd.Client(b)
			fill(b, client, 500)
			plans := client.Watch(b.Context(), keys.Default.Prefix(keys.Plan), clientv3.WithPrefix())
			stop := run(b, etcd, c.run)
			for seen := 0; seen < 500; {
				seen += len((<-plans).Events)
			}
			var took []time.Duration
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for i := 0; b.Loop(); i++ {
				<-tick.C
				took = append(took, change(b, client, plans, i))
			}
			b.StopTimer()
			stop()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(0, "ns/op") // the pace is the ticker's
		})
	}
}

// change writes a member and waits for the plan that says so.
func change(b *testing.B, c *clientv3.Client, plans clientv3.WatchChan, i int) time.Duration {
	cluster := fmt.Sprintf("pg-%05d", i%500)
	value := fmt.Sprintf("change: %d", i)
	started := time.Now()
	_, err := c.Put(b.Context(), keys.Default.ClusterDoc(cluster, "members/"+cluster+"-1"), value)
	must(b, err)
	for r := range plans {
		for _, ev := range r.Events {
			if strings.HasPrefix(string(ev.Kv.Value), value+" and") {
				return time.Since(started)
			}
		}
	}
	b.Fatal("watch ended")
	return 0
}

package agent_test

import (
	"context"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/agent/agenttest"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// The same agent on a real etcd, over real connections: it follows, confirms and
// moves, and its presence outlives it by its lease and not by more.
func TestOnRealEtcd(t *testing.T) {
	s := etcdtest.Start(t)
	db := s.Client(t)
	put := func(key, value string, opts ...clientv3.OpOption) int64 {
		t.Helper()
		r, err := db.Put(t.Context(), key, value, opts...)
		if err != nil {
			t.Fatal(err)
		}
		return r.Header.Revision
	}
	put(layout.StoreKey(), `{"incarnation":"S1"}`)
	put(layout.Scope("c")+"initialize", system)
	for i := 1; i <= 2; i++ {
		put(layout.PlanKey(node(i), "c", "haproxy"), string(plan.Encode(haproxyPlan(i))))
		put(layout.Members("c")+member(i), `{"state":"running","api_url":"http://10.0.0.`+string(rune('0'+i))+`:8008/patroni"}`)
	}
	asserted := make(chan agenttest.Assert, 1000)
	h1, h2 := agenttest.New("machine1"), agenttest.New("machine2")
	h2.OnAssert = func(a agenttest.Assert) { asserted <- a }
	stop1 := startOnEtcd(t, s, node(1), h1)
	defer startOnEtcd(t, s, node(2), h2)()

	var took []time.Duration
	for i := range 200 {
		leader, host := "m1", h1
		if i%2 == 1 {
			leader, host = "m2", h2
		}
		epoch := put(layout.Leader("c"), leader)
		start := time.Now()
		host.SetPostgres(writable(int64(i)))
		for a := range asserted {
			if a.Targets["primary"][leader].Held == plan.Up {
				took = append(took, a.At.Sub(start))
				break
			}
		}
		host.SetPostgres(recovering())
		r, err := db.Get(t.Context(), layout.PrimaryKey("c"))
		if err != nil || len(r.Kvs) == 0 {
			t.Fatalf("no primary record, or %v", err)
		}
		p, err := observed.Decode[observed.Primary](kvOf(r.Kvs[0].Value))
		if err != nil || p.Epoch != epoch {
			t.Fatalf("record %+v for epoch %d, %v", p, epoch, err)
		}
	}
	slices.Sort(took[1:])
	t.Logf("PostgreSQL writable -> another node's HAProxy told, real etcd: p50 %s, p99 %s", took[len(took)/2], took[len(took)*99/100])

	stop1()
	r, err := db.Get(t.Context(), layout.AliveKey(node(1)))
	if err != nil || len(r.Kvs) != 1 || r.Kvs[0].Lease == 0 {
		t.Fatalf("presence after a stop: %+v, %v", r.Kvs, err)
	}
}

func startOnEtcd(t *testing.T, s *etcdtest.Server, node string, h *agenttest.Host) (stop func()) {
	t.Helper()
	a, err := agent.New(agent.Options{
		Node: node, StateDir: t.TempDir(), Host: h.Wire(),
		Connect: func(ctx context.Context) (*store.Client, error) {
			return store.Connect(ctx, store.Options{Endpoints: s.Endpoints()})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = a.Run(ctx) }()
	deadline := time.Now().Add(10 * time.Second)
	for !a.Status().Announced || len(a.Status().Clusters) == 0 || !a.Status().Clusters[0].Fresh {
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %+v", a.Status())
		}
		<-time.After(5 * time.Millisecond)
	}
	return func() { cancel(); <-done }
}

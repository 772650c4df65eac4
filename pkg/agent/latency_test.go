package agent_test

import (
	"context"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/agent/agenttest"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/store/model"
)

// BenchmarkEventToAssert is the time from a confirmation put into (an in-memory)
// etcd to the router being told, on real clocks and without a network.
func BenchmarkEventToAssert(b *testing.B) {
	etcd := model.New()
	etcd.Put(layout.StoreKey(), `{"incarnation":"S1"}`)
	etcd.Put(layout.PlanKey("pg3", "c", "haproxy"), string(plan.Encode(haproxyPlan(3))))
	asserts := make(chan agenttest.Assert, 1000)
	h := agenttest.New("machine")
	h.OnAssert = func(a agenttest.Assert) { asserts <- a }
	a, err := agent.New(agent.Options{
		Node: "pg3", StateDir: b.TempDir(), Host: h.Wire(),
		Connect: func(context.Context) (*store.Client, error) { return etcd.Client("pg3"), nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = a.Run(ctx) }()
	defer func() { cancel(); <-done }()

	turn, elapsed := 0, time.Duration(0)
	move := func() {
		turn++
		m := member(1 + turn%2)
		epoch := etcd.Put(layout.Leader("c"), m)
		record := string(observed.Encode(observed.Primary{Member: m, Epoch: epoch, Sequence: 1, Writable: true}))
		start := time.Now()
		etcd.Put(layout.PrimaryKey("c"), record)
		for {
			select {
			case as := <-asserts:
				if as.Targets["primary"][m].Held == plan.Up {
					elapsed += as.At.Sub(start)
					return
				}
			case <-time.After(5 * time.Second):
				b.Fatalf("%s was not let up: %+v", m, a.Status())
			}
		}
	}
	move() // the plan is applied and the mirror ready
	elapsed = 0
	for b.Loop() {
		move()
	}
	b.ReportMetric(float64(elapsed.Microseconds())/float64(b.N), "us/move")
}

package agent_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/agent/agenttest"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// The virtual address on a real etcd: leases are read there, and a move is as fast
// as the confirmation, with nothing written in between.
func TestVIPOnRealEtcd(t *testing.T) {
	s := etcdtest.Start(t)
	db := s.Client(t)
	put := func(key, value string, opts ...clientv3.OpOption) {
		t.Helper()
		if _, err := db.Put(t.Context(), key, value, opts...); err != nil {
			t.Fatal(err)
		}
	}
	put(layout.StoreKey(), `{"incarnation":"S1"}`)
	put(layout.Scope("c")+"initialize", system)
	var leases []clientv3.LeaseID
	hosts := []*agenttest.Host{agenttest.New("machine1"), agenttest.New("machine2")}
	for i := 1; i <= 2; i++ {
		g, err := db.Grant(t.Context(), 60)
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, g.ID)
		put(layout.PlanKey(node(i), "c", "vip"), string(plan.Encode(vipPlan(i, vipAddress))))
		put(layout.Members("c")+member(i), fmt.Sprintf(`{"state":"running","api_url":"http://10.0.0.%d:8008/patroni"}`, i), clientv3.WithLease(g.ID))
		hosts[i-1].SetPostgres(recovering())
		defer startOnEtcd(t, s, node(i), hosts[i-1])()
	}
	has := func(i int) bool { return len(hosts[i].Addresses().List()) > 0 }
	wait := func(what string, so func() bool) {
		t.Helper()
		for deadline := time.Now().Add(12 * time.Second); !so(); <-time.After(200 * time.Microsecond) {
			if time.Now().After(deadline) {
				t.Fatalf("never: %s", what)
			}
			if has(0) && has(1) {
				t.Fatal("two holders")
			}
		}
	}
	var took []time.Duration
	for n := range 41 {
		to := n % 2
		hosts[1-to].SetPostgres(recovering())
		put(layout.Leader("c"), member(to+1), clientv3.WithLease(leases[to]))
		wait("the old holder lets go", func() bool { return !has(1 - to) })
		<-time.After(100 * time.Millisecond) // a promotion takes at least that
		start := time.Now()
		hosts[to].SetPostgres(writable(int64(n)))
		wait("the new leader has it", func() bool { return has(to) })
		took = append(took, time.Since(start))
	}
	took = took[1:] // the first waits until nobody can have it
	slices.Sort(took)
	t.Logf("PostgreSQL writable -> address added, real etcd, 40 moves: p50 %s, worst %s", took[20], took[39])
}

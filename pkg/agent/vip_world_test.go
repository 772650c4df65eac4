package agent_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

var vipAddress = plan.Address{Address: "10.0.0.99/32", Network: "10.0.0.99/24"}

func vipPlan(i int, as ...plan.Address) plan.Plan {
	p := haproxyPlan(i)
	p.Resources = plan.Resources{}
	for _, a := range as {
		p.Resources = append(p.Resources, a)
	}
	return p
}

// vipWorld is a world in which somebody plays Patroni with leases, and somebody
// watches every host's addresses.
type vipWorld struct {
	*world
	leases map[int]clientv3.LeaseID
	kv     clientv3.KV
	lease  clientv3.Lease
	stop   context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	silent map[int]bool // Patroni does not renew
	two    string
}

func withVIP(t *testing.T, story func(t *testing.T, w *vipWorld)) {
	t.Helper()
	simulate(t, func(t *testing.T, base *world) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &vipWorld{world: base, leases: map[int]clientv3.LeaseID{}, silent: map[int]bool{}, stop: cancel}
		p := base.etcd.Connect("patroni")
		w.kv, w.lease = p.KV, p.Lease
		for i := 1; i <= 3; i++ {
			w.session(i)
			base.etcd.Put(layout.PlanKey(node(i), "c", "vip"), string(plan.Encode(vipPlan(i, vipAddress))))
		}
		w.done.Go(func() { w.renew(ctx) })
		w.lead(1)
		for i := 1; i <= 3; i++ {
			r := w.start(i, "")
			r.host.SetPostgres(recovering())
		}
		w.agents["pg1"].host.SetPostgres(writable(1))
		w.done.Go(func() { w.observe(ctx) })
		after(8 * time.Second)
		w.expectHolder(1)
		story(t, w)
		cancel()
		w.done.Wait()
		if w.two != "" {
			t.Errorf("two holders: %s", w.two)
		}
		for _, r := range w.agents {
			r.stop()
		}
		_ = p.Lease.Close()
		_ = p.Watcher.Close()
	})
}

// session gives a member a lease and its key under it.
func (w *vipWorld) session(i int) {
	w.t.Helper()
	g, err := w.lease.Grant(w.t.Context(), 30)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.leases[i] = g.ID
	w.mu.Unlock()
	value := fmt.Sprintf(`{"state":"running","role":"replica","version":"3.0.4","api_url":"http://10.0.0.%d:8008/patroni"}`, i)
	if _, err := w.kv.Put(w.t.Context(), layout.Members("c")+member(i), value, clientv3.WithLease(g.ID)); err != nil {
		w.t.Fatal(err)
	}
}

// lead writes the leader key as member i's Patroni does.
func (w *vipWorld) lead(i int) {
	w.t.Helper()
	if _, err := w.kv.Put(w.t.Context(), layout.Leader("c"), member(i), clientv3.WithLease(w.leases[i])); err != nil {
		w.t.Fatal(err)
	}
}

func (w *vipWorld) renew(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Second):
		}
		w.mu.Lock()
		for i, id := range w.leases {
			if !w.silent[i] {
				_, _ = w.lease.KeepAliveOnce(ctx, id)
			}
		}
		w.mu.Unlock()
	}
}

func (w *vipWorld) silence(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent[i] = true
	w.agents[node(i)].host.SetPatroni(func() (bool, error) { return false, errors.New("connection refused") })
}

func (w *vipWorld) holders() (out []string) {
	for i := 1; i <= 3; i++ {
		if len(w.agents[node(i)].host.Addresses().List()) > 0 {
			out = append(out, node(i))
		}
	}
	return out
}

func (w *vipWorld) observe(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Millisecond):
		}
		if h := w.holders(); len(h) > 1 && w.two == "" {
			w.two = fmt.Sprint(h)
		}
	}
}

func (w *vipWorld) expectHolder(i int) {
	w.t.Helper()
	want := "[]"
	if i > 0 {
		want = "[" + node(i) + "]"
	}
	expect(w.t, "holder", fmt.Sprint(w.holders()), want)
}

func (w *vipWorld) vipRecord() observed.VIP {
	v, _, ok := w.etcd.Get(layout.VIPKey("c"))
	if !ok {
		return observed.VIP{}
	}
	r, err := observed.Decode[observed.VIP](kvOf([]byte(v)))
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *vipWorld) host(i int) *running { return w.agents[node(i)] }

// move is a planned move as Patroni makes it, up to the promotion.
func (w *vipWorld) move(from, to int) {
	w.host(from).host.SetPostgres(agent.PostgresState{})
	after(1400 * time.Millisecond)
	w.etcd.Delete(layout.Leader("c"))
	after(50 * time.Millisecond)
	w.lead(to)
	after(150 * time.Millisecond)
}

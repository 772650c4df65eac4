package agent_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/freeport"
	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/agent/agenttest"
	"github.com/pgctrl/pgctrl/pkg/etcdserver"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/store/snapshot"
)

// member is one etcd whose data folder outlives it.
type etcdMember struct {
	t *testing.T
	o etcdserver.Options
	*clientv3.Client
	stop func()
}

func newMember(t *testing.T, quota int64) *etcdMember {
	m := &etcdMember{t: t, o: etcdserver.Options{
		Quota: quota,
		Name:  "e", DataDir: filepath.Join(t.TempDir(), "etcd"), ClientPort: freeport.Take(t), PeerPort: freeport.Take(t),
	}}
	m.start()
	return m
}

func (m *etcdMember) start() {
	m.t.Helper()
	ready, done := make(chan []string, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	o := m.o
	o.Ready = func(urls []string) { ready <- urls }
	go func() { done <- etcdserver.Run(ctx, o) }()
	var urls []string
	select {
	case urls = <-ready:
	case err := <-done:
		m.t.Fatal(err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: urls, Logger: zap.NewNop()})
	if err != nil {
		m.t.Fatal(err)
	}
	m.Client = c
	ended := false
	m.stop = func() {
		if !ended {
			ended = true
			c.Close()
			cancel()
			<-done
		}
	}
	m.t.Cleanup(m.stop)
}

func (m *etcdMember) put(key, value string) int64 {
	m.t.Helper()
	r, err := m.Put(m.t.Context(), key, value)
	if err != nil {
		m.t.Fatal(err)
	}
	return r.Header.Revision
}

func (m *etcdMember) primary() observed.Primary {
	m.t.Helper()
	r, err := m.Get(m.t.Context(), layout.PrimaryKey("c"))
	if err != nil {
		m.t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return observed.Primary{}
	}
	p, err := observed.Decode[observed.Primary](kvOf(r.Kvs[0].Value))
	if err != nil {
		m.t.Fatal(err)
	}
	return p
}

func within(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for: %s", limit, what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// TestRestoredEtcd: an etcd that went on for a while is put back to what it was when
// another member led, under running agents and under one that starts meanwhile. No
// route goes back with it; once it is accepted everything follows again.
func TestRestoredEtcd(t *testing.T) {
	for name, way := range map[string]struct {
		save, back func(t *testing.T, m *etcdMember, at string)
	}{
		"by pgctrl etcd restore": {saveSnapshot, restoreSnapshot},
		"by copying its folder":  {saveFolder, restoreFolder},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMember(t, 0)
			m.put(layout.StoreKey(), `{"incarnation":"S1"}`)
			m.put(layout.Scope("c")+"initialize", system)
			for i := 1; i <= 3; i++ {
				m.put(layout.PlanKey(node(i), "c", "haproxy"), string(plan.Encode(haproxyPlan(i))))
				m.put(layout.Members("c")+member(i), `{"state":"running","api_url":"http://10.0.0.`+string(rune('0'+i))+`:8008/patroni"}`)
			}
			h1, h2, h3 := agenttest.New("machine1"), agenttest.New("machine2"), agenttest.New("machine3")
			h1.SetPostgres(writable(1))
			h2.SetPostgres(recovering())
			m.put(layout.Leader("c"), "m1")
			a1, stop1 := startAt(t, m, 1, h1, t.TempDir())
			defer stop1()
			dir := t.TempDir()
			a2, stop2 := startAt(t, m, 2, h2, dir)
			defer stop2()
			within(t, 10*time.Second, "m1 is routed to", func() bool { return h2.Targets("primary")["m1"].Held == plan.Up })
			saved := filepath.Join(t.TempDir(), "saved")
			way.save(t, m, saved)

			h1.SetPostgres(recovering())
			h2.SetPostgres(writable(2))
			m.put(layout.Leader("c"), "m2")
			within(t, 10*time.Second, "m2 is routed to", func() bool { return h2.Targets("primary")["m2"].Held == plan.Up })
			for range 20 {
				m.put("/filler", "x")
			}
			within(t, 10*time.Second, "agents have seen that", func() bool {
				st := a2.Status()
				return st.Trusted != nil && st.Trusted.Revision >= m.put("/filler", "y")-5
			})
			stop2() // and its memory is on disk
			before1 := len(h1.Asserts())
			m.stop()
			way.back(t, m, saved)
			m.start()
			a2, stop2 = startAt(t, m, 2, h2, dir)
			defer stop2()
			a3, stop3 := startAt(t, m, 3, h3, t.TempDir()) // it knows nothing to compare with
			defer stop3()
			within(t, 15*time.Second, "they hold off", func() bool { return a1.Status().Distrust != nil && a2.Status().Distrust != nil })
			before2 := len(h2.Asserts())
			<-time.After(3 * time.Second)
			for _, as := range append(h1.Asserts()[before1:], h2.Asserts()[before2:]...) {
				if as.Targets["primary"]["m1"].Held == plan.Up {
					t.Fatalf("a route went back to yesterday's leader: %+v", as)
				}
			}
			if p := m.primary(); p.Member == "m1" && p.Epoch > 0 && p.By == "pg2" {
				t.Errorf("it was confirmed again: %+v", p)
			}

			// Patroni settles, a person accepts, the server plans.
			m.put(layout.Leader("c"), "m2")
			rec, next := m.record(), store.NewIncarnation()
			m.put(layout.StoreKey(), string(observed.Encode(rec.Accept(next, "S1"))))
			for i := 1; i <= 3; i++ {
				p := haproxyPlan(i)
				p.Store = next
				m.put(layout.PlanKey(node(i), "c", "haproxy"), string(plan.Encode(p)))
			}
			within(t, 15*time.Second, "m2 is confirmed in the accepted store", func() bool {
				p := m.primary()
				return p.Member == "m2" && p.Store == next
			})
			before1 = len(h1.Asserts())
			within(t, 15*time.Second, "the agent that ran through it all asserts again", func() bool { return len(h1.Asserts()) > before1 })
			for _, h := range []*agenttest.Host{h1, h2, h3} {
				within(t, 15*time.Second, "everybody routes to m2", func() bool {
					ts := h.Targets("primary")
					return ts["m2"].Held == plan.Up && ts["m1"].Held == plan.Down
				})
			}
			within(t, 10*time.Second, "nobody distrusts", func() bool {
				return a1.Status().Distrust == nil && a2.Status().Distrust == nil && a3.Status().Distrust == nil
			})
		})
	}
}

func (m *etcdMember) record() observed.Store {
	m.t.Helper()
	r, err := m.Get(m.t.Context(), layout.StoreKey())
	if err != nil || len(r.Kvs) == 0 {
		m.t.Fatalf("no record: %v", err)
	}
	rec, err := observed.Decode[observed.Store](kv.KV{Value: r.Kvs[0].Value})
	if err != nil {
		m.t.Fatal(err)
	}
	return rec
}

func startAt(t *testing.T, m *etcdMember, i int, h *agenttest.Host, dir string) (a *agent.Agent, stop func()) {
	t.Helper()
	endpoints := m.Endpoints()
	a, err := agent.New(agent.Options{
		Node: node(i), StateDir: dir, Host: h.Wire(),
		Connect: func(ctx context.Context) (*store.Client, error) {
			return store.Connect(ctx, store.Options{Endpoints: endpoints})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = a.Run(ctx) }()
	return a, func() { cancel(); <-done }
}

func saveSnapshot(t *testing.T, m *etcdMember, at string) {
	t.Helper()
	if _, err := snapshot.Save(t.Context(), func(ctx context.Context) (io.ReadCloser, error) { return m.Snapshot(ctx) }, at); err != nil {
		t.Fatal(err)
	}
}

func restoreSnapshot(t *testing.T, m *etcdMember, at string) {
	t.Helper()
	_, err := etcdserver.Restore{Options: m.o, File: at, Replace: true, Key: layout.StoreKey(), Record: func(old []byte, rev int64) []byte {
		rec, err := observed.Decode[observed.Store](kv.KV{Value: old})
		if err != nil {
			t.Error(err)
		}
		rec.Incarnation, rec.Restored = store.NewIncarnation(), &observed.Restored{Revision: rev}
		return observed.Encode(rec)
	}}.Run()
	if err != nil {
		t.Fatal(err)
	}
}

// saveFolder copies the data folder of a stopped etcd, as a backup of a disk does.
func saveFolder(t *testing.T, m *etcdMember, at string) {
	t.Helper()
	m.stop()
	if err := os.CopyFS(at, os.DirFS(m.o.DataDir)); err != nil {
		t.Fatal(err)
	}
	m.start()
}

func restoreFolder(t *testing.T, m *etcdMember, at string) {
	t.Helper()
	if err := os.RemoveAll(m.o.DataDir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(m.o.DataDir, os.DirFS(at)); err != nil {
		t.Fatal(err)
	}
}

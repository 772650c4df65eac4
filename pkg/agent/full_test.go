package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent/agenttest"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// TestFullEtcd: under the NOSPACE alarm the agents keep everything and hold their
// routes, say why nothing is reported, write seldom, and catch up once there is room.
func TestFullEtcd(t *testing.T) {
	m := newMember(t, 4<<20)
	m.put(layout.StoreKey(), `{"incarnation":"S1"}`)
	m.put(layout.Scope("c")+"initialize", system)
	m.put(layout.PlanKey("pg1", "c", "haproxy"), string(plan.Encode(haproxyPlan(1))))
	m.put(layout.Members("c")+"m1", `{"state":"running","api_url":"http://10.0.0.1:8008/patroni"}`)
	m.put(layout.Leader("c"), "m1")
	h := agenttest.New("machine1")
	h.SetPostgres(writable(1))
	a, stop := startAt(t, m, 1, h, t.TempDir())
	defer stop()
	within(t, 10*time.Second, "m1 is routed to", func() bool { return h.Targets("primary")["m1"].Held == plan.Up })
	m.fill()
	if _, err := m.Delete(t.Context(), layout.ObservedKey("pg1", "c", "haproxy")); err != nil {
		t.Fatalf("DELETE: %v", err)
	}
	h.SetPostgres(recovering()) // to be withdrawn
	within(t, 15*time.Second, "the agent says that etcd is full", func() bool {
		f := a.Status().Full
		return f != nil && f.Reason == observed.NoSpace && f.Next == "pgctrl etcd compact"
	})
	acts := len(h.Events())
	asserts := h.Asserts()
	<-time.After(2 * time.Second)
	if len(h.Events()) != acts {
		t.Errorf("acts on the host: %q", h.Events()[acts:])
	}
	now := h.Asserts()
	if len(now) <= len(asserts) || now[len(now)-1].Targets["primary"]["m1"].Held != plan.Up {
		t.Error("routes are not held any more")
	}
	m.compact()
	within(t, 15*time.Second, "what was to be said is said", func() bool { return !m.primary().Writable && a.Status().Full == nil })
}

// TestStartedWhileEtcdIsFull: an agent that starts then can't get a lease for its
// presence. It has nothing to report that etcd does not have, and says it all the same.
func TestStartedWhileEtcdIsFull(t *testing.T) {
	m := newMember(t, 4<<20)
	m.put(layout.StoreKey(), `{"incarnation":"S1"}`)
	m.fill()
	a, stop := startAt(t, m, 1, agenttest.New("machine1"), t.TempDir())
	defer stop()
	within(t, 15*time.Second, "the agent says that etcd is full", func() bool { return a.Status().Full != nil })
	m.compact()
	within(t, 15*time.Second, "the agent is present", func() bool {
		r, err := m.Get(t.Context(), layout.AliveKey("pg1"))
		return err == nil && len(r.Kvs) == 1 && a.Status().Full == nil
	})
}

// fill writes until etcd refuses.
func (m *etcdMember) fill() {
	m.t.Helper()
	big := strings.Repeat("x", 100<<10)
	for {
		if _, err := m.Put(m.t.Context(), "/filler", big); err != nil {
			return
		}
	}
}

// compact makes room as the command does.
func (m *etcdMember) compact() {
	m.t.Helper()
	c, err := store.Connect(m.t.Context(), store.Options{Endpoints: m.Endpoints()})
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Compact(m.t.Context(), func(what string) { m.t.Log(what) }); err != nil {
		m.t.Fatal(err)
	}
}

package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// accept writes the record that `pgctrl etcd accept` writes, and the plans that the
// server then makes.
func (w *world) accept(rec observed.Store) {
	w.etcd.Put(layout.StoreKey(), string(observed.Encode(rec)))
	after(time.Second)
	for i := 1; i <= 3; i++ {
		p := haproxyPlan(i)
		p.Store = rec.Incarnation
		w.etcd.Put(layout.PlanKey(node(i), "c", "haproxy"), string(plan.Encode(p)))
	}
	after(time.Second)
}

// TestAnotherStoreIsHeldOffUntilAccepted: nothing is acquired, applied, confirmed or
// removed for a store that nobody accepted, over a restart of the agent too.
func TestAnotherStoreIsHeldOffUntilAccepted(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		other := observed.Store{Incarnation: "S2", Restored: &observed.Restored{Revision: 3, Taken: time.Now()}}
		w.etcd.Put(layout.StoreKey(), string(observed.Encode(other)))
		after(time.Second)
		was, rev := w.primary()
		acts, asserts := len(a2.host.Events()), len(a2.host.Asserts())
		// What a restored store may name: another leader, another plan.
		a2.host.SetPostgres(writable(2))
		w.leader(2)
		changed := haproxyPlan(2)
		changed.Store = "S2"
		changed.Resources = nil
		w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), string(plan.Encode(changed)))
		after(10 * time.Second)
		now, again := w.primary()
		expect(t, "primary", now, was)
		expect(t, "not written again", again, rev)
		expect(t, "acts on the host", len(a2.host.Events()), acts)
		expect(t, "routes are the checks' business", len(a2.host.Asserts()), asserts)
		c := applied(t, w.report(2, "haproxy"))
		expect(t, "reason", c.Reason, observed.StoreChanged)
		expect(t, "next", c.Next, "pgctrl etcd accept")
		alive, _, _ := w.etcd.Get(layout.AliveKey("pg2"))
		if !strings.Contains(alive, `"store":{"incarnation":"S1"`) {
			t.Errorf("its presence does not say which store it knows: %s", alive)
		}
		if st := a2.Status(); st.Distrust == nil || st.Trusted.Incarnation != "S1" {
			t.Errorf("status: distrust %+v, trusted %+v", st.Distrust, st.Trusted)
		}

		a2.stop()
		a2 = w.startOn(2, a2.dir, a2.host)
		after(10 * time.Second)
		expect(t, "acts after a restart", len(a2.host.Events()), acts)
		expect(t, "asserts after a restart", len(a2.host.Asserts()), asserts)

		w.accept(other.Accept("S3", "S1"))
		p, _ := w.primary()
		expect(t, "primary once accepted", p.Member, "m2")
		expect(t, "its store", p.Store, "S3")
		expect(t, "routes once accepted", held(a2, "primary"), "m1=down m2=up m3=down")
		expect(t, "plan once accepted", applied(t, w.report(2, "haproxy")).Status, observed.True)
		alive, _, _ = w.etcd.Get(layout.AliveKey("pg2"))
		expect(t, "presence says nothing more of stores", strings.Contains(alive, `"store"`), false)
		expect(t, "status", w.agents["pg1"].Status().Distrust, (*observed.Condition)(nil))
	})
}

// TestAcceptedStoreWithoutAServer: the plans of the store that was replaced stay in
// force until there are newer ones, and routes follow by them.
func TestAcceptedStoreWithoutAServer(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		w.etcd.Put(layout.StoreKey(), string(observed.Encode(observed.Store{Incarnation: "S1"}.Accept("S2"))))
		after(time.Second)
		a2.host.SetPostgres(writable(2))
		w.leader(2)
		after(time.Second)
		expect(t, "routes", held(a2, "primary"), "m1=down m2=up m3=down")
	})
}

// TestConfirmationOfAnotherStoreConfirmsNothing: its epoch is a revision of another
// time, so it neither confirms nor outlives the leader's own agent.
func TestConfirmationOfAnotherStoreConfirmsNothing(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		epoch := w.leader(1)
		w.etcd.Put(layout.PrimaryKey("c"), string(observed.Encode(observed.Primary{
			Member: "m1", Node: "pg1", Epoch: epoch + 1000, Sequence: 9, Writable: true, Store: "S0",
		})))
		a1 := w.start(1, "")
		a1.host.SetPostgres(recovering())
		after(5 * time.Second)
		expect(t, "before PostgreSQL takes writes", strings.Contains(held(a1, "primary"), "up"), false)
		a1.host.SetPostgres(writable(1))
		after(time.Second)
		p, _ := w.primary()
		expect(t, "epoch", p.Epoch, epoch)
		expect(t, "store", p.Store, "S1")
		expect(t, "routes", held(a1, "primary"), "m1=up m2=down m3=down")
	})
}

// TestPlanThatCannotBeKeptIsInForceAndSaid: R4 and R5 are about the host, which a
// full disk under the agent's own files does not concern; that a start without etcd
// would use an older plan is said until it is over.
func TestPlanThatCannotBeKeptIsInForceAndSaid(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		// A file in the place of the folder fails as a full disk does, also for root.
		plans := filepath.Join(a2.dir, "plans")
		if err := os.Rename(plans, plans+".saved"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(plans, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		p := haproxyPlan(2)
		u := p.Resources[0].(plan.Unit)
		u.Files = []plan.File{{Path: "/etc/haproxy/c.cfg", Mode: "0640", Content: "global # 2"}}
		p.Resources = plan.Resources{u}
		n := len(a2.host.Events())
		w.etcd.Put(layout.PlanKey("pg2", "c", "haproxy"), string(plan.Encode(p)))
		after(10 * time.Second)
		r := w.report(2, "haproxy")
		expect(t, "applied", applied(t, r).Status, observed.True)
		expect(t, "acts", strings.Join(a2.host.Events()[n:], ", "), "apply haproxy@c.service")
		expect(t, "it is said", reasonIn(r, observed.NotKept), true)
		expect(t, "and nothing waits for it", r.Done(r.Plan), true)
		rev := w.etcd.Revision()
		after(time.Minute)
		expect(t, "said once", w.etcd.Revision(), rev)
		if err := os.Remove(plans); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		expect(t, "kept once there is room", reasonIn(w.report(2, "haproxy"), observed.NotKept), false)
		if _, err := os.Stat(filepath.Join(plans, "c", "haproxy.json")); err != nil {
			t.Error(err)
		}
	})
}

func reasonIn(r observed.Report, reason observed.Reason) bool {
	for _, c := range r.Conditions {
		if c.Reason == reason {
			return true
		}
	}
	return false
}

// TestHalfWrittenKeptPlan: it hinders no other, and etcd's takes its place.
func TestHalfWrittenKeptPlan(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := settle(t, w)
		a2.stop()
		file := filepath.Join(a2.dir, "plans", "c", "haproxy.json")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b[:len(b)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		a2 = w.startOn(2, a2.dir, a2.host)
		a2.host.SetPostgres(recovering())
		after(2 * time.Second)
		expect(t, "routes", held(a2, "primary"), "m1=up m2=down m3=down")
		if now, err := os.ReadFile(file); err != nil || len(now) != len(b) {
			t.Errorf("the file has %d bytes (%v), want %d", len(now), err, len(b))
		}
	})
}

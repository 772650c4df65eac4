package agent_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func TestVIPFollowsTheLeader(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		r := w.vipRecord()
		expect(t, "record", r.Node+" "+r.Member+" "+r.State, "pg1 m1 held")
		rep := w.report(1, "vip")
		expect(t, "fact", rep.Facts[observed.FactVIP], observed.VIPHeld)
		expect(t, "done", rep.Done(rep.Plan), true)
		expect(t, "announcements", w.host(1).host.Addresses().Announced(), 5)

		w.move(1, 2)
		w.expectHolder(0)
		expect(t, "claimed during the promotion", w.vipRecord().Node, "pg2")
		w.host(2).host.SetPostgres(writable(2))
		after(10 * time.Millisecond) // PostgreSQL is asked every 2 ms, and what is due at one instant comes in any order
		w.expectHolder(2)
		w.host(1).host.SetPostgres(recovering())
		after(3 * time.Second)
		expect(t, "routes", held(w.host(3), "primary"), "m1=down m2=up m3=down")
		expect(t, "old holder's fact", w.report(1, "vip").Facts[observed.FactVIP], "")

		// Nothing is written while nothing happens (R8).
		quiet := w.etcd.Revision()
		after(10 * time.Minute)
		expect(t, "R8", w.etcd.Revision(), quiet)
		w.expectHolder(2)
	})
}

// TestVIPComesBack: the same Patroni, with the same lease, leads again.
func TestVIPComesBack(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		for n := range 6 {
			from, to := 1+n%2, 1+(n+1)%2
			w.move(from, to)
			w.host(to).host.SetPostgres(writable(int64(n)))
			after(10 * time.Millisecond)
			w.expectHolder(to)
			w.host(from).host.SetPostgres(recovering())
			after(7 * time.Second)
		}
	})
}

// TestNoWriteBetweenConfirmationAndAddress: etcd may be as slow as it likes once the
// confirmation is written.
func TestNoWriteBetweenConfirmationAndAddress(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		w.move(1, 2)
		before := w.etcd.Calls(node(2))
		w.host(2).host.SetPostgres(writable(2))
		for len(w.holders()) == 0 {
			after(time.Millisecond)
		}
		// The confirmation itself, and at most a probe of freshness.
		if n := w.etcd.Calls(node(2)) - before; n > 2 {
			t.Errorf("%d calls of etcd before the address was there", n)
		}
	})
}

func TestHolderKilled(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		// An upgrade: nobody notices.
		old := w.host(1)
		old.stop()
		after(2 * time.Second)
		w.expectHolder(1)
		w.startOn(1, old.dir, old.host)
		for range 60 {
			after(100 * time.Millisecond)
			w.expectHolder(1)
		}
		// It stays away: the kernel drops the address, and it comes back with the agent.
		w.host(1).stop()
		after(5100 * time.Millisecond)
		w.expectHolder(0)
		after(time.Minute)
		w.startOn(1, old.dir, old.host)
		after(2 * time.Second)
		w.expectHolder(1)
	})
}

// TestHolderDead: the next leader takes it although nobody released it.
func TestHolderDead(t *testing.T) {
	for name, c := range map[string]struct{ gone, wait time.Duration }{
		"once it must have let go, when the node's presence is long gone": {20 * time.Second, 2 * time.Second},
		"after lifetime and a second when it is not":                      {time.Second, 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			withVIP(t, func(t *testing.T, w *vipWorld) {
				w.etcd.Cut(node(1)) // dead in an instant, it says goodbye to nobody
				w.host(1).stop()
				w.silence(1)
				after(c.gone)
				w.lead(3)
				after(100 * time.Millisecond)
				w.host(3).host.SetPostgres(writable(2))
				after(c.wait - 200*time.Millisecond)
				if c.wait > time.Second {
					if len(w.holders()) > 0 && w.holders()[0] == "pg3" {
						t.Error("taken too early")
					}
				}
				after(400 * time.Millisecond)
				w.expectHolder(3)
			})
		})
	}
}

func TestHolderWithoutEtcd(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		for i := 1; i <= 3; i++ {
			w.etcd.Cut(node(i))
		}
		after(time.Minute)
		w.expectHolder(1) // Patroni's word
		st := w.host(1).Status().Clusters[0]
		if st.VIP == nil || !st.VIP.Here || st.VIP.Because != "the local Patroni says that it leads" {
			t.Errorf("status %+v", st.VIP)
		}
		cut := false
		for _, c := range st.Why {
			cut = cut || c.Reason == observed.AgentCutOff
		}
		expect(t, "AgentCutOff", cut, true)
		w.host(1).host.SetPatroni(func() (bool, error) { return false, nil })
		after(2 * time.Second)
		w.expectHolder(0) // 503
		w.host(1).host.SetPatroni(nil)
		after(time.Minute)
		w.expectHolder(0) // keep needs one proof, acquire more
		for i := 1; i <= 3; i++ {
			w.etcd.Heal(node(i))
		}
		after(20 * time.Second)
		w.expectHolder(1)
	})
}

// TestPatroniStoppedPastItsLease: PostgreSQL goes on to take writes, and the address
// is gone before another can lead.
func TestPatroniStoppedPastItsLease(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		w.silence(1)
		after(19 * time.Second)
		w.expectHolder(1)
		var gone, over time.Time
		for gone.IsZero() || over.IsZero() {
			after(100 * time.Millisecond)
			if _, _, ok := w.etcd.Get(layout.Leader("c")); !ok && over.IsZero() {
				over = time.Now()
			}
			if len(w.holders()) == 0 && gone.IsZero() {
				gone = time.Now()
			}
		}
		if !gone.Before(over) {
			t.Errorf("the address went %s after the lease", gone.Sub(over))
		}
		expect(t, "record", w.vipRecord().State, observed.VIPReleased)
		w.lead(2)
		w.host(2).host.SetPostgres(writable(2))
		after(time.Second)
		w.expectHolder(2)
	})
}

func TestPatroniPausedKeepsTheAddress(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		w.etcd.Put(layout.Scope("c")+"config", `{"ttl":30,"pause":true}`)
		after(time.Second)
		w.silence(1)
		after(2 * time.Minute) // the leader key is long gone
		w.expectHolder(1)
		w.host(1).host.SetPostgres(agent.PostgresState{})
		after(4 * time.Second)
		w.expectHolder(0)
	})
}

// TestR9AddressByHand: what a person does to it is undone at once, and said.
func TestR9AddressByHand(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		w.host(1).host.Addresses().RemoveByHand(vipAddress.Address)
		after(2 * time.Millisecond)
		w.expectHolder(1)
		after(time.Second)
		mentions(t, "repaired", w.report(1, "vip").Facts["repaired"], "1 times", "removed by somebody else")
		two := w.two
		w.host(3).host.Addresses().AddByHand(vipAddress.Address)
		after(2 * time.Millisecond)
		w.expectHolder(1)
		w.two = two // the observer saw it, as it should
		after(time.Second)
		mentions(t, "repaired", w.report(3, "vip").Facts["repaired"], "added by somebody else")
	})
}

func TestAddressConflict(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		mac := net.HardwareAddr{2, 0, 0, 0, 0, 7}
		w.host(1).host.Addresses().SetOthers(mac)
		w.host(2).host.Addresses().SetOthers(net.HardwareAddr{2, 0, 0, 0, 0, 1})
		after(time.Minute)
		c, ok := w.report(1, "vip").Condition(observed.Healthy)
		if !ok || c.Reason != observed.AddressConflict {
			t.Fatalf("report %+v", w.report(1, "vip"))
		}
		mentions(t, "message", c.Message, mac.String())
		if _, ok := w.report(2, "vip").Condition(observed.Healthy); ok {
			t.Error("the holder's own answer is a conflict")
		}
		w.host(1).host.Addresses().SetOthers()
		after(time.Minute)
		if _, ok := w.report(1, "vip").Condition(observed.Healthy); ok {
			t.Error("the conflict does not end")
		}
	})
}

func TestVIPPlanChanges(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		other := plan.Address{Address: "10.0.0.98/32", Network: "10.0.0.98/24"}
		for i := 1; i <= 3; i++ {
			w.etcd.Put(layout.PlanKey(node(i), "c", "vip"), string(plan.Encode(vipPlan(i, other))))
		}
		after(2 * time.Second)
		expect(t, "another address", fmt.Sprint(w.host(1).host.Addresses().List()), "[10.0.0.98/32]")
		expect(t, "record", w.vipRecord().Address, other.Network)

		// A vanished plan means keep (R6).
		w.etcd.Delete(layout.PlanKey(node(1), "c", "vip"))
		after(time.Minute)
		w.expectHolder(1)

		// Frozen, it follows the leader and nothing else.
		path := w.host(1).freeze(t, "freeze", "")
		w.etcd.Put(layout.PlanKey(node(1), "c", "vip"), string(plan.Encode(vipPlan(1))))
		after(time.Minute)
		w.expectHolder(1)
		thaw(t, path)
		after(10 * time.Second)
		w.expectHolder(0)
	})
}

// TestVIPRemoval: the address is taken down before the removal is called done, and an
// agent that starts again does not follow with it.
func TestVIPRemoval(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		for i := 1; i <= 3; i++ {
			w.etcd.Put(layout.PlanKey(node(i), "c", "vip"), string(plan.Encode(plan.Removes(vipPlan(i, vipAddress), plan.Removal{Whole: true}))))
		}
		after(5 * time.Second)
		w.expectHolder(0)
		for i := 1; i <= 3; i++ {
			expect(t, node(i), applied(t, w.report(i, "vip")).Reason, observed.Removed)
		}
	})
}

func TestFrozenVIPFollows(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		w.host(1).freeze(t, "freeze", "")
		w.host(2).freeze(t, "freeze", "")
		w.move(1, 2)
		w.host(2).host.SetPostgres(writable(2))
		after(100 * time.Millisecond)
		w.expectHolder(2)
	})
}

func TestAnotherMachineUnderOurName(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		w.etcd.Put(layout.AliveKey("pg1"), `{"schema":1,"node":"pg1","machine_id":"another"}`)
		after(30 * time.Second)
		w.expectHolder(0)
		expect(t, "record is not touched", w.vipRecord().State, observed.VIPHeld)
	})
}

func TestDriverRefuses(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		w.host(1).host.Addresses().Fail(&plan.Refusal{Reason: observed.NoInterface, Message: "no interface has 10.0.0.0/24"})
		after(10 * time.Second)
		w.expectHolder(0)
		c, _ := w.report(1, "vip").Condition(observed.Healthy)
		expect(t, "reason", c.Reason, observed.NoInterface)
		w.host(1).host.Addresses().Fail(nil)
		after(2 * time.Second)
		w.expectHolder(1)
		if _, ok := w.report(1, "vip").Condition(observed.Healthy); ok {
			t.Error("still unwell")
		}
	})
}

// TestReleaseIsRepeated: a release that etcd did not get is written when it can be.
func TestReleaseIsRepeated(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		w.host(1).host.SetPostgres(recovering())
		w.etcd.Cut(node(1))
		after(8 * time.Second)
		w.expectHolder(0)
		expect(t, "record", w.vipRecord().State, observed.VIPHeld)
		w.etcd.Heal(node(1))
		after(15 * time.Second)
		expect(t, "record", w.vipRecord().State, observed.VIPReleased)
	})
}

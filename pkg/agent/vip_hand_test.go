package agent_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func (w *vipWorld) byHand(i int, act plan.HandAct, d time.Duration, knowing bool) (agent.Held, error) {
	return w.host(i).Hold(w.t.Context(), agent.Hold{Override: agent.Override{
		Kind: agent.OverrideVIP, Cluster: "c", Act: act, For: d, By: "root", Knowing: knowing,
	}})
}

// away cuts every node from etcd, and has the local Patroni of pg1 say no, as one that
// gave up its lock: nothing proves any more that m1 leads.
func (w *vipWorld) away() {
	for i := 1; i <= 3; i++ {
		w.etcd.Cut(node(i))
	}
	w.host(1).host.SetPatroni(func() (bool, error) { return false, nil })
	after(35 * time.Second)
	w.expectHolder(0)
}

// TestVIPDroppedByHand: at once, without another holder, reported, and ended by itself.
func TestVIPDroppedByHand(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		held, err := w.byHand(1, plan.HandDrop, 10*time.Minute, false)
		if err != nil {
			t.Fatal(err)
		}
		mentions(t, "warning", held.Warning, "no node has 10.0.0.99/24 until another member leads")
		after(time.Second)
		w.expectHolder(0)
		expect(t, "record", w.vipRecord().State, observed.VIPReleased)
		r := w.report(1, "vip")
		expect(t, "reported", reasonIn(r, observed.Overridden), true)
		expect(t, "nothing is wrong", r.Done(r.Plan), true)
		st := w.host(1).Status()
		expect(t, "in status", len(st.Overrides), 1)
		expect(t, "because", st.Clusters[0].VIP.Because, "dropped by hand")
		after(10 * time.Second) // reports of the move settle
		rev := w.etcd.Revision()
		after(9 * time.Minute)
		expect(t, "quiet while held", w.etcd.Revision(), rev)
		w.expectHolder(0)
		after(time.Minute)
		w.expectHolder(1)
		after(time.Second)
		expect(t, "in the report", reasonIn(w.report(1, "vip"), observed.Overridden), false)
		mentions(t, "logged", w.logs.String(), "held by hand", "virtual address of c kept off this node", "its time is over")
	})
}

// TestVIPDroppedByHandMoves: whoever leads next takes it.
func TestVIPDroppedByHandMoves(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		if _, err := w.byHand(1, plan.HandDrop, time.Hour, false); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		w.move(1, 2)
		w.host(2).host.SetPostgres(writable(2))
		after(100 * time.Millisecond)
		w.expectHolder(2)
	})
}

// TestVIPTakenByHandWithoutEtcd: by somebody who says so, while PostgreSQL here takes
// writes, over a start of the agent, and until its time is over.
func TestVIPTakenByHandWithoutEtcd(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		w.away()
		if _, err := w.byHand(1, plan.HandTake, time.Minute, false); !errors.Is(err, agent.ErrUnknown) || !strings.Contains(err.Error(), "etcd said last 35s ago that m1 led") {
			t.Fatalf("taken without a word: %v", err)
		}
		if _, err := w.byHand(2, plan.HandTake, time.Minute, true); !errors.Is(err, agent.ErrOverride) || !strings.Contains(err.Error(), "in recovery") {
			t.Fatalf("taken to a replica: %v", err)
		}
		after(2 * time.Second)
		w.expectHolder(0)
		held, err := w.byHand(1, plan.HandTake, 5*time.Minute, true)
		if err != nil {
			t.Fatal(err)
		}
		mentions(t, "warning", held.Warning, "another node may take it as soon as it reaches etcd and leads")
		after(time.Second)
		w.expectHolder(1)
		for range 20 {
			after(time.Second)
			w.expectHolder(1)
		}
		old := w.host(1)
		old.stop()
		after(time.Second)
		w.startOn(1, old.dir, old.host)
		for range 60 {
			after(time.Second)
			w.expectHolder(1)
		}
		expect(t, "because", w.host(1).Status().Clusters[0].VIP.Because, "taken by hand")
		w.host(1).host.SetPostgres(recovering())
		after(time.Second)
		w.expectHolder(0)
		w.host(1).host.SetPostgres(writable(1))
		after(2 * time.Second)
		w.expectHolder(1)
		after(4 * time.Minute)
		w.expectHolder(0) // its time is over, and nothing proves it
	})
}

// TestVIPTakenByHandMakesNoSecondHolder: what the network or etcd says of another one
// refuses it, and ends it.
func TestVIPTakenByHandMakesNoSecondHolder(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		if _, err := w.byHand(2, plan.HandTake, time.Minute, true); !errors.Is(err, agent.ErrOverride) || !strings.Contains(err.Error(), "m1 leads") {
			t.Fatalf("taken while another leads: %v", err)
		}
		w.away()
		other := net.HardwareAddr{2, 0, 0, 0, 0, 7}
		w.host(1).host.Addresses().SetOthers(other)
		if _, err := w.byHand(1, plan.HandTake, time.Hour, true); !errors.Is(err, agent.ErrOverride) || !strings.Contains(err.Error(), other.String()) {
			t.Fatalf("taken while another answers: %v", err)
		}
		w.host(1).host.Addresses().SetOthers()
		if _, err := w.byHand(1, plan.HandTake, time.Hour, true); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		w.expectHolder(1)
		w.host(1).host.Addresses().SetOthers(other)
		after(2 * time.Second)
		w.expectHolder(0)
		expect(t, "it is over", len(w.host(1).Status().Overrides), 0)
		w.host(1).host.Addresses().SetOthers()
		after(time.Minute)
		w.expectHolder(0)

		if _, err := w.byHand(1, plan.HandTake, time.Hour, true); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		w.expectHolder(1)
		w.lead(2)
		for i := 1; i <= 3; i++ {
			w.etcd.Heal(node(i))
		}
		after(20 * time.Second)
		w.expectHolder(0)
		expect(t, "etcd ended it", len(w.host(1).Status().Overrides), 0)
		mentions(t, "logged", w.logs.String(), "m2 leads")
	})
}

// TestVIPTakenByHandWithEtcd: with no leader it is claimed in etcd before it is taken,
// and what was said without etcd counts no more once etcd is back.
func TestVIPTakenByHandWithEtcd(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		w.host(1).host.SetPatroni(func() (bool, error) { return false, nil })
		w.etcd.Delete(layout.Leader("c"))
		after(10 * time.Second)
		w.expectHolder(0)
		expect(t, "record", w.vipRecord().State, observed.VIPReleased)
		if _, err := w.byHand(1, plan.HandTake, time.Hour, true); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		w.expectHolder(1)
		expect(t, "claimed", w.vipRecord().State+" by "+w.vipRecord().Node, "held by pg1")
		expect(t, "reported", reasonIn(w.report(1, "vip"), observed.Overridden), true)
		for i := 1; i <= 3; i++ {
			w.etcd.Cut(node(i))
		}
		after(10 * time.Second)
		w.expectHolder(0)
	})
}

func TestVIPThatCannotBeHeld(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		if _, err := w.byHand(1, "keep", time.Minute, false); !errors.Is(err, agent.ErrOverride) {
			t.Errorf("an unknown act: %v", err)
		}
		for i := 1; i <= 3; i++ {
			w.etcd.Put(layout.PlanKey(node(i), "c", "vip"), string(plan.Encode(vipPlan(i))))
		}
		after(5 * time.Second)
		if _, err := w.byHand(1, plan.HandDrop, time.Minute, false); !errors.Is(err, agent.ErrOverride) {
			t.Errorf("no address: %v", err)
		}
	})
}

// TestRecordsWrittenAgain: a record with the same bytes at another revision, as an agent's or a
// person's second write leaves it, is what the next write is guarded by: it keeps no new leader
// from being confirmed, nor the address from it.
func TestRecordsWrittenAgain(t *testing.T) {
	withVIP(t, func(t *testing.T, w *vipWorld) {
		for _, key := range []string{layout.PrimaryKey("c"), layout.VIPKey("c")} {
			value, _, there := w.etcd.Get(key)
			expect(t, key, there, true)
			w.etcd.Put(key, value)
		}
		after(time.Second)
		w.move(1, 2)
		w.host(2).host.SetPostgres(writable(2))
		after(100 * time.Millisecond)
		p, _ := w.primary()
		expect(t, "primary", p.Member, "m2")
		w.expectHolder(2)
	})
}

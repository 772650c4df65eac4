package plan_test

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// vip is what node n1 with member a knows; its methods read as what happened. All
// begins at t0, and the last word of every test is said at now.
type vip struct {
	plan.Holding
	now time.Time
	rev int64
}

// onA is a settled n1: a leads since a minute under lease 7, is confirmed, takes
// writes, and has the address by the record and on the host.
func onA() *vip {
	v := &vip{now: t0, rev: 100}
	v.Node, v.Member, v.Address = "n1", "a", "10.0.0.9/24"
	v.View.Known, v.View.Store, v.View.UID = true, "S", "U"
	v.Began = t0.Add(-time.Hour)
	v.leads("a").confirmed("a").held("n1")
	v.View.Leader.Since, v.LeaderAt = t0.Add(-time.Minute), t0.Add(-time.Minute)
	v.View.Last = v.View.Leader
	v.OnHost = true
	return v.after(0).writes().leaseLeft(30 * time.Second).patroniYes()
}

// newA is n1 when a has just begun to lead after b, whose node n2 has the address.
func newA() *vip {
	v := onA()
	v.OnHost = false
	v.leads("b").confirmed("b").held("n2").leads("a")
	v.Local = plan.LocalProof{At: v.now, InRecovery: true}
	return v.leaseLeft(30 * time.Second)
}

func (v *vip) leads(m string) *vip {
	v.rev += 10
	v.View.Observe(m, plan.Epoch(v.rev), v.rev, v.now)
	v.LeaderAt = v.now
	return v
}

func (v *vip) confirmed(m string) *vip {
	v.rev++
	v.View.ObservePrimary(observed.Primary{Member: m, Epoch: int64(v.View.Leader.Epoch), Sequence: v.rev, Writable: true})
	return v
}

func (v *vip) record(node, state string) *vip {
	v.Record = &observed.VIP{Address: "10.0.0.9/24", Node: node, Epoch: int64(v.View.Leader.Epoch), State: state, Store: "S", UID: "U"}
	v.HolderGoneAt = time.Time{}
	return v
}

func (v *vip) held(node string) *vip     { return v.record(node, observed.VIPHeld) }
func (v *vip) released(node string) *vip { return v.record(node, observed.VIPReleased) }

// after lets time pass in which etcd answers; blind, in which it does not.
func (v *vip) after(d time.Duration) *vip {
	v.blind(d)
	v.View.FreshAt = v.now
	return v
}

func (v *vip) blind(d time.Duration) *vip { v.now = v.now.Add(d); return v }

func (v *vip) writes() *vip {
	v.Local = plan.LocalProof{At: v.now, WritableAt: v.now, Writable: true}
	return v
}

func (v *vip) recovers() *vip {
	v.Local.At, v.Local.Writable, v.Local.InRecovery = v.now, false, true
	return v
}

func (v *vip) silent() *vip {
	v.Local.At, v.Local.Writable, v.Local.InRecovery = v.now, false, false
	return v
}

func (v *vip) leaseLeft(d time.Duration) *vip {
	v.Lease = plan.LeaseReading{Lease: v.View.Leader.Lease, AskedAt: v.now, Left: d}
	return v
}

func (v *vip) patroniYes() *vip {
	v.Patroni = plan.PatroniReading{YesAt: v.now}
	return v
}

func (v *vip) patroniNo() *vip { v.Patroni.NoAt = v.now; return v }

func (v *vip) off() *vip { v.OnHost = false; return v }

func (v *vip) with(f func(*vip)) *vip { f(v); return v }

// says is the decision in words.
func (v *vip) says() string {
	d := plan.Hold(v.Holding, v.now)
	out := ""
	for _, w := range []struct {
		on   bool
		word string
	}{{d.Keep, "keep"}, {d.Acquire, "acquire"}, {d.Drop, "drop"}, {d.WriteHeld, "held"}, {d.WriteReleased, "released"}} {
		if w.on {
			out += " " + w.word
		}
	}
	if out == "" {
		return "-"
	}
	return out[1:]
}

const (
	second = time.Second
	ms     = time.Millisecond
)

// TestHold has a line for each sentence of the protocol (ROLES section 4).
func TestHold(t *testing.T) {
	paused := func(v *vip) { v.View.Paused = true }
	for _, tc := range []struct {
		name string
		v    *vip
		want string
	}{
		{"a settled holder keeps", onA(), "keep"},

		// Release comes first.
		{"the leader key names another: drop, and say so", onA().leads("b"), "drop released"},
		{"however fresh the local proof is", onA().leads("b").writes().patroniYes().leaseLeft(30 * second), "drop released"},
		{"and once it is off the host, only say so", onA().leads("b").off(), "released"},
		{"it is said once", onA().leads("b").off().released("n1"), "-"},
		{"its PostgreSQL enters recovery", onA().recovers(), "drop released"},
		{"its PostgreSQL is silent for a moment", onA().after(2900 * ms).silent().patroniYes(), "keep"},
		{"its PostgreSQL has stopped", onA().after(3100 * ms).silent().patroniYes(), "drop released"},
		{"on DEL of the leader key alone nothing moves", onA().leads("").after(500 * ms).writes().patroniYes(), "keep"},
		{"DEL, and PostgreSQL stops", onA().leads("").after(3100 * ms).silent().patroniYes(), "drop released"},
		{"the same leader re-stamped keeps, and the record follows", onA().leads("a").leaseLeft(30 * second), "keep held"},

		// The new leader claims while it is promoted, and adds when it is confirmed.
		{"the other has not released", newA(), "-"},
		{"nor is it added on confirmation then", newA().confirmed("a").writes(), "-"},
		{"released: claimed before PostgreSQL takes writes", newA().released("n2"), "held"},
		{"claimed: not before it takes writes", newA().held("n1"), "-"},
		{"claimed: not before it is confirmed", newA().held("n1").writes(), "-"},
		{"claimed and confirmed: added, and nothing is written first", newA().held("n1").confirmed("a").writes(), "acquire"},
		{"released is not enough to add, the claim is", newA().released("n2").confirmed("a").writes(), "held"},
		{"the holder's node is gone for as long as the address lives", newA().with(func(v *vip) { v.HolderGoneAt = v.now }).after(5001 * ms), "held"},
		{"not sooner", newA().with(func(v *vip) { v.HolderGoneAt = v.now }).after(4900 * ms), "-"},
		{"lifetime + 1 s since the leader key changed", newA().after(6 * second), "held"},
		{"not sooner", newA().after(5900 * ms), "-"},
		{"no record: as if anybody might have it", newA().with(func(v *vip) { v.Record = nil }).after(5900 * ms), "-"},
		{"no record: for so long", newA().with(func(v *vip) { v.Record = nil }).after(6 * second), "held"},
		{"a record of another etcd is not believed", newA().released("n2").with(func(v *vip) { v.Record.Store = "T" }), "-"},
		{"a record of an earlier cluster of this name is not believed", newA().held("n1").confirmed("a").writes().with(func(v *vip) { v.Record.UID = "old" }), "-"},
		{"a promotion that takes long gives nothing up", newA().held("n1").after(2 * second).recovers(), "-"},
		{"leadership lost before it was added", newA().held("n1").leads("b"), "released"},
		{"it does not claim what it does not lead", newA().released("n2").leads("b"), "-"},
		{"nor from a stale view", newA().released("n2").blind(3100 * ms), "-"},
		{"nor as an impostor", newA().released("n2").with(func(v *vip) { v.Impostor = "two of a name" }), "-"},
		{"nor in a standby cluster", newA().released("n2").with(func(v *vip) { v.View.StandbyCluster = true }), "-"},

		// Acquire needs fresh proof from etcd and the local instant check.
		{"off the host, all proven", onA().off(), "acquire"},
		{"etcd not fresh", onA().off().blind(3100 * ms).writes().patroniYes(), "-"},
		{"etcd fresh, the lease not seen to last", onA().off().leaseLeft(4 * second), "-"},
		{"a reading of another lease", onA().off().with(func(v *vip) { v.Lease.Lease = 1 }), "-"},
		{"a reading from before another led", onA().leads("b").leads("a").confirmed("a").held("n1").with(func(v *vip) {
			v.Lease.Lease, v.Lease.AskedAt = v.View.Leader.Lease, v.now.Add(-ms)
		}).off(), "-"},
		{"PostgreSQL asked before this leadership", onA().leads("a").leaseLeft(30 * second).with(func(v *vip) { v.Local.At = v.now.Add(-ms) }).off(), "held"},
		{"PostgreSQL asked too long ago", onA().off().after(1001 * ms).patroniYes(), "-"},
		{"an etcd that went back names last week's leader", onA().off().with(func(v *vip) { v.Back = true }), "-"},
		{"another machine has our name", onA().off().with(func(v *vip) { v.Usurped = true }), "-"},

		// Keep needs one proof.
		{"etcd away: the lease's reading is worth its seconds - 5", onA().blind(24900 * ms).writes(), "keep"},
		{"not longer; for a second the kernel decides", onA().blind(25100 * ms).writes(), "-"},
		{"then it goes", onA().blind(26100 * ms).writes(), "drop released"},
		{"it counts from when it was asked", onA().leaseLeft(10 * second).blind(5100 * ms).writes(), "-"},
		{"etcd away, Patroni says 200", onA().blind(time.Minute).writes().patroniYes(), "keep"},
		{"a 200 is worth the moment", onA().blind(time.Minute).writes().patroniYes().blind(1100 * ms).writes(), "-"},
		{"silence drops after 1 s", onA().blind(time.Minute).writes().patroniYes().blind(2100 * ms).writes(), "drop released"},
		{"unless a reading covers it", onA().blind(10 * second).writes(), "keep"},
		{"503 drops", onA().patroniNo().after(250 * ms).writes(), "drop released"},
		{"although the lease lasts; but not for 0.14 s on a thaw", onA().patroniNo().after(140 * ms).writes(), "keep"},
		{"503 of one time with etcd away", onA().blind(time.Minute).writes().patroniYes().patroniNo().blind(300 * ms).writes(), "drop released"},
		{"DEL voids the reading", onA().leads("").after(2200 * ms).writes(), "drop released"},
		{"a new agent has a second to find proof", onA().with(func(v *vip) {
			v.Patroni, v.Lease, v.Began, v.Local = plan.PatroniReading{}, plan.LeaseReading{}, v.now, plan.LocalProof{}
		}).after(900 * ms), "-"},
		{"a new agent without etcd keeps what Patroni proves", onA().with(func(v *vip) { v.View, v.Lease, v.Record = plan.View{}, plan.LeaseReading{}, nil }), "keep"},
		{"an etcd gone back: kept by local proof", onA().with(func(v *vip) { v.Back = true }).leads("b"), "keep"},

		// A step of the wall clock voids all proof until etcd is read again.
		{"clock stepped, etcd read since", onA().with(func(v *vip) { v.SteppedAt = v.now }).after(10 * ms).leaseLeft(20 * second), "keep"},
		{"clock stepped, nothing read since", onA().with(func(v *vip) { v.SteppedAt = v.now }).blind(500 * ms).writes().patroniYes(), "-"},
		{"for a second", onA().with(func(v *vip) { v.SteppedAt = v.now }).blind(1001 * ms).writes().patroniYes(), "drop released"},
		{"a reading from before is void", onA().after(ms).with(func(v *vip) { v.SteppedAt = v.now; v.Patroni = plan.PatroniReading{} }).after(1002 * ms).writes(), "drop released"},
		{"nothing is acquired with it", onA().off().with(func(v *vip) { v.SteppedAt = v.now }), "-"},

		// Patroni's pause (ROLES section 6).
		{"paused, Patroni stopped, leader key expired", onA().with(paused).leads("").after(time.Minute).writes(), "keep"},
		{"paused, Patroni has lost its lock", onA().with(paused).leads("").patroniNo().after(time.Minute).writes(), "keep"},
		{"paused, and etcd names another", onA().with(paused).leads("b"), "drop released"},
		{"paused, and PostgreSQL stops", onA().with(paused).after(3100 * ms).silent(), "drop released"},
		{"paused: nothing is acquired without proof", onA().with(paused).leads("").off().after(time.Minute).writes(), "-"},

		// By hand (R9).
		{"added by hand on a replica", onA().leads("b").confirmed("b").held("n2"), "drop"},
		{"added by hand before the other released", newA().confirmed("a").writes().with(func(v *vip) { v.OnHost = true }), "drop"},
		{"removed by hand on the holder", onA().off(), "acquire"},
		{"the record deleted by hand: kept, and written again", onA().with(func(v *vip) { v.Record = nil }), "keep held"},
		{"another address than the record has", onA().with(func(v *vip) { v.Address = "10.0.0.8/24" }), "keep held"},

		// Two agents under one name.
		{"the name is another machine's: drop, write nothing", onA().with(func(v *vip) { v.Usurped = true }), "drop"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.v.says(); got != tc.want {
				t.Errorf("says %q, want %q: %s", got, tc.want, plan.Hold(tc.v.Holding, tc.v.now).Because)
			}
		})
	}
}

func TestAnnouncementsAreRepeated(t *testing.T) {
	v := onA()
	v.AddedAt = v.now
	start := v.now
	var at []time.Duration
	for range 20 {
		d := plan.Hold(v.Holding, v.now)
		if d.Announce {
			at = append(at, v.now.Sub(start))
			v.Announced++
		}
		v.after(d.After).writes().patroniYes()
	}
	want := []time.Duration{0, 100 * ms, 500 * ms, second, 2 * second}
	if len(at) != len(want) {
		t.Fatalf("announced at %v, want %v", at, want)
	}
	for i := range want {
		if at[i] != want[i] {
			t.Errorf("announced at %v, want %v", at, want)
		}
	}
}

// TestWhyItIsNotHere: a confirmed leader without its address says what it waits for.
func TestWhyItIsNotHere(t *testing.T) {
	d := plan.Hold(newA().confirmed("a").writes().Holding, t0)
	if d.Why == nil || d.Why.Reason != observed.AddressNotHeld || d.After > 6*second {
		t.Errorf("decision %+v", d)
	}
	if d := plan.Hold(onA().leads("b").confirmed("b").off().Holding, t0); d.Why != nil {
		t.Errorf("a replica has nothing to explain: %v", d.Why)
	}
}

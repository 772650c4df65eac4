package plan_test

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

func (v *vip) takes() *vip   { v.Hand = plan.Hand{Act: plan.HandTake}; return v }
func (v *vip) knowing() *vip { v.Hand = plan.Hand{Act: plan.HandTake, Knowing: true}; return v }
func (v *vip) drops() *vip   { v.Hand = plan.Hand{Act: plan.HandDrop}; return v }

// asked is the network's answer of this moment.
func (v *vip) asked(others string) *vip {
	v.Others = plan.NetworkReading{AskedAt: v.now, Others: others}
	return v
}

// alone is n1 after etcd has been away for a minute; nobody has the address here, and
// Patroni is stopped.
func alone() *vip { return onA().off().blind(time.Minute).writes() }

// TestHoldByHand has a line for each sentence of plan.Hand.
func TestHoldByHand(t *testing.T) {
	noLeader := func() *vip { return onA().off().leads("").after(time.Minute).writes() }
	for _, tc := range []struct {
		name string
		v    *vip
		want string
	}{
		{"drop outranks every proof", onA().drops(), "drop released"},
		{"drop needs none", onA().blind(time.Hour).patroniYes().drops(), "drop released"},
		{"what is dropped is not taken again", onA().off().released("n1").drops(), "-"},
		{"nor claimed during a promotion", newA().released("n2").drops(), "-"},
		{"it is given up during a promotion", newA().held("n1").drops(), "released"},

		{"without a word nothing is taken without etcd", alone().asked(""), "-"},
		{"nor with one that was not said knowingly", alone().asked("").takes(), "-"},
		{"said knowingly it is", alone().asked("").knowing(), "acquire"},
		{"not before the network was asked", alone().knowing(), "-"},
		{"its answer counts a second", alone().asked("").blind(1001 * ms).writes().knowing(), "-"},
		{"not when somebody else has it", alone().asked("02:00:00:00:00:07").knowing(), "released"},
		{"kept, with nothing that proves it", alone().asked("").knowing().with(func(v *vip) { v.OnHost = true }), "keep"},
		{"until somebody else has it", alone().asked("02:00:00:00:00:07").knowing().with(func(v *vip) { v.OnHost = true }), "drop released"},
		{"PostgreSQL in recovery", alone().asked("").recovers().knowing(), "released"},
		{"PostgreSQL does not answer", alone().asked("").silent().knowing(), "-"},
		{"PostgreSQL asked too long ago", alone().blind(1001 * ms).asked("").knowing(), "-"},
		{"kept while PostgreSQL takes writes", alone().asked("").knowing().recovers().with(func(v *vip) { v.OnHost = true }), "drop released"},
		{"what etcd said before it went away refuses nothing", onA().leads("b").off().held("n2").blind(time.Minute).writes().asked("").knowing(), "acquire"},
		{"Patroni's no is outranked", alone().asked("").patroniNo().blind(500 * ms).asked("").writes().knowing(), "acquire"},
		{"an etcd that went back in time is none", alone().asked("").knowing().with(func(v *vip) { v.Back = true; v.View.FreshAt = v.now }), "acquire"},
		{"a new agent asks etcd first", alone().asked("").knowing().with(func(v *vip) { v.Began = v.now.Add(-2900 * ms) }), "-"},
		{"another machine has our name", alone().asked("").knowing().with(func(v *vip) { v.Usurped = true }), "-"},

		{"a fresh view that names another leader", onA().off().leads("b").writes().takes(), "released"},
		{"however knowingly", onA().off().leads("b").writes().asked("").knowing(), "released"},
		{"a fresh view with another holder", noLeader().held("n2").takes(), "-"},
		{"although its node is long gone", noLeader().held("n2").with(func(v *vip) { v.HolderGoneAt = v.now.Add(-time.Hour) }).takes(), "-"},
		{"no leader, released: claimed first", noLeader().released("n2").takes(), "held"},
		{"claimed: taken", noLeader().held("n1").takes(), "acquire"},
		{"no leader, no record: as if anybody might have it", onA().off().leads("").after(5900 * ms).writes().takes().with(func(v *vip) { v.Record = nil }), "-"},
		{"for so long", onA().off().leads("").after(6 * second).writes().takes().with(func(v *vip) { v.Record = nil }), "held"},
		{"etcd goes away again: what was said with it counts no more", onA().takes().blind(26100 * ms).writes(), "drop released"},
		{"this member leads, Patroni and the lease prove nothing", onA().off().patroniNo().leaseLeft(0).takes(), "acquire"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.v.says(); got != tc.want {
				t.Errorf("says %q, want %q: %s", got, tc.want, plan.Hold(tc.v.Holding, tc.v.now).Because)
			}
		})
	}
}

// TestHandOver: a person's word ends when another has the address, and one that was
// said without etcd when etcd can be asked.
func TestHandOver(t *testing.T) {
	for _, tc := range []struct {
		name           string
		v              *vip
		over, etcdBack bool
	}{
		{"alone", alone().asked("").knowing(), false, false},
		{"PostgreSQL restarts", alone().asked("").silent().knowing(), false, false},
		{"somebody answers", alone().asked("02:00:00:00:00:07").knowing(), true, false},
		{"somebody answered once", alone().asked("02:00:00:00:00:07").blind(2001 * ms).writes().knowing(), false, false},
		{"etcd is back", alone().asked("").knowing().after(0), false, true},
		{"and names another", alone().leads("b").after(0).knowing(), true, true},
		{"nothing is held by hand", onA().leads("b"), false, false},
	} {
		d := plan.Hold(tc.v.Holding, tc.v.now)
		if d.HandOver != tc.over || d.EtcdBack != tc.etcdBack {
			t.Errorf("%s: over %v, etcd back %v (%s)", tc.name, d.HandOver, d.EtcdBack, d.Because)
		}
	}
}

func TestRefuseTake(t *testing.T) {
	for _, tc := range []struct {
		name    string
		v       *vip
		refused bool
		knowing bool
	}{
		{"fresh, leading", onA(), false, false},
		{"fresh, another leads", onA().leads("b").writes(), true, false},
		{"fresh, another has it", onA().leads("").held("n2"), true, false},
		{"in recovery", onA().recovers(), true, false},
		{"etcd away", alone(), true, true},
		{"etcd away, said knowingly", alone().knowing(), false, false},
		{"etcd away, somebody answers", alone().asked("02:00:00:00:00:07").knowing(), true, false},
		{"etcd away, in recovery", alone().recovers(), true, false},
	} {
		why, knowing := tc.v.RefuseTake(tc.v.now)
		if (why != "") != tc.refused || knowing != tc.knowing {
			t.Errorf("%s: %q, knowing %v", tc.name, why, knowing)
		}
	}
}

// TestTakenWithoutEtcdAsksTheNetwork again and again, also once it has the address.
func TestTakenWithoutEtcdAsksTheNetwork(t *testing.T) {
	v := alone().knowing()
	if d := plan.Hold(v.Holding, v.now); !d.AskNetwork || d.After > second {
		t.Errorf("%+v", d)
	}
	v.asked("").OnHost = true
	if d := plan.Hold(v.Holding, v.now); d.AskNetwork {
		t.Errorf("asked just now: %+v", d)
	}
	v.blind(second).writes()
	if d := plan.Hold(v.Holding, v.now); !d.AskNetwork || !d.Keep {
		t.Errorf("a second later: %+v", d)
	}
	if d := plan.Hold(onA().takes().Holding, t0); d.AskNetwork {
		t.Error("with etcd the record says who has it")
	}
}

package status_test

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/all"
	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
)

// withAddress is a healthy cluster whose virtual address is on the given node.
func withAddress(t testing.TB, on string, conds ...observed.Condition) *kv.Map {
	t.Helper()
	m := healthy(t)
	controllertest.Put(m, docs+"vip", "address: 10.10.10.9/24")
	settle(t, m)
	for _, n := range nodes {
		e, ok := m.Get(keys.Default.PlanKey(n, "pg-test", "vip"))
		if !ok {
			t.Fatalf("%s has no plan", n)
		}
		r := observed.Report{Schema: 1, Concern: "vip", Plan: e.ModRevision, Loaded: "x", Facts: map[string]string{},
			Conditions: append([]observed.Condition{{Type: observed.Applied, Status: observed.True}}, conds...)}
		if n == on {
			r.Facts[observed.FactVIP] = observed.VIPHeld
		}
		controllertest.Put(m, keys.Default.ObservedKey(n, "pg-test", "vip"), string(observed.Encode(r)))
	}
	return m
}

func TestVIP(t *testing.T) {
	for name, c := range map[string]struct {
		m      *kv.Map
		member string
		reason observed.Reason
	}{
		"on the primary's node": {withAddress(t, "pg1"), "pg-test-1", ""},
		"nowhere":               {withAddress(t, ""), "", observed.AddressNotHeld},
		"elsewhere":             {withAddress(t, "pg2"), "pg-test-2", observed.AddressNotHeld},
		"nowhere, and the agent says why": {withAddress(t, "", observed.Condition{
			Type: observed.Healthy, Status: observed.False, Reason: observed.NoInterface, Message: "m"}), "", observed.NoInterface},
	} {
		s := status.Compute(status.Input{Snapshot: c.m, Layout: keys.Default, Cluster: "pg-test", Concerns: all.Concerns()})
		if s.VIP == nil || s.VIP.Address != "10.10.10.9" || s.VIP.Member != c.member {
			t.Errorf("%s: %+v", name, s.VIP)
		}
		for _, m := range s.Members {
			if (m.VIP != "") != (m.Name == c.member) {
				t.Errorf("%s: member %+v", name, m)
			}
		}
		if s.Ready != (c.reason == "") {
			t.Errorf("%s: ready %v, %v", name, s.Ready, s.Conditions)
		}
		for _, cond := range s.Conditions {
			if cond.Blocking() && cond.Reason != c.reason {
				t.Errorf("%s: %v, want only %s", name, cond, c.reason)
			}
		}
	}
	if s := status.Compute(status.Input{Snapshot: healthy(t), Layout: keys.Default, Cluster: "pg-test", Concerns: all.Concerns()}); s.VIP != nil {
		t.Errorf("without an address: %+v", s.VIP)
	}
}

// TestVIPByHand: what a person holds is said once, keeps nothing from being Ready, and
// is why the address is nowhere.
func TestVIPByHand(t *testing.T) {
	m := withAddress(t, "")
	key := keys.Default.ObservedKey("pg1", "pg-test", "vip")
	e, _ := m.Get(key)
	r, _ := observed.Decode[observed.Report](e)
	r.Conditions = append(r.Conditions, observed.Condition{
		Type: observed.Healthy, Status: observed.True, Reason: observed.Overridden, Message: "kept off this node", Next: "pgagent vip drop pg-test --off (on pg1)",
	})
	controllertest.Put(m, key, string(observed.Encode(r)))
	s := status.Compute(status.Input{Snapshot: m, Layout: keys.Default, Cluster: "pg-test", Concerns: all.Concerns()})
	if !s.Ready || len(s.Conditions) == 0 || s.Conditions[0].Reason != observed.Overridden || s.Conditions[0].Node != "pg1" {
		t.Errorf("ready %v: %v", s.Ready, s.Conditions)
	}
}

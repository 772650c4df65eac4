package status_test

import (
	"slices"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/all"
	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
)

func storeReasons(m *kv.Map, h *status.StoreHealth) []observed.Reason {
	var out []observed.Reason
	for _, c := range status.StoreConditions(status.Input{Snapshot: m, Layout: keys.Default, Store: h}) {
		out = append(out, c.Reason)
	}
	return out
}

func TestStoreConditions(t *testing.T) {
	three := status.StoreHealth{Members: 3, Size: 10, Quota: 100}
	with := func(change func(*status.StoreHealth)) *status.StoreHealth {
		h := three
		change(&h)
		return &h
	}
	for name, c := range map[string]struct {
		h    *status.StoreHealth
		want []observed.Reason
	}{
		"well":       {&three, nil},
		"not told":   {with(func(h *status.StoreHealth) { h.Quota = 0 }), nil},
		"one member": {with(func(h *status.StoreHealth) { h.Members = 1 }), []observed.Reason{observed.StoreNotRedundant}},
		"49 %":       {with(func(h *status.StoreHealth) { h.Size = 49 }), nil},
		"50 %":       {with(func(h *status.StoreHealth) { h.Size = 50 }), []observed.Reason{observed.StoreFilling}},
		"full":       {with(func(h *status.StoreHealth) { h.Size, h.NoSpace = 100, true }), []observed.Reason{observed.NoSpace}},
		"corrupt":    {with(func(h *status.StoreHealth) { h.Corrupt = true }), []observed.Reason{observed.StoreCorrupt}},
		"one silent": {with(func(h *status.StoreHealth) { h.Silent = []string{"http://e2"} }), []observed.Reason{observed.NotAnswering}},
	} {
		if got := storeReasons(healthy(t), c.h); !slices.Equal(got, c.want) && (len(got) > 0 || len(c.want) > 0) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestStatusOfARestoredStore: its plans and reports are of another time, so they make
// no cluster Ready, before it is accepted and until the server has planned anew.
func TestStatusOfARestoredStore(t *testing.T) {
	m := healthy(t)
	in := status.Input{Snapshot: m, Layout: keys.Default, Cluster: "pg-test", Concerns: all.Concerns()}
	if st := status.Compute(in); !st.Ready {
		t.Fatalf("before: %s", st.Short())
	}
	rec, _ := observed.Read[observed.Store](m, keys.Default.StoreKey())
	restored := rec
	restored.Incarnation, restored.Restored = "restored", &observed.Restored{Revision: 5}
	controllertest.Put(m, keys.Default.StoreKey(), string(observed.Encode(restored)))
	if st := status.Compute(in); st.Ready || st.Conditions[0].Reason != observed.StoreChanged || st.Conditions[0].Next != "pgctrl etcd accept" {
		t.Errorf("restored: %+v", st.Conditions)
	}
	controllertest.Put(m, keys.Default.StoreKey(), string(observed.Encode(restored.Accept("accepted", rec.Incarnation))))
	if st := status.Compute(in); st.Ready {
		t.Errorf("accepted and not planned: %+v", st.Conditions)
	}
}

// TestAStrangerHoldsUpNobody: one agent that knows another etcd is its node's trouble.
func TestAStrangerHoldsUpNobody(t *testing.T) {
	m := healthy(t)
	controllertest.Put(m, keys.Default.AliveKey("pg9"), string(observed.Encode(observed.Alive{
		Schema: observed.Schema, Node: "pg9", Store: &observed.StoreSeen{Incarnation: "elsewhere", Revision: 7},
	})))
	in := status.Input{Snapshot: m, Layout: keys.Default, Cluster: "pg-test", Concerns: all.Concerns()}
	if st := status.Compute(in); !st.Ready {
		t.Errorf("%s", st.Short())
	}
	if got := storeReasons(m, nil); !slices.Contains(got, observed.StoreChanged) {
		t.Errorf("it is not said: %v", got)
	}
}

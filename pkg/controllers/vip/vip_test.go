package vip

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/controllers/postgres"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const docs = "/pgctrl/desired/clusters/pg-test/"

// formed is a cluster of three members that has formed, without a virtual address.
func formed(t testing.TB) *kv.Map {
	t.Helper()
	m := controllertest.Load(t, "../postgres/testdata/small.txtar")
	controllertest.Settle(t, postgres.New(), m, "pg-test")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-1")
	controllertest.Settle(t, postgres.New(), m, "pg-test")
	return m
}

func settled(t testing.TB, vip string) *kv.Map {
	t.Helper()
	m := formed(t)
	controllertest.Put(m, docs+"vip", vip)
	controllertest.Settle(t, New(), m, "pg-test")
	return m
}

func planOf(t testing.TB, m *kv.Map, node string) (plan.Plan, bool) {
	t.Helper()
	e, ok := m.Get(keys.Default.PlanKey(node, "pg-test", Concern))
	if !ok {
		return plan.Plan{}, false
	}
	p, err := plan.Decode(e.Value)
	if err != nil {
		t.Fatal(err)
	}
	return p, true
}

func TestGolden(t *testing.T) {
	m := settled(t, "address: 10.10.10.9/24")
	controllertest.Deterministic(t, New(), m, "pg-test")
	e, _ := m.Get(keys.Default.PlanKey("pg2", "pg-test", Concern))
	var got bytes.Buffer
	if err := json.Indent(&got, e.Value, "", "  "); err != nil {
		t.Fatal(err)
	}
	uid := strings.Split(strings.Split(got.String(), `"uid": "`)[1], `"`)[0]
	controllertest.Golden(t, "testdata/pg2.json", []byte(strings.ReplaceAll(got.String(), uid, "UID")+"\n"))
}

func TestAddressForms(t *testing.T) {
	for network, want := range map[string]plan.Address{
		"10.10.10.9/24":                    {Address: "10.10.10.9/32", Network: "10.10.10.9/24"},
		"fd10::9/64, interface: eth1":      {Address: "fd10::9/128", Network: "fd10::9/64", Interface: "eth1"},
		"FD10:0::9/64, interface: eth1":    {Address: "fd10::9/128", Network: "fd10::9/64", Interface: "eth1"},
		"10.20.0.9/16, interface: bond0.5": {Address: "10.20.0.9/32", Network: "10.20.0.9/16", Interface: "bond0.5"},
	} {
		p, ok := planOf(t, settled(t, "{address: "+strings.Replace(network, ",", ",", 1)+"}"), "pg1")
		if a, has := plan.AddressOf(p); !ok || !has || a != want {
			t.Errorf("%s: plan %+v", network, p.Resources)
		}
	}
}

func TestOnNodesWhoseMembersCanLead(t *testing.T) {
	m := formed(t)
	controllertest.Put(m, docs+"members/pg-test-3", "node: pg3\noffline: true")
	controllertest.Put(m, docs+"vip", "address: 10.10.10.9/24")
	controllertest.Settle(t, New(), m, "pg-test")
	if _, ok := planOf(t, m, "pg3"); ok {
		t.Error("a member that never leads has a plan")
	}
	// Once it has the plan it keeps it: it may hold the address at this moment.
	controllertest.Put(m, docs+"members/pg-test-2", "node: pg2\nfailover_priority: 0")
	r := controllertest.Run(t, New(), m, "pg-test")
	if len(r.Outputs) != 2 {
		t.Errorf("outputs %v", r.Outputs)
	}
}

func TestOffUntilItHasAnAddress(t *testing.T) {
	r := controllertest.Run(t, New(), formed(t), "pg-test")
	if len(r.Outputs)+len(r.Conditions) > 0 {
		t.Errorf("without a document: %v %v", r.Outputs, r.Conditions)
	}
}

// TestR6DocumentGoneKeepsTheAddress: absence is not deletion, enabled: false is.
func TestR6DocumentGoneKeepsTheAddress(t *testing.T) {
	m := settled(t, "address: 10.10.10.9/24")
	controllertest.Delete(m, docs+"vip")
	r := controllertest.Settle(t, New(), m, "pg-test")
	if len(r.Outputs) != 0 || len(r.Conditions) != 1 || r.Conditions[0].Reason != observed.Unmanaged {
		t.Errorf("document gone: %v %v", r.Outputs, r.Conditions)
	}
	controllertest.Put(m, docs+"vip", "enabled: false")
	r = controllertest.Run(t, New(), m, "pg-test")
	if len(r.Outputs) != 3 {
		t.Fatalf("switched off: %d outputs, %v", len(r.Outputs), r.Conditions)
	}
	controllertest.Apply(m, r)
	p, _ := planOf(t, m, "pg1")
	if _, has := plan.AddressOf(p); has {
		t.Error("switched off, the first plan still has the address")
	}
}

// TestRemoval: an address goes from the node of a member that goes, and with the
// whole cluster; a plan is deleted only when its node has said that it is done.
func TestRemoval(t *testing.T) {
	m := settled(t, "address: 10.10.10.9/24")
	removes := func(node string, whole bool) bool {
		p, ok := planOf(t, m, node)
		return ok && p.Removal != nil && p.Removal.Whole == whole
	}
	answer := func(node string) {
		e, _ := m.Get(keys.Default.PlanKey(node, "pg-test", Concern))
		controllertest.Put(m, keys.Default.ObservedKey(node, "pg-test", Concern), string(observed.Encode(observed.Report{
			Schema: observed.Schema, Concern: Concern, Plan: e.ModRevision,
			Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True, Reason: observed.Removed}},
		})))
	}
	for _, node := range []string{"pg1", "pg2", "pg3"} {
		controllertest.Put(m, keys.Default.AliveKey(node), string(observed.Encode(observed.Alive{Schema: observed.Schema, Node: node})))
	}
	controllertest.Put(m, docs+"members/pg-test-3", "node: pg3\nstate: absent")
	controllertest.Settle(t, New(), m, "pg-test")
	if !removes("pg3", false) || removes("pg1", false) || removes("pg2", false) {
		t.Error("the member that goes keeps its address, or another one loses it")
	}
	answer("pg3")
	controllertest.Settle(t, New(), m, "pg-test")
	if _, ok := planOf(t, m, "pg3"); ok {
		t.Error("what is done is not deleted")
	}
	controllertest.Put(m, docs+"postgres", "state: absent\nconfirm: pg-test")
	for range 3 { // node by node
		controllertest.Settle(t, New(), m, "pg-test")
		for _, node := range []string{"pg1", "pg2"} {
			if removes(node, true) {
				answer(node)
			}
		}
	}
	controllertest.Settle(t, New(), m, "pg-test")
	for _, node := range []string{"pg1", "pg2"} {
		if p, ok := planOf(t, m, node); ok {
			t.Errorf("the cluster goes and %s keeps %+v", node, p)
		}
	}
}

func TestFailoverChangesNoPlan(t *testing.T) {
	m := settled(t, "address: 10.10.10.9/24")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-2")
	if controllertest.Apply(m, controllertest.Run(t, New(), m, "pg-test")) {
		t.Error("a failover changed a plan")
	}
}

func TestR4BadDocumentChangesNothing(t *testing.T) {
	for _, bad := range []struct {
		key, value string
		reason     observed.Reason
	}{
		{docs + "vip", "adress: 10.10.10.9/24", observed.InvalidDocument},
		{docs + "vip", "address: 10.10.10.9", observed.InvalidDocument},
		{docs + "vip", "address: 10.10.10.12/24", observed.InvalidDocument}, // a node's own
		{docs + "vip", "address: 10.99.0.9/24", observed.InvalidDocument},   // no interface is there
		{"/pgctrl/desired/clusters/zzz/vip", "address: 10.10.10.9/24", observed.AddressTaken},
	} {
		m := settled(t, "address: 10.10.10.9/24")
		controllertest.Put(m, "/pgctrl/desired/nodes/far", "address: 10.10.10.99")
		controllertest.Put(m, "/pgctrl/desired/clusters/zzz/members/z", "node: far")
		controllertest.Put(m, bad.key, bad.value)
		r := controllertest.Run(t, New(), m, "pg-test")
		found := false
		for _, c := range r.Conditions {
			found = found || c.Reason == bad.reason && c.Status == observed.False && c.Key != ""
		}
		if len(r.Outputs) != 0 || !found {
			t.Errorf("%s: %q gave %d outputs, conditions %v", bad.key, bad.value, len(r.Outputs), r.Conditions)
		}
	}
}

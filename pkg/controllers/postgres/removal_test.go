package postgres

import (
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/controllers/haproxy"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// removalWorld is a running cluster of three with both controllers; agents answer
// when a test says so.
type removalWorld struct {
	*testing.T
	m *kv.Map
	// order is what agents were told to remove, as "node/concern".
	order []string
}

var both = []controllers.Controller{haproxy.New(), New()}

func newRemovalWorld(t *testing.T) *removalWorld {
	w := &removalWorld{T: t, m: led(t, "small", "pg-test", "pg-test-1")}
	for _, n := range []string{"1", "2", "3"} {
		controllertest.Put(w.m, "/pg/pg-test/members/pg-test-"+n, `{"state":"running","role":"replica"}`)
	}
	controllertest.Put(w.m, "/pg/pg-test/initialize", "7300000000000000001")
	for range 8 {
		w.plan()
		w.answer()
	}
	return w
}

// plan lets both controllers write, once each, and returns their conditions.
func (w *removalWorld) plan() controllers.Result {
	var all controllers.Result
	for _, c := range both {
		r := controllertest.Run(w.T, c, w.m, "pg-test")
		controllertest.Apply(w.m, r)
		all.Conditions = append(all.Conditions, r.Conditions...)
		all.Outputs = append(all.Outputs, r.Outputs...)
	}
	return all
}

// answer lets every agent do what its newest plans say.
func (w *removalWorld) answer() {
	for _, e := range w.m.Range("/pgctrl/plan/") {
		ref, _ := keys.Default.Parse(e.Key)
		p, err := plan.Decode(e.Value)
		if err != nil {
			w.Fatal(err)
		}
		r := observed.Report{Schema: 1, Concern: ref.Concern, Plan: e.ModRevision, Loaded: "abc",
			Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True}}}
		key := keys.Default.ObservedKey(ref.Node, "pg-test", ref.Concern)
		old, _ := observed.Read[observed.Report](w.m, key)
		if p.Removal != nil {
			r.Conditions[0].Reason = observed.Removed
			if old.Plan != e.ModRevision {
				w.order = append(w.order, ref.Node+"/"+ref.Concern)
			}
			if ref.Concern == Concern {
				if e, _ := w.m.Get("/pg/pg-test/leader"); string(e.Value) == p.Cluster.Member {
					controllertest.Delete(w.m, e.Key)
				}
			}
		}
		if old.Plan != e.ModRevision {
			controllertest.Put(w.m, key, string(observed.Encode(r)))
		}
	}
}

func (w *removalWorld) has(key string) bool { _, ok := w.m.Get(key); return ok }

func (w *removalWorld) planOf(node, concern string) *plan.Plan {
	e, ok := w.m.Get(keys.Default.PlanKey(node, "pg-test", concern))
	if !ok {
		return nil
	}
	p, err := plan.Decode(e.Value)
	if err != nil {
		w.Fatal(err)
	}
	return &p
}

// servers are the members in a backend of a node's HAProxy.
func (w *removalWorld) servers(node, backend string) string {
	var out []string
	for _, s := range w.planOf(node, "haproxy").Resources[0].(plan.Unit).Routes[backend].Servers {
		out = append(out, s.Name)
	}
	return strings.Join(out, " ")
}

func TestMemberIsRemovedStepByStep(t *testing.T) {
	w := newRemovalWorld(t)
	controllertest.Put(w.m, docs+"members/pg-test-3", "node: pg3\nstate: absent")
	w.plan()
	r := w.plan()
	expect(t, r, observed.Removing, "pg-test-3 is to be removed; clients are led elsewhere first")
	if w.planOf("pg3", Concern).Removal != nil {
		t.Fatal("it is stopped while clients are led to it")
	}
	for i := 0; w.planOf("pg3", Concern).Removal == nil; i++ {
		if i > 10 {
			t.Fatalf("it never goes: %v", r.Conditions)
		}
		w.answer()
		r = w.plan()
	}
	for _, n := range []string{"pg1", "pg2"} {
		if got := w.servers(n, "replica"); got != "pg-test-1 pg-test-2" {
			t.Errorf("replica backend of %s: %s", n, got)
		}
		if got := w.servers(n, "primary"); got != "pg-test-1 pg-test-2 pg-test-3" {
			t.Errorf("primary backend of %s: %s; until it is stopped it might still come to lead", n, got)
		}
	}
	if p := w.planOf("pg3", Concern); p.Removal.Data != "/var/lib/postgresql/15/pg-test" || p.Removal.Whole || len(p.Resources) != 1 {
		t.Errorf("removal: %+v %v", p.Removal, p.Resources)
	}
	if w.planOf("pg3", "haproxy") != nil && w.planOf("pg3", "haproxy").Removal == nil {
		t.Error("its node's own HAProxy stays")
	}
	w.answer()
	expect(t, w.plan(), observed.Removing, "Patroni's key of it has not expired")
	controllertest.Delete(w.m, "/pg/pg-test/members/pg-test-3")
	for range 6 {
		r = w.plan()
		w.answer()
	}
	if w.has("/pgctrl/plan/pg3/pg-test/postgres") || w.has("/pgctrl/plan/pg3/pg-test/haproxy") {
		t.Error("plans are left")
	}
	if got := w.servers("pg1", "primary"); got != "pg-test-1 pg-test-2" {
		t.Errorf("primary backend: %s", got)
	}
	if got := strings.Join(w.order, " "); got != "pg3/haproxy pg3/postgres" {
		t.Errorf("removed in the order %s", got)
	}
	found := false
	for _, c := range r.Conditions {
		found = found || c.Reason == observed.Removed && c.Status == observed.True && strings.Contains(c.Next, "pgctrl unset pg-test members/pg-test-3")
	}
	if !found || !w.has("/pgctrl/formed/pg-test") {
		t.Errorf("conditions %v", r.Conditions)
	}
	// And it can come back.
	controllertest.Put(w.m, docs+"members/pg-test-3", "node: pg3")
	for range 6 {
		w.plan()
		w.answer()
	}
	if p := w.planOf("pg3", Concern); p == nil || p.Removal != nil {
		t.Error("the member does not come back")
	}
}

// TestR14LeaderIsNotRemoved: whatever a document says, who leads goes on as it is.
func TestR14LeaderIsNotRemoved(t *testing.T) {
	w := newRemovalWorld(t)
	controllertest.Put(w.m, docs+"members/pg-test-1", "node: pg1\nstate: absent")
	before := plan.Hash(w.planOf("pg1", Concern).Resources, nil)
	var r controllers.Result
	for range 6 {
		r = w.plan()
		w.answer()
	}
	c := expect(t, r, observed.Leading, "pg-test-1 is to be removed and leads")
	if !strings.Contains(c.Next, "switchover pg-test") {
		t.Errorf("next: %s", c.Next)
	}
	if plan.Hash(w.planOf("pg1", Concern).Resources, nil) != before || w.planOf("pg1", "haproxy").Removal != nil || len(w.order) > 0 {
		t.Error("the leader was touched")
	}
	controllertest.Delete(w.m, "/pg/pg-test/leader")
	for range 4 {
		r = w.plan()
		w.answer()
	}
	expect(t, r, observed.Removing, "nobody leads")
	if len(w.order) > 0 {
		t.Fatalf("removed without a leader: %v", w.order)
	}
	controllertest.Put(w.m, "/pg/pg-test/leader", "pg-test-2")
	for range 12 {
		w.plan()
		w.answer()
	}
	if got := strings.Join(w.order, " "); got != "pg1/haproxy pg1/postgres" {
		t.Errorf("after the leader moved it removes %s", got)
	}
}

func TestClusterIsRemoved(t *testing.T) {
	w := newRemovalWorld(t)
	controllertest.Put(w.m, docs+"postgres", "state: absent")
	r := w.plan()
	expect(t, r, observed.InvalidDocument, "confirm: expected the cluster's name pg-test")
	for _, n := range []string{"pg1", "pg2", "pg3"} {
		if w.planOf(n, Concern).Removal != nil || w.planOf(n, "haproxy").Removal != nil {
			t.Errorf("without the name typed node %s is told to remove", n)
		}
	}
	controllertest.Put(w.m, docs+"postgres", "state: absent\nconfirm: pg-test")
	for range 20 {
		w.plan()
		w.answer()
	}
	if got := strings.Join(w.order, " "); got != "pg2/haproxy pg3/haproxy pg1/haproxy pg2/postgres pg3/postgres pg1/postgres" {
		t.Errorf("removed in the order %s", got)
	}
	if !w.has("/pgctrl/formed/pg-test") || !w.has("/pgctrl/secrets/pg-test/postgres") {
		t.Error("the record goes before Patroni's keys have expired")
	}
	for _, n := range []string{"1", "2", "3"} {
		controllertest.Delete(w.m, "/pg/pg-test/members/pg-test-"+n)
	}
	for range 4 {
		r = w.plan()
	}
	for _, e := range w.m.Range("/pgctrl/") {
		for _, left := range []string{"/plan/", "/formed/", "/secrets/"} {
			if strings.Contains(e.Key, left) {
				t.Errorf("%s is left", e.Key)
			}
		}
	}
	if !w.has("/pg/pg-test/initialize") {
		t.Error("Patroni's namespace went without a name typed")
	}
	if len(r.Conditions) != 1 || r.Conditions[0].Reason != observed.Removed {
		t.Errorf("conditions %v", r.Conditions)
	}
	for _, c := range both {
		controllertest.Deterministic(t, c, w.m, "pg-test")
	}
}

// TestR6RecordLost: with everything under /pgctrl gone and the documents back, a
// running cluster is not formed anew and gets no new passwords.
func TestR6RecordLost(t *testing.T) {
	w := newRemovalWorld(t)
	controllertest.Delete(w.m, "/pgctrl/formed/pg-test")
	for _, e := range w.m.Range("/pgctrl/plan/") {
		controllertest.Delete(w.m, e.Key)
	}
	secret, _ := w.m.Get("/pgctrl/secrets/pg-test/postgres")
	controllertest.Delete(w.m, secret.Key)
	r := controllertest.Run(t, New(), w.m, "pg-test")
	expect(t, r, observed.RecordLost, "record of how it formed is gone")
	if len(r.Outputs) > 0 {
		t.Errorf("outputs %s", keysOf(r))
	}
	for _, n := range []string{"1", "2", "3"} {
		controllertest.Delete(w.m, "/pg/pg-test/members/pg-test-"+n)
	}
	r = controllertest.Run(t, New(), w.m, "pg-test")
	if c := expect(t, r, observed.RecordLost, "of an earlier cluster of this name"); !strings.Contains(c.Next, "pgctrl remove pg-test") {
		t.Errorf("next: %s", c.Next)
	}
	controllertest.Put(w.m, "/pgctrl/formed/pg-test", `{"schema":1,"uid":"u","version":15,"port":5432,"rest_port":8008,"data_directory":"/d","scope":"pg-test"}`)
	r = controllertest.Run(t, New(), w.m, "pg-test")
	expect(t, r, observed.RecordLost, `password "postgres" of a running cluster is gone`)
	if len(r.Outputs) > 0 {
		t.Errorf("outputs %s", keysOf(r))
	}
}

package status_test

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
)

// TestAnEarlierClusterIsNotThisOne: reports and the confirmation of an earlier cluster
// of the same name are no answers and confirm nobody.
func TestAnEarlierClusterIsNotThisOne(t *testing.T) {
	m := healthy(t)
	if s := status.Compute(input(m)); !s.Ready {
		t.Fatalf("not ready before: %v", s.Conditions)
	}
	leader, _ := m.Get("/pg/pg-test/leader")
	controllertest.Put(m, "/pgctrl/primary/pg-test", string(observed.Encode(observed.Primary{
		Member: "pg-test-1", Epoch: leader.ModRevision, Sequence: 1, Writable: true, System: "72"})))
	if s := status.Compute(input(m)); s.Primary != "" {
		t.Errorf("%s is confirmed by a record of another system", s.Primary)
	}
	confirm(m, "pg-test-1")
	key := keys.Default.ObservedKey("pg2", "pg-test", "haproxy")
	e, _ := m.Get(key)
	r, err := observed.Decode[observed.Report](e)
	if err != nil {
		t.Fatal(err)
	}
	r.UID = "an-earlier-one"
	controllertest.Put(m, key, string(observed.Encode(r)))
	s := status.Compute(input(m))
	if s.Ready || !has(s, observed.NotApplied) {
		t.Errorf("a report of an earlier cluster counts: %v", s.Conditions)
	}
}

func has(s status.ClusterStatus, r observed.Reason) bool {
	for _, c := range s.Conditions {
		if c.Reason == r {
			return true
		}
	}
	return false
}

package haproxy

import (
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// TestExistingServicesGoOverToPoolers: once every member's pooler is in force, and not
// before the primary has what poolers look users up with.
func TestExistingServicesGoOverToPoolers(t *testing.T) {
	m := cluster(t, "small", "pg-test", "pg-test-1")
	const doc = "/pgctrl/desired/clusters/pg-test/pgbouncer"
	controllertest.Put(m, doc, "enabled: false")
	controllertest.Settle(t, New(), m, "pg-test")
	controllertest.Delete(m, doc)
	says := func(node, concern, loaded string, facts map[string]string) {
		controllertest.Put(m, keys.Default.ObservedKey(node, "pg-test", concern), string(observed.Encode(observed.Report{
			Schema: 1, Concern: concern, Loaded: loaded, Facts: facts,
		})))
	}
	settle := func(want bool, words string) {
		t.Helper()
		r := controllertest.Settle(t, New(), m, "pg-test")
		routes := unitOf(t, m, "pg2", "pg-test").Routes
		if routes["primary"].Pooled != want || routes["replica"].Pooled != want || routes["default"].Pooled {
			t.Errorf("routes %+v", routes)
		}
		if want && len(r.Conditions) == 0 {
			return
		}
		if want || len(r.Conditions) != 1 || r.Conditions[0].Reason != observed.WaitingForPooler || !strings.Contains(r.Conditions[0].Message, words) {
			t.Errorf("conditions %v", r.Conditions)
		}
	}
	settle(false, "the pooler of pg-test-1, pg-test-2, pg-test-3")
	for _, node := range []string{"pg1", "pg2", "pg3"} {
		says(node, "pgbouncer", "x", nil)
	}
	settle(false, "look users up")
	says("pg1", "databases", "", map[string]string{observed.FactOtherRoles: ""})
	settle(true, "")
	// A failover: the new primary's agent has not gone through the roles yet.
	says("pg1", "databases", "", nil)
	settle(true, "")
}

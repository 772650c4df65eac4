package twins_test

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestNobodyToMove: a rotation of the exporters' password ends where no exporter can run,
// and on nodes that have none.
func TestNobodyToMove(t *testing.T) {
	for name, c := range map[string]struct {
		node, member string
		condition    observed.Condition
		open         bool
	}{
		"it runs with it":               {"pg1", "pg-test-1", observed.Condition{Status: observed.True}, false},
		"no program":                    {"pg1", "pg-test-1", observed.Condition{Status: observed.False, Reason: observed.MissingProgram}, false},
		"its new file was refused":      {"pg1", "pg-test-1", observed.Condition{Status: observed.False, Reason: observed.Rejected}, true},
		"targets alone, on a node away": {"infra1", "", observed.Condition{Status: observed.Unknown, Reason: observed.NotAnswering}, false},
	} {
		w := newWorld(t)
		w.rotate(twins.Monitor)
		key := keys.Default.PlanKey(c.node, cluster, topology.Monitor)
		formed, _ := observed.Read[observed.Formed](w.m, keys.Default.FormedKey(cluster))
		store, _ := observed.Read[observed.Store](w.m, keys.Default.StoreKey())
		controllertest.Put(w.m, key, string(plan.Encode(plan.Plan{
			Schema: plan.SchemaFiles, Store: store.Incarnation, UID: formed.UID,
			Cluster: plan.Cluster{Name: cluster, Member: c.member, Members: []plan.Member{}},
		})))
		c.condition.Type = observed.Applied
		controllertest.Put(w.m, keys.Default.ObservedKey(c.node, cluster, topology.Monitor), string(observed.Encode(observed.Report{
			Schema: observed.Schema, Concern: topology.Monitor, UID: formed.UID, Plan: w.m.At, Conditions: []observed.Condition{c.condition},
		})))
		if left := w.rests(); (len(left) > 0) != c.open {
			t.Errorf("%s: stays open for %v", name, left)
		}
	}
}

package postgres

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestSlotsAreNotDroppedByTheWay: what a document no longer mentions is left in Patroni's
// configuration and said; only state absent takes it out.
func TestSlotsAreNotDroppedByTheWay(t *testing.T) {
	m := small(t)
	controllertest.Settle(t, New(), m, "pg-test")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-1")
	doc := docs + "postgres"
	slots := func() string {
		t.Helper()
		for range 3 {
			controllertest.Settle(t, New(), m, "pg-test")
			for _, n := range []string{"pg1", "pg2", "pg3"} {
				report(m, n, "")
			}
		}
		e, _ := m.Get(keys.Default.PlanKey("pg1", "pg-test", Concern))
		p, err := plan.Decode(e.Value)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(p.Resources[1].(plan.Patroni).Config["slots"])
		return string(b)
	}
	controllertest.Put(m, doc, "slots: {a.type: physical}")
	if got := slots(); got != `{"a":{"type":"physical"}}` {
		t.Errorf("slots %s", got)
	}
	controllertest.Put(m, "/pg/pg-test/config", `{"ttl":30,"slots":{"a":{"type":"physical"}}}`)
	if r := controllertest.Settle(t, New(), m, "pg-test"); len(r.Conditions) > 0 {
		t.Errorf("conditions %v", r.Conditions)
	}
	controllertest.Put(m, doc, "{}")
	if got := slots(); got != "null" {
		t.Errorf("without an entry: %s", got)
	}
	c := expect(t, controllertest.Settle(t, New(), m, "pg-test"), observed.Unmanaged, "slot a (physical) is in no document")
	if !strings.Contains(c.Next, "slots.a.state=absent") {
		t.Errorf("next %s", c.Next)
	}
	controllertest.Put(m, doc, "slots: {a.state: absent, a.type: physical}")
	if got := slots(); got != `{"a":null}` {
		t.Errorf("absent: %s", got)
	}
}

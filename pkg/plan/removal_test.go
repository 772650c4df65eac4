package plan_test

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestR14RemovalLooksAtTheLeader: a member is stopped only while a fresh view shows
// another one leading; a whole cluster's removal needs the view alone.
func TestR14RemovalLooksAtTheLeader(t *testing.T) {
	for _, tc := range []struct {
		name    string
		s       *story
		removal plan.Removal
		reason  observed.Reason // empty: it is removed
	}{
		{"another member leads", begin().leads("a"), plan.Removal{}, ""},
		{"it leads itself", begin().leads("b"), plan.Removal{}, observed.Leading},
		{"nobody leads", begin().leads("a").leaderGone(), plan.Removal{}, observed.NoLeader},
		{"the view is stale", begin().leads("a").blindFor(4 * time.Second), plan.Removal{}, observed.StaleView},
		{"the whole cluster, and it leads", begin().leads("b"), plan.Removal{Whole: true}, ""},
		{"the whole cluster, nobody leads", begin(), plan.Removal{Whole: true}, ""},
		{"the whole cluster, stale", begin().leads("a").blindFor(4 * time.Second), plan.Removal{Whole: true}, observed.StaleView},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := plan.Plan{Cluster: plan.Cluster{Member: "b"}, Resources: plan.Resources{
				plan.Unit{Unit: "patroni@c.service", Program: "patroni", Files: []plan.File{{Path: "/etc/patroni/c.yml", Content: "x"}}},
				plan.Unit{Unit: "exporter@c.service", Program: "patroni"},
				plan.Patroni{Patroni: "c"},
			}}
			apply, drop, why := plan.Resolve(plan.Removes(p, tc.removal), tc.s.view, tc.s.now)
			if len(apply) > 0 {
				t.Errorf("a removal applies %v", apply)
			}
			if tc.reason == "" {
				if len(why) > 0 || len(drop) != 2 || drop[0].ID() != "unit exporter@c.service" {
					t.Errorf("drops %v because %v, want both units, the last one first", drop, why)
				}
				return
			}
			if len(drop) > 0 || len(why) != 1 || why[0].Reason != tc.reason || !why[0].Bad() {
				t.Errorf("drops %v because %v, want nothing and %s", drop, why, tc.reason)
			}
		})
	}
}

// TestNobodyLeadsThroughAnExporter: a leader is in the way of what stops its database, and
// not of what only looks at it.
func TestNobodyLeadsThroughAnExporter(t *testing.T) {
	s := begin().leads("b")
	p := plan.Plan{Cluster: plan.Cluster{Member: "b"}, Resources: plan.Resources{
		plan.Watched{File: "/etc/pgctrl/targets.d/c.yml", Absent: true},
		plan.Unit{Unit: "pgbouncer-exporter@c.service", Program: plan.PoolerExporter},
		plan.Unit{Unit: "postgres-exporter@c.service", Program: plan.PostgresExporter},
	}}
	if _, drop, why := plan.Resolve(plan.Removes(p, plan.Removal{}), s.view, s.now); len(drop) != 3 || len(why) != 0 {
		t.Errorf("drops %v because %v, want all", drop, why)
	}
}

package agent

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestR13ReloadWithoutAViewKeepsRoutes: an agent that has just started, or is cut off,
// and has a HAProxy to reload, leaves the running one's routes as they are. With the
// targets of a stale view the new worker began with every read-write server down.
func TestR13ReloadWithoutAViewKeepsRoutes(t *testing.T) {
	routes := map[string]plan.Route{"primary": {Role: plan.RoutePrimary, Servers: []plan.RouteServer{{Name: "m1"}, {Name: "m2"}}}}
	p := plan.Plan{Resources: plan.Resources{plan.Unit{Unit: "haproxy@c.service", Program: "haproxy", Routes: routes}}}
	now := time.Now()
	for name, c := range map[string]struct {
		v    plan.View
		want int
	}{
		"no view yet": {plan.View{}, 0},
		"cut off":     {plan.View{Known: true, FreshAt: now.Add(-plan.FreshFor - time.Millisecond)}, 0},
		"fresh":       {plan.View{Known: true, FreshAt: now}, 1},
	} {
		apply, _, _ := plan.Resolve(p, c.v, now)
		if u := knowingly(apply[0], c.v, now).(plan.Unit); len(u.Targets) != c.want {
			t.Errorf("%s: the reload gets targets %v", name, u.Targets)
		}
	}
}

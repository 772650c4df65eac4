package vip

import (
	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// removeAll is the answer for a cluster that is to go as a whole.
func removeAll(in controllers.Input, t *topology.Topology, cs []observed.Condition) controllers.Result {
	want := map[string]plan.Plan{}
	out := t.Clear(in, Concern, version.String(), t.Goes, want)
	rolled, waiting := t.Rollout(in, Concern, want, func(_ string, r *observed.Report) bool { return topology.NothingLoaded(r) })
	cs = append(cs, waiting...)
	observed.Sort(cs)
	return controllers.Result{Outputs: append(out, rolled...), Conditions: cs}
}

package dns

import (
	"slices"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// Concern is the controller's name, and the kind of its document.
const Concern = "dns"

// Controller implements controllers.Controller.
type Controller struct{}

// New returns the controller.
func New() Controller { return Controller{} }

// Name implements controllers.Controller.
func (Controller) Name() string { return Concern }

// Inputs implements controllers.Controller.
func (Controller) Inputs() []controllers.Access {
	return append(topology.Inputs(),
		controllers.Access{Family: keys.Desired, Part: Concern},
		controllers.Access{Family: keys.Defaults, Part: Concern},
		controllers.Access{Family: keys.Observed, Part: Concern})
}

// Outputs implements controllers.Controller.
func (Controller) Outputs() []controllers.Access {
	return []controllers.Access{{Family: keys.Plan, Part: Concern}}
}

// Plan implements controllers.Controller. All nodes are told at once: nothing is
// stopped or reloaded for a name.
func (Controller) Plan(in controllers.Input) (controllers.Result, error) {
	t, cs, ok := topology.Load(in, "members", "vip", Concern)
	if !ok || !t.Removing && (!t.Docs.Exists() || t.Formed == nil) {
		observed.Sort(cs)
		return controllers.Result{Conditions: cs}, nil
	}
	want := map[string]plan.Plan{}
	if t.Docs.DNS.Enabled && t.Formed != nil && !t.Removing {
		nodes, taken := t.Docs.InfraNodes(), []string(nil)
		if len(nodes) > 0 {
			var said []observed.Condition
			taken, said = elsewhere(in, t)
			cs = append(cs, said...)
		}
		for _, node := range nodes {
			if c, older := topology.Older(in, node, "writes no names"); older {
				cs = append(cs, c)
				continue
			}
			p := t.Plan(node, version.String())
			p.Schema, p.Resources = plan.SchemaFiles, plan.Resources{hostsOf(in.Layout, t, node, taken)}
			want[node] = p
		}
	}
	done := t.Clear(in, Concern, version.String(), func(node string) bool { return goes(in, t, node) }, want)
	out, waiting := t.AtOnce(in, Concern, want)
	cs = append(cs, waiting...)
	observed.Sort(cs)
	return controllers.Result{Outputs: append(out, done...), Conditions: cs}, nil
}

// goes reports whether a document says that a node is to have no names of the cluster.
// That a node has no document any more does not say so (R6).
func goes(in controllers.Input, t *topology.Topology, node string) bool {
	if t.Removing || !t.Docs.DNS.Enabled {
		return true
	}
	n := nodeOf(in, node)
	return n != nil && !slices.Contains(t.Docs.InfraNodes(), node)
}

package monitor

import (
	"fmt"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// Concern is the controller's name, and the kind of its document.
const Concern = topology.Monitor

// Controller implements controllers.Controller.
type Controller struct{}

// New returns the controller.
func New() Controller { return Controller{} }

// Name implements controllers.Controller.
func (Controller) Name() string { return Concern }

// Inputs implements controllers.Controller. Of secrets only existence and revision are
// looked at.
func (Controller) Inputs() []controllers.Access {
	return append(append(topology.Inputs(), twins.Inputs()...),
		controllers.Access{Family: keys.Observed, Part: Concern},
		// An exporter moves to another role when its pooler knows that.
		controllers.Access{Family: keys.Plan, Part: topology.Pooler},
		controllers.Access{Family: keys.Observed, Part: topology.Pooler},
	)
}

// Outputs implements controllers.Controller.
func (Controller) Outputs() []controllers.Access {
	return []controllers.Access{{Family: keys.Plan, Part: Concern}}
}

// Plan implements controllers.Controller. All nodes are told at once: no client of the
// cluster goes through an exporter.
func (Controller) Plan(in controllers.Input) (controllers.Result, error) {
	t, cs, ok := topology.Load(in, "members", "pgbouncer", "postgres", "services", Concern)
	if !ok || !t.Removing && (!t.Docs.Exists() || t.Formed == nil) {
		observed.Sort(cs)
		return controllers.Result{Conditions: cs}, nil
	}
	want := map[string]plan.Plan{}
	if t.Docs.Monitor.Enabled && t.Formed != nil && !t.Removing {
		if now, _ := twins.Monitor.Exist(in); now == nil {
			cs = append(cs, noPassword(in))
			observed.Sort(cs)
			return controllers.Result{Conditions: cs}, nil
		}
		for _, node := range nodesOf(in, t) {
			if c, older := topology.Older(in, node, "runs no exporters"); older {
				cs = append(cs, c)
				continue
			}
			want[node] = planOf(in, t, node)
		}
	}
	done := t.Clear(in, Concern, version.String(), func(node string) bool { return goes(in, t, node) }, want)
	out, waiting := t.AtOnce(in, Concern, want)
	cs = append(cs, waiting...)
	observed.Sort(cs)
	return controllers.Result{Outputs: append(out, done...), Conditions: cs}, nil
}

// planOf is one node's: the file of targets where the node has role infra, the exporters
// where it has a member. What it has not is said as well, for it may have had it.
func planOf(in controllers.Input, t *topology.Topology, node string) plan.Plan {
	p := t.Plan(node, version.String())
	p.Schema, p.Secrets = plan.SchemaFiles, map[string]int64{}
	p.Resources = plan.Resources{
		targets(in.Layout, t, node, slices.Contains(t.Docs.InfraNodes(), node)),
		// Before the other: it is never missing, and what follows waits for what came before.
		poolerExporter(in, t, &p), postgresExporter(in, t, &p),
	}
	return p
}

// measured reports whether the node has a member whose exporters are to run: until the
// member itself may be stopped.
func measured(in controllers.Input, t *topology.Topology, node string) bool {
	for _, m := range t.Members {
		if m.Node == node {
			return !t.Goes(node) || !t.Stopping(in, node)
		}
	}
	return false
}

// nodesOf are the nodes that have a part in measuring, sorted.
func nodesOf(in controllers.Input, t *topology.Topology) []string {
	out := t.Docs.InfraNodes()
	for _, m := range t.Members {
		if measured(in, t, m.Node) && t.Docs.Nodes[m.Node] != nil {
			out = append(out, m.Node)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// goes reports whether a document says that the node is to have no part in it. That a
// node or member has no document any more does not say so (R6).
func goes(in controllers.Input, t *topology.Topology, node string) bool {
	if t.Removing || !t.Docs.Monitor.Enabled {
		return true
	}
	if slices.Contains(t.Docs.InfraNodes(), node) || measured(in, t, node) {
		return false
	}
	if s := t.Stored(in, node, Concern); s != nil && s.Head.Cluster.Member != "" {
		return t.Goes(node)
	}
	return desired.LoadNode(in.Snapshot, in.Layout, node) != nil
}

func noPassword(in controllers.Input) observed.Condition {
	return observed.Condition{
		Type: observed.Planned, Status: observed.False, Reason: observed.WaitingForSecret,
		Key:     in.Layout.Secret(in.Cluster, twins.Monitor.Name()),
		Message: fmt.Sprintf("the password %q is being made", twins.Monitor.Name()),
	}
}

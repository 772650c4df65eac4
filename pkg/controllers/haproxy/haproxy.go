// Package haproxy plans one HAProxy for each cluster and node: its configuration
// file, and routes that say which members each backend may send clients to.
//
// The file names no primary. Each service is a frontend with up to two backends,
// its own and its fallback; which servers are up is decided by the agents, relative
// to the leader, and by HAProxy's checks of Patroni when no agent says anything.
package haproxy

import (
	"fmt"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/controllers/vip"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// Concern is the controller's name.
const Concern = "haproxy"

// Controller implements controllers.Controller.
type Controller struct{}

// New returns the controller.
func New() Controller { return Controller{} }

// Name implements controllers.Controller.
func (Controller) Name() string { return Concern }

// Inputs implements controllers.Controller.
func (Controller) Inputs() []controllers.Access {
	return append(topology.Inputs(),
		controllers.Access{Family: keys.Observed, Part: Concern},
		controllers.Access{Family: keys.Observed, Part: topology.Pooler},
		controllers.Access{Family: keys.Observed, Part: topology.Databases},
		controllers.Access{Family: keys.Plan, Part: vip.Concern}) // on which kind of address clients come
}

// Outputs implements controllers.Controller.
func (Controller) Outputs() []controllers.Access {
	return []controllers.Access{{Family: keys.Plan, Part: Concern}}
}

// Plan implements controllers.Controller.
func (Controller) Plan(in controllers.Input) (controllers.Result, error) {
	t, cs, ok := topology.Load(in, "members", "pgbouncer", "services")
	if ok && t.Removing {
		return removeAll(in, t, cs), nil
	}
	if !ok || !t.Docs.Exists() {
		observed.Sort(cs)
		return controllers.Result{Conditions: cs}, nil
	}
	if t.Formed == nil {
		cs = append(cs, observed.Condition{
			Type: observed.Planned, Status: observed.False, Reason: observed.NotPlanned,
			Key:     in.Layout.FormedKey(in.Cluster),
			Message: "ports are not known before the cluster forms",
		})
		observed.Sort(cs)
		return controllers.Result{Conditions: cs}, nil
	}
	pooled, waiting := pooledServices(in, t)
	cs = append(cs, waiting...)
	backends, frontends, bad := compose(in, t, pooled)
	if len(bad) > 0 {
		return controllers.Result{Conditions: append(cs, bad...)}, nil
	}
	want := map[string]plan.Plan{}
	nodes, ipv6 := staying(t), virtualIPv6(in)
	for _, node := range nodes {
		if t.Docs.Nodes[node] != nil {
			want[node] = planOf(in, t, node, ipv6, frontends, backends)
		}
	}
	done := leaving(in, t, nodes, want)
	out, turns := t.Rollout(in, Concern, want, func(_ string, r *observed.Report) bool { return topology.NothingLoaded(r) })
	cs = append(append(cs, turns...), leftAlone(in, t, nodes)...)
	observed.Sort(cs)
	return controllers.Result{Outputs: append(out, done...), Conditions: cs}, nil
}

func planOf(in controllers.Input, t *topology.Topology, node string, ipv6 bool, frontends []frontend, backends []backend) plan.Plan {
	routes := map[string]plan.Route{}
	for _, b := range backends {
		routes[b.Name] = plan.Route{Role: b.Role, Pooled: b.Pooled, Servers: b.Servers}
	}
	p := t.Plan(node, version.String())
	both := is6(t.Docs.Nodes[node].Address) || ipv6 && p.Cluster.Member != "" // the virtual address never comes to a proxy
	p.Resources = plan.Resources{plan.Unit{
		Unit: "haproxy@" + in.Cluster + ".service", Program: "haproxy",
		Files: []plan.File{{
			Path: "/etc/haproxy/" + in.Cluster + ".cfg", Mode: "0640", Owner: "root:haproxy",
			Content: render(in.Layout, t, node, both, frontends, backends),
		}},
		Routes: routes,
	}}
	return p
}

// leftAlone finds nodes that have this cluster's HAProxy and are no longer to: a
// proxy that lost its role, or the node of a member without a document. Clients
// may be connected there, so it stays until somebody says otherwise.
func leftAlone(in controllers.Input, t *topology.Topology, planned []string) []observed.Condition {
	var cs []observed.Condition
	for _, e := range topology.PlansOf(in, Concern) {
		ref, _ := in.Layout.Parse(e.Key)
		n := ref.Node
		saidOfMember := slices.ContainsFunc(t.Unmanaged, func(m plan.Member) bool { return m.Node == n })
		if s := t.Stored(in, n, Concern); saidOfMember || s == nil || s.Head.Removal != nil || slices.Contains(planned, n) || t.Goes(n) {
			continue
		}
		cs = append(cs, observed.Condition{
			Type: observed.Planned, Status: observed.False, Reason: observed.Unmanaged, Key: e.Key,
			Message: fmt.Sprintf("node %s is neither a member's nor a proxy; its HAProxy is left as it is", n),
			Next:    fmt.Sprintf("pgctrl set nodes %s roles=[proxy] (to keep it), or pgagent leave (on %s, when nothing else is there)", n, n),
		})
	}
	return cs
}

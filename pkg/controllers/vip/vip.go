// Package vip plans the cluster's virtual address: one plan, the same on every node
// whose member can lead. Who has the address is no controller's business: agents
// take and release it as the leader key and their own PostgreSQL say.
package vip

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/rollout"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// Concern is the controller's name.
const Concern = "vip"

// Controller implements controllers.Controller.
type Controller struct{}

// New returns the controller.
func New() Controller { return Controller{} }

// Name implements controllers.Controller.
func (Controller) Name() string { return Concern }

// Inputs implements controllers.Controller.
func (Controller) Inputs() []controllers.Access {
	return append(topology.Inputs(), controllers.Access{Family: keys.Observed, Part: Concern})
}

// Outputs implements controllers.Controller.
func (Controller) Outputs() []controllers.Access {
	return []controllers.Access{{Family: keys.Plan, Part: Concern}}
}

// Plan implements controllers.Controller.
func (Controller) Plan(in controllers.Input) (controllers.Result, error) {
	t, cs, ok := topology.Load(in, "members", "vip")
	if ok && t.Removing {
		return removeAll(in, t, cs), nil
	}
	if !ok || !t.Docs.Exists() || t.Formed == nil {
		observed.Sort(cs)
		return controllers.Result{Conditions: cs}, nil
	}
	v, stored := &t.Docs.VIP, storedPlans(in, t)
	if v.Enabled && !v.On() {
		// No address is the default, and people mean it; an address that is in use goes
		// only when somebody says so (R6).
		if a, held := anyAddress(in, stored); held {
			cs = append(cs, unmanaged(in, a))
		}
		observed.Sort(cs)
		return controllers.Result{Conditions: cs}, nil
	}
	want := map[string]plan.Plan{}
	for _, m := range t.Docs.MemberList() {
		_, has := stored[m.Node]
		// Who has the plan may be leading right now, whatever its document says since.
		if t.Docs.Nodes[m.Node] == nil || !has && (m.Absent() || !m.CanLead() || !v.On()) {
			continue
		}
		p := t.Plan(m.Node, version.String())
		p.Resources = plan.Resources{}
		if v.On() {
			p.Resources = append(p.Resources, addressOf(v.Address, v.Interface))
		}
		want[m.Node] = p
	}
	done := t.Clear(in, Concern, version.String(), t.Goes, want)
	out, waiting := t.Rollout(in, Concern, want, func(_ string, r *observed.Report) bool { return topology.NothingLoaded(r) })
	cs = append(cs, waiting...)
	observed.Sort(cs)
	return controllers.Result{Outputs: append(out, done...), Conditions: cs}, nil
}

// addressOf is added as a host address: a shorter mask would add a route, and as a
// secondary address go with the first one of its network.
func addressOf(network, iface string) plan.Address {
	p := netip.MustParsePrefix(network) // the document was checked
	return plan.Address{
		Address: netip.PrefixFrom(p.Addr(), p.Addr().BitLen()).String(), Interface: iface, Network: network,
	}
}

// storedPlans are the keys of the plans of this concern that are in etcd, by node.
func storedPlans(in controllers.Input, t *topology.Topology) map[string]string {
	out := map[string]string{}
	for _, m := range t.Members {
		key := in.Layout.PlanKey(m.Node, in.Cluster, Concern)
		e, ok := kv.GetShort(in.Snapshot, key)
		if !ok {
			continue
		}
		p, err := plan.ReadShort(e.Value)
		if err == nil && p.UID != t.Formed.UID {
			continue // an earlier cluster of this name is none of ours
		}
		out[m.Node] = key
	}
	return out
}

func anyAddress(in controllers.Input, stored map[string]string) (plan.Address, bool) {
	for _, node := range slices.Sorted(maps.Keys(stored)) {
		p, _ := rollout.Whole(in.Snapshot, stored[node])()
		if a, ok := plan.AddressOf(p); ok {
			return a, true
		}
	}
	return plan.Address{}, false
}

func unmanaged(in controllers.Input, a plan.Address) observed.Condition {
	return observed.Condition{
		Type: observed.Planned, Status: observed.False, Reason: observed.Unmanaged,
		Key:     in.Layout.ClusterDoc(in.Cluster, "vip"),
		Message: fmt.Sprintf("the virtual address %s has no document; it is left as it is and follows the leader", a.Network),
		Next: fmt.Sprintf("pgctrl set %s vip address=%s (to keep it), or pgctrl set %s vip enabled=false (to take it down)",
			in.Cluster, a.Network, in.Cluster),
	}
}

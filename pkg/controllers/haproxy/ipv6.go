package haproxy

import (
	"net/netip"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/controllers/vip"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// virtualIPv6 reports whether clients come to the members over a virtual address that
// is an IPv6 one: it is wanted, or it may be there still, whatever became of its
// document. HAProxy then listens on both kinds; otherwise it must not, because on a
// host without IPv6 it would not start.
func virtualIPv6(in controllers.Input) bool {
	// Read apart from the other documents: HAProxy does not wait for one of another
	// concern to be right.
	docs := desired.Load(in.Snapshot, in.Layout, in.Cluster, vip.Concern)
	if !docs.Invalid(vip.Concern) && docs.VIP.On() && is6(docs.VIP.Host()) {
		return true
	}
	for _, e := range topology.PlansOf(in, vip.Concern) {
		p, err := plan.ReadShort(e.Value)
		if err != nil || p.Removal != nil {
			continue
		}
		for _, a := range p.Addresses {
			if is6(plan.Address{Address: a}.Host()) {
				return true
			}
		}
	}
	return false
}

func is6(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Is6()
}

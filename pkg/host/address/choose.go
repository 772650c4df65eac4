package address

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// netInterface is a network interface with the addresses of one family.
type netInterface struct {
	name      string
	index     int
	up        bool
	silent    bool // loopback, or one without address resolution: nobody to announce to
	hardware  net.HardwareAddr
	addresses []netip.Prefix
}

// route is a way out. Only those without a gateway say that an address is a neighbour.
type route struct {
	index   int
	to      netip.Prefix
	gateway bool
}

// showAddresses is the next command of every refusal here.
const showAddresses = "ip -br address"

// choose finds the interface an address belongs on: the named one; else the one
// that has an address of its own in the network; else the one whose direct route
// covers the address best. routes is asked only for the last.
func choose(t target, all []netInterface, routes func() ([]route, error)) (netInterface, error) {
	if t.wanted != "" {
		for _, in := range all {
			if in.name == t.wanted {
				return in, mustBeUp(t, in)
			}
		}
		return netInterface{}, refuse("there is no interface %s for %s; there are %s", t.wanted, t, describe(all))
	}
	var fit []netInterface
	for _, in := range all {
		if in.reaches(t) {
			fit = append(fit, in)
		}
	}
	if len(fit) == 0 {
		rs, err := routes()
		if err != nil {
			return netInterface{}, err
		}
		fit = byRoute(t, all, rs)
	}
	switch fit = preferred(t, fit); len(fit) {
	case 0:
		return netInterface{}, refuse("no interface has an address in %s (as in %s) or a direct route to it; there are %s", t.network, t.asWritten, describe(all))
	case 1:
		return fit[0], mustBeUp(t, fit[0])
	default:
		r := refuse("%d interfaces reach %s: %s; name one as the document's interface", len(fit), t.network, describe(fit))
		return netInterface{}, r
	}
}

// reaches reports that the interface has an address of its own in the network. Host
// prefixes don't count: all virtual addresses have them.
func (in netInterface) reaches(t target) bool {
	for _, p := range in.addresses {
		if p.Addr() != t.ip && !p.IsSingleIP() && t.network.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// byRoute returns the interfaces with the most specific direct route to the address.
func byRoute(t target, all []netInterface, routes []route) []netInterface {
	best := 0 // a default route covers everything and says nothing
	var fit []netInterface
	seen := map[int]bool{}
	for _, r := range routes {
		if r.gateway || !r.to.Contains(t.ip) || r.to.IsSingleIP() || r.to.Bits() < max(best, 1) {
			continue
		}
		if r.to.Bits() > best {
			best, fit, seen = r.to.Bits(), nil, map[int]bool{}
		}
		for _, in := range all {
			if in.index == r.index && !seen[in.index] {
				seen[in.index], fit = true, append(fit, in)
			}
		}
	}
	return fit
}

// preferred leaves out interfaces that are down when another is up, and all but the
// one that has the address already.
func preferred(t target, fit []netInterface) []netInterface {
	var up, has []netInterface
	for _, in := range fit {
		if !in.up {
			continue
		}
		up = append(up, in)
		for _, p := range in.addresses {
			if p.Addr() == t.ip {
				has = append(has, in)
				break
			}
		}
	}
	switch {
	case len(has) == 1:
		return has
	case len(up) > 0:
		return up
	default:
		return fit
	}
}

func mustBeUp(t target, in netInterface) error {
	if in.up {
		return nil
	}
	r := refuse("interface %s, where %s belongs, is down", in.name, t)
	r.Next = "ip link set " + in.name + " up"
	return r
}

func refuse(format string, args ...any) *plan.Refusal {
	return &plan.Refusal{Reason: observed.NoInterface, Message: fmt.Sprintf(format, args...), Next: showAddresses}
}

// describe lists interfaces as people know them: "eth0 (10.0.0.1/24), eth1 (down)".
func describe(all []netInterface) string {
	if len(all) == 0 {
		return "none"
	}
	var parts []string
	for _, in := range all {
		var about []string
		if !in.up {
			about = append(about, "down")
		}
		for _, p := range in.addresses {
			about = append(about, p.String())
		}
		s := in.name
		if len(about) > 0 {
			s += " (" + strings.Join(about, ", ") + ")"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, ", ")
}

package address

import (
	"fmt"
	"net/netip"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// target is a plan.Address, parsed.
type target struct {
	ip        netip.Addr
	network   netip.Prefix // masked
	wanted    string       // the interface's name, or empty
	asWritten string
}

// String is the address without its prefix.
func (t target) String() string { return t.ip.String() }

// parse reads an address whose document has been checked before: an error here is
// a plan by somebody else's hand.
func parse(a plan.Address) (target, error) {
	p, err := netip.ParsePrefix(a.Address)
	if err != nil {
		return target{}, fmt.Errorf("address %q: %w", a.Address, err)
	}
	if !p.IsSingleIP() {
		return target{}, fmt.Errorf("address %q: a virtual address is added as /%d", a.Address, p.Addr().BitLen())
	}
	ip := p.Addr()
	if ip.Is4In6() || !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback() {
		return target{}, fmt.Errorf("address %q: not an address that a host can share", a.Address)
	}
	t := target{ip: ip, network: p, wanted: a.Interface, asWritten: a.Network}
	if a.Network == "" {
		t.asWritten = a.Address
		return t, nil
	}
	n, err := netip.ParsePrefix(a.Network)
	if err != nil {
		return target{}, fmt.Errorf("network %q: %w", a.Network, err)
	}
	if !n.Contains(ip) {
		return target{}, fmt.Errorf("network %q does not contain %s", a.Network, ip)
	}
	t.network = n.Masked()
	return t, nil
}

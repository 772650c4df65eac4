package desired

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// VIP is the cluster's virtual address, which is on the confirmed primary's node: vip.
type VIP struct {
	Meta      `yaml:"-"`
	Address   string `yaml:"address" format:"cidr" own:"true" effect:"move" note:"none: without one the cluster has no virtual address" example:"10.10.10.9/24" says:"The address that follows the primary, with the length of the network it is in."`
	Interface string `yaml:"interface" pattern:"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$" effect:"move" note:"the one that has the node's address in the same network" example:"eth1" says:"The network interface it is added to, on every node."`
	Enabled   bool   `yaml:"enabled" default:"true" effect:"move" example:"false" says:"false takes the address down; deleting the document leaves it as it is."`
}

// On reports whether the cluster is to have a virtual address.
func (v *VIP) On() bool { return v.Enabled && v.Address != "" }

// Prefix is the address with its network's length; false when there is none.
func (v *VIP) Prefix() (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(v.Address)
	return p, err == nil
}

// Host is the address alone, "10.10.10.9"; empty when there is none.
func (v *VIP) Host() string {
	host, _, _ := strings.Cut(v.Address, "/")
	return host
}

// parseCIDR reads a host address with the length of its network, and says what is
// wrong with it.
func parseCIDR(s string) (canonical, wrong string) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Zone() != "" || p.Addr().Is4In6() {
		return "", "expected an IP address with the length of its network"
	}
	a := p.Addr()
	switch {
	case a.IsUnspecified(), a.IsMulticast(), a.IsLoopback(), a.IsLinkLocalUnicast():
		return "", "expected an address that other hosts can reach"
	case a.Is4() && p.Bits() < 31 && (a == p.Masked().Addr() || a == lastOf(p)):
		return "", "expected the address of a host in " + p.Masked().String()
	case a.Is6() && p.Bits() < 127 && a == p.Masked().Addr():
		return "", "expected the address of a host in " + p.Masked().String()
	}
	return p.String(), ""
}

// lastOf is the broadcast address of an IPv4 network.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// checkVIP: one address for all clusters is an address that they fight over.
func checkVIP(d *resolved) []Problem {
	if s, ok := d.set["address"]; ok && s.key != d.key {
		p := d.problem("address", "expected a field that all clusters can share, found one that each has for itself")
		p.Suggestion = "set it in the cluster's own document vip"
		return []Problem{p}
	}
	return nil
}

// vipProblem is a problem with the virtual address, at the place where it is written.
func (c *Cluster) vipProblem(format string, args ...any) Problem {
	return c.resolved["vip"].problem("address", format, args...)
}

// checkAddress finds a virtual address that can't be added anywhere, or that is a
// host's own: two hosts would answer for it.
func checkAddress(c *Cluster) []Problem {
	if !c.Loaded("vip") || !c.VIP.On() || c.Invalid("vip") {
		return nil
	}
	network, _ := c.VIP.Prefix()
	for _, name := range sortedKeys(c.Nodes) {
		if c.Nodes[name].Address == c.VIP.Host() {
			return []Problem{c.vipProblem("expected an address that nobody has, found %s, which is node %s's own", c.VIP.Host(), name)}
		}
	}
	if c.VIP.Interface != "" {
		return nil // people know better where it goes
	}
	for _, m := range c.MemberList() {
		n := c.Nodes[m.Node]
		if n == nil {
			continue
		}
		if a, err := netip.ParseAddr(n.Address); err == nil && !network.Contains(a) {
			p := c.vipProblem("expected a network that node %s is in, which has %s, found %s", m.Node, n.Address, network.Masked())
			p.Suggestion = "name the interface to add it to"
			return []Problem{p}
		}
	}
	return nil
}

// checkForeignAddress finds a virtual address that another cluster has. Both are told
// and neither plan changes: which of two documents had the address first can't be
// seen in their revisions, and the wrong guess puts one address on two hosts.
func checkForeignAddress(c *Cluster, others []*Cluster) []Problem {
	if !c.Loaded("vip") || !c.VIP.On() || c.Invalid("vip") {
		return nil
	}
	for _, o := range others {
		if o.Name == c.Name || !o.Exists() || !o.Loaded("vip") || !o.VIP.On() || o.VIP.Host() != c.VIP.Host() {
			continue
		}
		p := c.vipProblem("expected an address that nobody has, found %s, which is the virtual address of cluster %s", c.VIP.Host(), o.Name)
		p.Reason = observed.AddressTaken
		return []Problem{p}
	}
	return nil
}

// MayName reports whether a document's text may hold the same address. IPv6 has many
// spellings for one address, so any IPv6 address counts.
func (v *VIP) MayName(text []byte) bool {
	return bytes.Contains(text, []byte(v.Host())) || strings.Contains(v.Host(), ":") && bytes.Count(text, []byte(":")) > 2
}

// String names the address in messages.
func (v *VIP) String() string { return fmt.Sprintf("virtual address %s", v.Address) }

var _ = register(Kind{
	Name:    "vip",
	Meaning: "The cluster's virtual address, which is always on the confirmed primary's node.",
	check:   checkVIP,
	store:   func(c *Cluster, _ string, doc any) { c.VIP = *doc.(*VIP) },
}, VIP{}, nil)

// parseCIDR takes a value of format cidr.
func (f *Field) parseCIDR(v *value) (any, string, string) {
	canonical, wrong := parseCIDR(v.source)
	if wrong == "" {
		return canonical, "", ""
	}
	hint := ""
	if a, err := netip.ParseAddr(v.source); err == nil && a.Zone() == "" {
		hint = fmt.Sprintf("did you mean %q?", v.source+map[bool]string{true: "/24", false: "/64"}[a.Unmap().Is4()])
	}
	return nil, wrong + ", found " + v.found(), hint
}

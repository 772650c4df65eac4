package address

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// held is one occurrence of an address on an interface.
type held struct {
	index  int
	prefix netip.Prefix
	raw    netlink.Addr
}

func (c held) is(t target) bool { return c.prefix.Addr() == t.ip }

// host is what the kernel showed, with a socket to change it.
type host struct {
	nl         *netlink.Handle
	family     int
	interfaces []netInterface
	all        []held // every address of the family
	copies     []held // those that are the target
}

// look reads interfaces and addresses. It is called inside the namespace.
func (m *Manager) look(t target) (*host, error) {
	h := &host{family: netlinkFamily(t)}
	all, err := addresses(h.family)
	if err != nil {
		return nil, err
	}
	h.see(t, all)
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		at := l.Attrs()
		in := netInterface{
			name: at.Name, index: at.Index, hardware: at.HardwareAddr,
			up:     at.Flags&net.FlagUp != 0,
			silent: at.Flags&net.FlagLoopback != 0 || at.RawFlags&unix.IFF_NOARP != 0,
		}
		for _, c := range h.all {
			if c.index == in.index {
				in.addresses = append(in.addresses, c.prefix)
			}
		}
		h.interfaces = append(h.interfaces, in)
	}
	if h.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return h, nil
}

func (h *host) close() { h.nl.Close() }

// see takes in which addresses there are.
func (h *host) see(t target, all []held) {
	h.all = all
	for _, c := range all {
		if c.is(t) {
			h.copies = append(h.copies, c)
		}
	}
}

// addresses lists a family's addresses.
func addresses(family int) ([]held, error) { return addressesBy(netlink.AddrList, family) }

func addressesBy(list func(netlink.Link, int) ([]netlink.Addr, error), family int) ([]held, error) {
	raw, err := whole(func() ([]netlink.Addr, error) { return list(nil, family) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var all []held
	for _, a := range raw {
		if a.IPNet == nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		if ok {
			all = append(all, held{index: a.LinkIndex, prefix: netip.PrefixFrom(ip.Unmap(), bits), raw: a})
		}
	}
	return all, nil
}

// whole repeats a listing that the kernel changed under our eyes: half a list would
// be an address not found.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	for range 10 {
		got, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return got, err
		}
	}
	return nil, netlink.ErrDumpInterrupted
}

// routes reads the main table.
func (h *host) routes() ([]route, error) {
	raw, err := whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, h.family) })
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var rs []route
	for _, r := range raw {
		if r.Dst == nil || r.LinkIndex == 0 {
			continue
		}
		ip, ok := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		if ok {
			rs = append(rs, route{index: r.LinkIndex, to: netip.PrefixFrom(ip.Unmap(), bits), gateway: r.Gw != nil || r.Via != nil})
		}
	}
	return rs, nil
}

// own is the target as we add it.
func (h *host) own(t target, in netInterface) held {
	bits := t.ip.BitLen()
	// An IPv6 address is unique on its interface whatever its prefix, so one that
	// is there is changed and keeps it.
	for _, c := range h.copies {
		if !t.ip.Is4() && c.index == in.index {
			bits = c.prefix.Bits()
		}
	}
	a := netlink.Addr{IPNet: &net.IPNet{IP: t.ip.AsSlice(), Mask: net.CIDRMask(bits, t.ip.BitLen())}, LinkIndex: in.index}
	return held{index: in.index, prefix: netip.PrefixFrom(t.ip, bits), raw: a}
}

// replace adds the target or renews its lifetime, in one request.
func (h *host) replace(t target, in netInterface, seconds int) error {
	a := h.own(t, in).raw
	a.Scope = unix.RT_SCOPE_UNIVERSE
	a.Flags = unix.IFA_F_NOPREFIXROUTE
	a.ValidLft, a.PreferedLft = seconds, seconds
	if !t.ip.Is4() {
		a.Flags |= unix.IFA_F_NODAD
		a.PreferedLft = 0 // deprecated; package comment
	}
	err := h.nl.AddrReplace(nil, &a)
	switch {
	case err == nil:
		return nil
	case !t.ip.Is4() && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)) && disabled6(in.name):
		r := refuse("IPv6 is switched off on interface %s, where %s belongs", in.name, t)
		r.Next = "sysctl net.ipv6.conf." + in.name + ".disable_ipv6=0"
		return r
	default:
		return fmt.Errorf("add it to %s: %w", in.name, err)
	}
}

// disabled6 reports that IPv6 is off on an interface of this thread's namespace.
func disabled6(name string) bool {
	b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6")
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// removeOthers removes every copy but the one that Hold keeps.
func (h *host) removeOthers(t target, in netInterface) error {
	keep := h.own(t, in)
	for _, c := range h.copies {
		if c.index == keep.index && c.prefix == keep.prefix {
			continue
		}
		if err := h.remove(c); err != nil {
			return err
		}
	}
	return nil
}

// remove takes an address off. One that is gone already is no error.
func (h *host) remove(c held) error {
	restore, err := h.spareSecondaries(c)
	if err != nil {
		return err
	}
	defer restore()
	if err := h.nl.AddrDel(nil, &c.raw); err != nil && !gone(err) {
		return fmt.Errorf("remove %s from %s: %w", c.prefix, h.name(c.index), err)
	}
	return nil
}

// spareSecondaries sees to it that removing an address that somebody added with the
// network's prefix does not remove the host's own ones: the kernel takes a
// network's other addresses along with its first unless told to promote them.
func (h *host) spareSecondaries(c held) (restore func(), err error) {
	nothing := func() {}
	if h.family != netlink.FAMILY_V4 || c.prefix.IsSingleIP() || c.raw.Flags&unix.IFA_F_SECONDARY != 0 {
		return nothing, nil
	}
	var at []string
	for _, o := range h.all {
		if o.index == c.index && o.prefix.Masked() == c.prefix.Masked() && o.raw.Flags&unix.IFA_F_SECONDARY != 0 {
			at = append(at, o.prefix.String())
		}
	}
	if len(at) == 0 {
		return nothing, nil
	}
	name := h.name(c.index)
	path := "/proc/sys/net/ipv4/conf/" + name + "/promote_secondaries"
	before, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if strings.TrimSpace(string(before)) == "1" {
		return nothing, nil
	}
	if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
		r := refuse("removing %s from %s would take %s along: %v", c.prefix, name, strings.Join(at, ", "), err)
		r.Next = "sysctl net.ipv4.conf." + name + ".promote_secondaries=1"
		return nil, r
	}
	return func() { _ = os.WriteFile(path, before, 0o644) }, nil // 1 is the better value anyway
}

func (h *host) name(index int) string {
	for _, in := range h.interfaces {
		if in.index == index {
			return in.name
		}
	}
	return fmt.Sprintf("interface %d", index)
}

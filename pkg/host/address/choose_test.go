package address

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func prefixes(s string) (ps []netip.Prefix) {
	for f := range strings.FieldsSeq(s) {
		ps = append(ps, netip.MustParsePrefix(f))
	}
	return ps
}

func TestChoose(t *testing.T) {
	up := func(name string, index int, addrs string) netInterface {
		return netInterface{name: name, index: index, up: true, addresses: prefixes(addrs)}
	}
	down := func(in netInterface) netInterface { in.up = false; return in }
	lo := up("lo", 1, "127.0.0.1/8")
	eth0, eth1 := up("eth0", 2, "10.77.0.1/24"), up("eth1", 3, "192.168.1.1/24")
	direct := func(index int, to string) route { return route{index: index, to: netip.MustParsePrefix(to)} }
	for _, c := range []struct {
		name       string
		named      string
		interfaces []netInterface
		routes     []route
		want       string // interface, or words of the refusal
		next       string
	}{
		{name: "by its own address", interfaces: []netInterface{lo, eth0, eth1}, want: "eth0"},
		{name: "named", named: "eth1", interfaces: []netInterface{lo, eth0, eth1}, want: "eth1"},
		{name: "named, absent", named: "bond0", interfaces: []netInterface{lo, eth0},
			want: "no interface bond0 for 10.77.0.9; there are lo (127.0.0.1/8), eth0 (10.77.0.1/24)", next: "ip -br address"},
		{name: "named, down", named: "eth0", interfaces: []netInterface{down(eth0)}, want: "eth0, where 10.77.0.9 belongs, is down", next: "ip link set eth0 up"},
		{name: "down", interfaces: []netInterface{down(eth0), eth1}, want: "is down", next: "ip link set eth0 up"},
		{name: "one of two is down", interfaces: []netInterface{down(eth0), up("eth2", 4, "10.77.0.2/24")}, want: "eth2"},
		{name: "virtual addresses don't count", interfaces: []netInterface{up("lo", 1, "10.77.0.9/24 10.77.0.8/32"), eth0}, want: "eth0"},
		{name: "two", interfaces: []netInterface{eth0, up("eth2", 4, "10.77.0.2/24")}, want: "2 interfaces reach 10.77.0.0/24: eth0 (10.77.0.1/24), eth2", next: "ip -br address"},
		{name: "two, one has it", interfaces: []netInterface{eth0, up("eth2", 4, "10.77.0.2/24 10.77.0.9/32")}, want: "eth2"},
		{name: "by route", interfaces: []netInterface{lo, up("eth0", 2, "10.5.5.5/32"), eth1}, routes: []route{direct(3, "10.0.0.0/8"), direct(2, "10.77.0.0/16")}, want: "eth0"},
		{name: "only a gateway", interfaces: []netInterface{eth1}, routes: []route{direct(3, "0.0.0.0/0"), {index: 3, to: netip.MustParsePrefix("10.77.0.0/24"), gateway: true}},
			want: "no interface has an address in 10.77.0.0/24 (as in 10.77.0.9/24) or a direct route to it; there are eth1 (192.168.1.1/24)", next: "ip -br address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := v4
			a.Interface = c.named
			in, err := choose(mustParse(t, a), c.interfaces, func() ([]route, error) { return c.routes, nil })
			var r *plan.Refusal
			switch {
			case c.next == "" && (err != nil || in.name != c.want):
				t.Errorf("chose %q, %v; want %s", in.name, err, c.want)
			case c.next != "" && (!errors.As(err, &r) || r.Reason != observed.NoInterface || !strings.Contains(r.Message, c.want) || r.Next != c.next):
				t.Errorf("refused with %v; want %q, next %q", err, c.want, c.next)
			}
		})
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		a    plan.Address
		want string // words of the error; empty: none
	}{
		{v4, ""}, {v6, ""},
		{plan.Address{Address: "10.77.0.9/32"}, ""},
		{plan.Address{Address: "10.77.0.9/24"}, "is added as /32"},
		{plan.Address{Address: "fd77::9/64"}, "is added as /128"},
		{plan.Address{Address: "10.77.0.9"}, "address"},
		{plan.Address{Address: "127.0.0.1/32"}, "not an address that a host can share"},
		{plan.Address{Address: "::ffff:10.77.0.9/128"}, "not an address"},
		{plan.Address{Address: "10.77.0.9/32", Network: "10.78.0.0/24"}, "does not contain"},
		{plan.Address{Address: "10.77.0.9/32", Network: "x"}, `network "x"`},
	} {
		_, err := parse(c.a)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v; want %q", c.a, err, c.want)
		}
	}
}

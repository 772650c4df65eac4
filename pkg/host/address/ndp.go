package address

import (
	"encoding/binary"
	"net/netip"
)

// What a neighbour discovery packet is made of (RFC 4861, sections 4.3, 4.4, 4.6).
const (
	icmp6            = 58
	ndSolicitation   = 135
	ndAdvertisement  = 136
	ndOverride       = 0x20 // replace what you remember
	optionSourceHW   = 1
	optionTargetHW   = 2
	ip6HeaderLen     = 40
	ndLen            = 24  // without options
	ndHopLimit       = 255 // proof that no router has passed it on
	maxNeighbourWire = 1500
)

// neighbour is a solicitation or an advertisement, without its Ethernet header.
type neighbour struct {
	kind     byte
	flags    byte // of an advertisement
	from, to netip.Addr
	target   netip.Addr
	// hw is the link-layer option: the target's in an advertisement, the sender's
	// in a solicitation; zero: none.
	hw hardware
}

var everyNode = netip.MustParseAddr("ff02::1")

// unsolicited tells the network once that hw has ip.
func unsolicited(ip netip.Addr, hw hardware) neighbour {
	return neighbour{kind: ndAdvertisement, flags: ndOverride, from: ip, to: everyNode, target: ip, hw: hw}
}

// solicitation asks who has ip as duplicate address detection does: from nobody, so
// that nobody's memory is changed, and answered to all nodes (RFC 4862, section 5.4).
func solicitation(ip netip.Addr) neighbour {
	return neighbour{kind: ndSolicitation, from: netip.IPv6Unspecified(), to: solicited(ip), target: ip}
}

// solicited is the group in which whoever has ip listens.
func solicited(ip netip.Addr) netip.Addr {
	b := ip.As16()
	return netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// ethernet is where Ethernet sends a group's packets (RFC 2464, section 7).
func ethernet(group netip.Addr) hardware {
	b := group.As16()
	return hardware{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// encode returns the whole IPv6 packet.
func (n neighbour) encode() []byte {
	length := ndLen
	if n.hw != (hardware{}) {
		length += 8
	}
	b := make([]byte, ip6HeaderLen+length)
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	b[6], b[7] = icmp6, ndHopLimit
	copy(b[8:], n.from.AsSlice())
	copy(b[24:], n.to.AsSlice())
	m := b[ip6HeaderLen:]
	m[0], m[4] = n.kind, n.flags
	copy(m[8:], n.target.AsSlice())
	if length > ndLen {
		m[ndLen], m[ndLen+1] = n.option(), 1 // in units of 8 bytes
		copy(m[ndLen+2:], n.hw[:])
	}
	binary.BigEndian.PutUint16(m[2:], checksum(pseudo(n.from, n.to, icmp6, len(m)), m))
	return b
}

func (n neighbour) option() byte {
	if n.kind == ndAdvertisement {
		return optionTargetHW
	}
	return optionSourceHW
}

// decodeNeighbour reads an IPv6 packet, and believes it only as RFC 4861 (section
// 7.1) allows: hop limit 255, right checksum, no broken option.
func decodeNeighbour(b []byte) (neighbour, error) {
	if len(b) < ip6HeaderLen+ndLen || b[0]>>4 != 6 || b[6] != icmp6 || b[7] != ndHopLimit {
		return neighbour{}, errPacket
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length < ndLen || len(b) < ip6HeaderLen+length {
		return neighbour{}, errPacket
	}
	m := b[ip6HeaderLen : ip6HeaderLen+length]
	n := neighbour{
		kind: m[0], from: netip.AddrFrom16([16]byte(b[8:24])), to: netip.AddrFrom16([16]byte(b[24:40])),
		target: netip.AddrFrom16([16]byte(m[8:24])),
	}
	if n.kind != ndSolicitation && n.kind != ndAdvertisement || m[1] != 0 || checksum(pseudo(n.from, n.to, icmp6, len(m)), m) != 0 {
		return neighbour{}, errPacket
	}
	if n.kind == ndAdvertisement {
		n.flags = m[4]
	}
	for o := m[ndLen:]; len(o) > 0; {
		if len(o) < 2 || o[1] == 0 || len(o) < int(o[1])*8 {
			return neighbour{}, errPacket
		}
		if o[0] == n.option() && o[1] == 1 {
			n.hw = hardware(o[2:8])
		}
		o = o[int(o[1])*8:]
	}
	return n, nil
}

// claims reports who says in the packet that it has ip. An answer to all nodes
// must name its hardware address.
func (n neighbour) claims(ip netip.Addr) (hardware, bool) {
	return n.hw, n.kind == ndAdvertisement && n.target == ip && n.hw.usable()
}

// pseudo is the sum over what the Internet checksum covers of an IP header (RFC 8200,
// section 8.1; for IPv4, RFC 9293, section 3.1).
func pseudo(from, to netip.Addr, protocol byte, length int) uint32 {
	sum := add(0, from.AsSlice())
	sum = add(sum, to.AsSlice())
	return sum + uint32(protocol) + uint32(length)
}

func add(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

// checksum completes a sum; over data that holds its own checksum it is 0.
func checksum(sum uint32, b []byte) uint16 {
	sum = add(sum, b)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

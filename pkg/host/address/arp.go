package address

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
)

// errPacket is returned by the decoders for what is not the packet they read.
var errPacket = errors.New("not such a packet")

// ARP operations (RFC 826).
const (
	arpRequest = 1
	arpReply   = 2
)

// arpLen is the length of an ARP packet for IPv4 over Ethernet.
const arpLen = 28

// hardware is an Ethernet address, comparable.
type hardware [6]byte

var (
	broadcast = hardware{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes6 = hardware{0x33, 0x33, 0, 0, 0, 1} // ff02::1 as Ethernet sends it
)

func (h hardware) String() string { return net.HardwareAddr(h[:]).String() }

// usable reports that one station can have it: not zero, not a group's.
func (h hardware) usable() bool { return h != hardware{} && h[0]&1 == 0 }

// arp is an ARP packet for IPv4 over Ethernet, without its Ethernet header.
type arp struct {
	op       uint16
	senderHW hardware
	senderIP netip.Addr // 0.0.0.0 in a probe
	targetHW hardware
	targetIP netip.Addr
}

// announcements are what tells the network once that hw has ip (RFC 5227, section
// 3): as a request, which every station must take note of, and as a reply, which
// some take note of alone.
func announcements(ip netip.Addr, hw hardware) []arp {
	return []arp{
		{op: arpRequest, senderHW: hw, senderIP: ip, targetIP: ip},
		{op: arpReply, senderHW: hw, senderIP: ip, targetHW: broadcast, targetIP: ip},
	}
}

// probe asks who has ip without saying anything about the asker (RFC 5227, section
// 2.1.1), so that nobody's memory is changed by it.
func probe(ip netip.Addr, hw hardware) arp {
	return arp{op: arpRequest, senderHW: hw, senderIP: netip.IPv4Unspecified(), targetIP: ip}
}

// encode returns the 28 bytes that follow the Ethernet header.
func (a arp) encode() []byte {
	b := make([]byte, 8, arpLen)
	binary.BigEndian.PutUint16(b, 1)          // Ethernet
	binary.BigEndian.PutUint16(b[2:], 0x0800) // IPv4
	b[4], b[5] = 6, 4
	binary.BigEndian.PutUint16(b[6:], a.op)
	b = append(b, a.senderHW[:]...)
	b = append(b, a.senderIP.AsSlice()...)
	b = append(b, a.targetHW[:]...)
	return append(b, a.targetIP.AsSlice()...)
}

// decodeARP reads what follows the Ethernet header; padding behind it is normal.
func decodeARP(b []byte) (arp, error) {
	if len(b) < arpLen || binary.BigEndian.Uint16(b) != 1 || binary.BigEndian.Uint16(b[2:]) != 0x0800 || b[4] != 6 || b[5] != 4 {
		return arp{}, errPacket
	}
	return arp{
		op:       binary.BigEndian.Uint16(b[6:]),
		senderHW: hardware(b[8:14]), senderIP: netip.AddrFrom4([4]byte(b[14:18])),
		targetHW: hardware(b[18:24]), targetIP: netip.AddrFrom4([4]byte(b[24:28])),
	}, nil
}

// claims reports who says in the packet that it has ip. Requests count like
// replies: an announcement is one.
func (a arp) claims(ip netip.Addr) (hardware, bool) {
	return a.senderHW, a.senderIP == ip && a.senderHW.usable()
}

package holders

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Of linux/netlink.h, linux/rtnetlink.h and linux/net_namespace.h; golang.org/x/sys
// has not all of them.
const (
	listenAllNSID = 8  // NETLINK_LISTEN_ALL_NSID
	groupNSID     = 28 // RTNLGRP_NSID
	attrNSID      = 1  // NETNSA_NSID
	rtgenLen      = 4  // struct rtgenmsg, aligned
)

// buffer is the size of the socket's receive buffer in bytes. It holds some 50,000 messages: this program may be kept from running for long.
const buffer = 32 << 20

// listen opens the one socket, in the calling thread's namespace.
func listen(address netip.Addr, buffer int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, fmt.Errorf("open netlink: %w", err)
	}
	group := unix.RTNLGRP_IPV4_IFADDR
	if address.Is6() {
		group = unix.RTNLGRP_IPV6_IFADDR
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, listenAllNSID, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1<<(group-1) | 1<<(groupNSID-1)})
	}
	if err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("listen to all network namespaces", err)
	}
	return fd, nil
}

type kind int

const (
	added kind = iota
	removed
	namespaceGone
)

// message is what the kernel said about an address or a namespace.
type message struct {
	kind  kind
	ip    netip.Addr
	place place
}

// decode reads one datagram; what it says about other things is left out.
func decode(b, control []byte) []message {
	msgs, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return nil
	}
	id, far := nsid(control)
	var out []message
	for _, m := range msgs {
		switch {
		case m.Header.Type == unix.RTM_DELNSID && !far && len(m.Data) >= rtgenLen:
			if v, ok := attributes(m.Data[rtgenLen:])[attrNSID]; ok && len(v) == 4 {
				out = append(out, message{kind: namespaceGone, place: place{id: int32(binary.NativeEndian.Uint32(v))}})
			}
		case (m.Header.Type == unix.RTM_NEWADDR || m.Header.Type == unix.RTM_DELADDR) && far && len(m.Data) >= unix.SizeofIfAddrmsg:
			as := attributes(m.Data[unix.SizeofIfAddrmsg:])
			v, ok := as[unix.IFA_LOCAL]
			if !ok {
				v = as[unix.IFA_ADDRESS]
			}
			ip, _ := netip.AddrFromSlice(v)
			k := added
			if m.Header.Type == unix.RTM_DELADDR {
				k = removed
			}
			out = append(out, message{k, ip.Unmap(), place{id, binary.NativeEndian.Uint32(m.Data[4:]), m.Data[1]}})
		}
	}
	return out
}

// nsid reads which namespace a datagram is from; far is false for the listener's own.
func nsid(control []byte) (id int32, far bool) {
	cs, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, false
	}
	for _, c := range cs {
		if c.Header.Level == unix.SOL_NETLINK && c.Header.Type == listenAllNSID && len(c.Data) >= 4 {
			return int32(binary.NativeEndian.Uint32(c.Data)), true
		}
	}
	return 0, false
}

func attributes(b []byte) map[uint16][]byte {
	as := map[uint16][]byte{}
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			break
		}
		as[binary.NativeEndian.Uint16(b[2:])] = b[unix.SizeofRtAttr:n]
		b = b[min((n+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1), len(b)):]
	}
	return as
}

package address

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// endBudget is how long connections may be ended before the address goes: the next
// holder waits for its release. Ending 10,000 takes about 100 ms.
const endBudget = 200 * time.Millisecond

// endBatch is how many sockets one message ends; their answers fit into the
// smallest receive buffer.
const endBatch = 32

// errCannotEnd says that this kernel has no way to end other programs' sockets.
var errCannotEnd = errors.New("this kernel can't end sockets (it was built without CONFIG_INET_DIAG_DESTROY)")

// ender ends the connections whose local address is the target, until a moment (the
// zero time: all), and returns those it ended.
type ender interface {
	end(t target, until time.Time) ([]connection, error)
}

// endConnections never fails: that the address goes is what matters, and a client
// that is not told finds out by itself, later.
func (m *Manager) endConnections(t target, until time.Time) []connection {
	ended, err := m.enders.end(t, until)
	switch {
	case errors.Is(err, errCannotEnd):
		m.noEndsOnce.Do(func() {
			m.o.Log.Warn("connections on a dropped address are left to their clients' timeouts", zap.Error(err))
		})
	case err != nil:
		m.o.Log.Warn("connections on a dropped address were not all ended", zap.Stringer("address", t), zap.Error(err))
	}
	if len(ended) > 0 {
		m.o.Log.Info("connections ended", zap.Stringer("address", t), zap.Int("connections", len(ended)))
	}
	return ended
}

// kernelEnder uses sock_diag. It is called inside the namespace.
type kernelEnder struct{}

func (kernelEnder) end(t target, until time.Time) ([]connection, error) {
	families := []byte{unix.AF_INET6}
	if t.ip.Is4() {
		// A program that listens on :: has IPv4 connections as ::ffff:a.b.c.d.
		families = []byte{unix.AF_INET, unix.AF_INET6}
	}
	var all []connection
	for _, f := range families {
		cs, err := connections(f, t.ip)
		if err != nil {
			return nil, err
		}
		all = append(all, cs...)
	}
	if len(all) == 0 {
		return nil, nil
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	s := os.NewFile(uintptr(fd), "sock_diag")
	defer s.Close()
	var ended []connection
	for len(all) > 0 && (until.IsZero() || time.Now().Before(until)) {
		batch := all[:min(endBatch, len(all))]
		all = all[len(batch):]
		done, err := destroy(fd, batch)
		ended = append(ended, done...)
		if err != nil {
			return ended, err
		}
	}
	return ended, nil
}

// The states of TCP, as bits, that are a connection: all but CLOSE, LISTEN (a
// listener on the address serves again when it is back) and TIME_WAIT (nobody waits).
const connectionStates = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<8 | 1<<9 | 1<<11 | 1<<12

// connection is a socket as sock_diag names it.
type connection struct {
	family        byte
	id            [idLen]byte // with cookie, so that no other socket is meant
	local, remote netip.AddrPort
}

// Sizes of struct inet_diag_sockid, inet_diag_req_v2 and inet_diag_msg.
const (
	idLen         = 48
	requestLen    = 8 + idLen
	diagHeaderLen = 4 // family, state, timer, retransmits
)

const requestBytecode = 1 // INET_DIAG_REQ_BYTECODE

// connections lists those of one family whose local address is ip. The kernel
// filters, so a host with many others pays nothing.
func connections(family byte, ip netip.Addr) ([]connection, error) {
	req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
	body := diagRequest{family: family, states: connectionStates}.encode()
	// The library puts raw bytes behind attributes, so the attribute is encoded here too.
	req.AddRawData(append(body, nl.NewRtAttr(requestBytecode, localIs(ip)).Serialize()...))
	msgs, err := req.Execute(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY)
	if err != nil {
		return nil, fmt.Errorf("list connections on %s: %w", ip, err)
	}
	var all []connection
	for _, m := range msgs {
		c, err := decodeConnection(m)
		if err != nil {
			return nil, err
		}
		if c.local.Addr() == ip {
			all = append(all, c)
		}
	}
	return all, nil
}

// diagRequest is a struct inet_diag_req_v2 for TCP.
type diagRequest struct {
	family byte
	states uint32
	id     [idLen]byte
}

func (r diagRequest) encode() []byte {
	b := make([]byte, requestLen)
	b[0], b[1] = r.family, unix.IPPROTO_TCP
	nl.NativeEndian().PutUint32(b[4:], r.states)
	copy(b[8:], r.id[:])
	return b
}

// localIs is the kernel's filter program for "the local address is ip"; for an IPv4
// address it is true of the IPv6 form of it too. One instruction: on yes to the end of
// the program, which accepts; on no beyond it, which refuses.
func localIs(ip netip.Addr) []byte {
	const sourceCondition = 7 // INET_DIAG_BC_S_COND
	addr := ip.AsSlice()
	length := 4 + 8 + len(addr)
	b := make([]byte, length)
	b[0], b[1] = sourceCondition, byte(length)
	nl.NativeEndian().PutUint16(b[2:], uint16(length+4))
	b[4], b[5] = unix.AF_INET6, byte(ip.BitLen())
	if ip.Is4() {
		b[4] = unix.AF_INET
	}
	nl.NativeEndian().PutUint32(b[8:], ^uint32(0)) // any port
	copy(b[12:], addr)
	return b
}

// decodeConnection reads a struct inet_diag_msg. An IPv4 address in IPv6 form is
// returned as IPv4.
func decodeConnection(b []byte) (connection, error) {
	if len(b) < diagHeaderLen+idLen {
		return connection{}, errors.New("a sock_diag message is too short")
	}
	c := connection{family: b[0], id: [idLen]byte(b[diagHeaderLen:])}
	at := func(i int) netip.Addr {
		if c.family == unix.AF_INET {
			return netip.AddrFrom4([4]byte(c.id[i:]))
		}
		return netip.AddrFrom16([16]byte(c.id[i:])).Unmap()
	}
	port := func(i int) uint16 { return uint16(c.id[i])<<8 | uint16(c.id[i+1]) }
	c.local = netip.AddrPortFrom(at(4), port(0))
	c.remote = netip.AddrPortFrom(at(20), port(2))
	return c, nil
}

// destroy ends a batch and returns what was ended; what had ended by itself is no error.
func destroy(fd int, batch []connection) ([]connection, error) {
	var out []byte
	for i, c := range batch {
		req := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
		req.Seq = uint32(i)
		req.AddRawData(diagRequest{family: c.family, states: ^uint32(0), id: c.id}.encode())
		out = append(out, req.Serialize()...)
	}
	if err := unix.Sendto(fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("end connections: %w", err)
	}
	var ended []connection
	var errs []error
	b := make([]byte, 16<<10)
	for answers := 0; answers < len(batch); {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return ended, fmt.Errorf("end connections: %w", err)
		}
		msgs, err := syscall.ParseNetlinkMessage(b[:n])
		if err != nil {
			return ended, fmt.Errorf("end connections: %w", err)
		}
		for _, m := range msgs {
			if m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 || int(m.Header.Seq) >= len(batch) {
				continue
			}
			answers++
			switch errno := unix.Errno(-int32(nl.NativeEndian().Uint32(m.Data))); errno {
			case 0:
				ended = append(ended, batch[m.Header.Seq])
			case unix.ENOENT:
			case unix.EOPNOTSUPP:
				return ended, errCannotEnd
			default:
				errs = append(errs, fmt.Errorf("end the connection with %s: %w", batch[m.Header.Seq].remote, errno))
			}
		}
	}
	return ended, errors.Join(errs...)
}

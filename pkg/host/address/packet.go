package address

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// wire is a packet socket on one interface: whole ARP or IPv6 packets go in and
// come out, the kernel makes and takes off the Ethernet header.
type wire struct {
	file  *os.File
	index int
	proto uint16 // in network order
}

// networkOrder is a number whose bytes in memory are v's in network order, which
// packet sockets want.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// advertisementsOnly is a classic BPF program: of all IPv6 packets only neighbour
// advertisements. The interface of a database carries millions of others.
var advertisementsOnly = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 6}, // next header
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: icmp6, Jf: 3},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: ip6HeaderLen}, // type
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: ndAdvertisement, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: maxNeighbourWire},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
}

// openWire opens a packet socket for ethertype on an interface. It is called inside
// the namespace. Without listen nothing is ever received.
func openWire(index int, ethertype uint16, listen bool) (*wire, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket (it needs CAP_NET_RAW): %w", err)
	}
	w := &wire{index: index, proto: networkOrder(ethertype)}
	if listen {
		// The filter comes before the socket is bound, so nothing slips past it.
		if ethertype == unix.ETH_P_IPV6 {
			prog := unix.SockFprog{Len: uint16(len(advertisementsOnly)), Filter: &advertisementsOnly[0]}
			err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog)
		}
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: w.proto, Ifindex: index})
		}
		if err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("listen on interface %d: %w", index, err)
		}
	}
	w.file = os.NewFile(uintptr(fd), "packet socket")
	return w, nil
}

func (w *wire) close() { w.file.Close() }

func (w *wire) send(to hardware, packet []byte) error {
	c, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	sa := &unix.SockaddrLinklayer{Protocol: w.proto, Ifindex: w.index, Halen: uint8(len(to))}
	copy(sa.Addr[:], to[:])
	var sent error
	err = c.Write(func(fd uintptr) bool {
		sent = unix.Sendto(int(fd), packet, 0, sa)
		return !errors.Is(sent, unix.EAGAIN)
	})
	return errors.Join(err, sent)
}

// receive calls got with each packet from others until the deadline or the end of ctx.
func (w *wire) receive(ctx context.Context, until time.Time, got func(packet []byte)) error {
	if err := w.file.SetReadDeadline(until); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = w.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	c, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	b := make([]byte, maxNeighbourWire)
	for {
		var n int
		var from unix.Sockaddr
		var failed error
		err := c.Read(func(fd uintptr) bool {
			n, from, failed = unix.Recvfrom(int(fd), b, 0)
			return !errors.Is(failed, unix.EAGAIN)
		})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return ctx.Err()
		case err != nil:
			return err
		case errors.Is(failed, unix.EINTR):
			continue
		case failed != nil:
			return failed
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING {
			got(b[:n])
		}
	}
}

package address

import (
	"encoding/binary"
	"net/netip"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// tickleAfter is when clients are asked: the next holder comes within about a
// second, and at the latest after lifetime + 1 s.
var tickleAfter = []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}

// maxTickled bounds what is remembered of clients.
const maxTickled = 10_000

// tickle makes the clients of connections that were ended without a word find out.
//
// A connection that is ended after its IPv4 address went can't be reset: the kernel
// sends nothing from an address it does not have. There are some: a client that is
// reset connects again within a millisecond and gets in before the address goes. It
// would wait for an answer until its keepalive gives up, two hours by default. So it is
// sent a segment that makes no sense; it answers with where it is; the answer goes to
// the address's next holder, which knows of no such connection and resets it, with
// the right sequence number. (CTDB's takeover does the same from the other side.)
func (m *Manager) tickle(t target, ended []connection) {
	if !t.ip.Is4() || len(ended) == 0 || m.life.Err() != nil {
		return // the kernel does send from an IPv6 address that went
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err != nil {
		m.o.Log.Warn("clients of ended connections are left to their timeouts", zap.Error(err))
		return
	}
	ended = ended[:min(len(ended), maxTickled)]
	m.tickles.Go(func() {
		defer unix.Close(fd)
		start := time.Now()
		for _, after := range tickleAfter {
			select {
			case <-m.life.Done():
				return
			case <-time.After(time.Until(start.Add(after))):
			}
			for _, c := range ended {
				to := &unix.SockaddrInet4{Addr: c.remote.Addr().As4()}
				if err := unix.Sendto(fd, nonsense(c.local, c.remote), 0, to); err != nil {
					m.o.Log.Debug("a client was not asked", zap.Stringer("client", c.remote), zap.Error(err))
				}
			}
		}
	})
}

// nonsense is an IPv4 packet with a TCP acknowledgement of nothing: outside of
// whatever window the receiver has, so it answers with its own state and changes none.
func nonsense(from, to netip.AddrPort) []byte {
	const ipLen, tcpLen = 20, 20
	b := make([]byte, ipLen+tcpLen)
	b[0], b[8], b[9] = 4<<4|ipLen/4, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(b[2:], ipLen+tcpLen)
	copy(b[12:], from.Addr().AsSlice())
	copy(b[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[10:], checksum(0, b[:ipLen]))
	s := b[ipLen:]
	binary.BigEndian.PutUint16(s, from.Port())
	binary.BigEndian.PutUint16(s[2:], to.Port())
	s[12], s[13] = tcpLen/4<<4, 1<<4 // ACK
	binary.BigEndian.PutUint16(s[16:], checksum(pseudo(from.Addr(), to.Addr(), unix.IPPROTO_TCP, tcpLen), s))
	return b
}

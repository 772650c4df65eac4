package address

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/vishvananda/netlink/nl"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Watch calls changed whenever the kernel says that the address appeared or went,
// until ctx ends; it calls once at the start. A refresh is no change. A netlink
// socket that is lost, or that lost messages because there were too many, is
// reopened, which is followed by a call. changed may take its time: it is called
// by the goroutine that called Watch.
func (m *Manager) Watch(ctx context.Context, a plan.Address, changed func(held bool)) {
	t, err := parse(a)
	if err != nil {
		m.o.Log.Error("an address can't be watched", zap.Error(err))
		<-ctx.Done()
		return
	}
	retry := backoff.NewExponentialBackOff(backoff.WithInitialInterval(20*time.Millisecond), backoff.WithMaxInterval(time.Second), backoff.WithMaxElapsedTime(0))
	for ctx.Err() == nil {
		seen, err := m.watchOnce(ctx, t, changed)
		if ctx.Err() != nil {
			return
		}
		m.o.Log.Warn("watching an address begins anew", zap.Stringer("address", t), zap.Error(err))
		if seen {
			retry.Reset()
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry.NextBackOff()):
		}
	}
}

// watchOnce watches until the socket is lost. seen: it worked before.
func (m *Manager) watchOnce(ctx context.Context, t target, changed func(held bool)) (seen bool, err error) {
	var f *os.File
	at := map[place]bool{}
	// Subscribed first and listed then: what happens between is in both.
	err = m.in(func() error {
		if f, err = subscribe(t, m.watchBuffer); err != nil {
			return err
		}
		all, err := addresses(netlinkFamily(t))
		for _, c := range all {
			if c.is(t) {
				at[place{c.index, c.prefix.Bits()}] = true
			}
		}
		return err
	})
	if f != nil {
		defer f.Close()
	}
	if err != nil {
		return false, err
	}
	changed(len(at) > 0)
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b := make([]byte, 64<<10)
	for {
		n, err := f.Read(b)
		if err != nil {
			return true, err
		}
		msgs, err := syscall.ParseNetlinkMessage(b[:n])
		if err != nil {
			return true, err
		}
		for _, msg := range msgs {
			before := len(at) > 0
			if err := follow(at, t, msg); err != nil {
				return true, err
			}
			if after := len(at) > 0; after != before {
				changed(after)
			}
		}
	}
}

// place is one occurrence of an address.
type place struct{ index, bits int }

// follow changes at by what a message says about the target.
func follow(at map[place]bool, t target, msg syscall.NetlinkMessage) error {
	if msg.Header.Type != unix.RTM_NEWADDR && msg.Header.Type != unix.RTM_DELADDR {
		return nil
	}
	ip, p, err := addressMessage(msg.Data)
	if err != nil {
		return err
	}
	if ip != t.ip {
		return nil
	}
	if msg.Header.Type == unix.RTM_NEWADDR {
		at[p] = true
	} else {
		delete(at, p)
	}
	return nil
}

// addressMessage reads which address a message is about. IFA_LOCAL is the host's own
// where the two differ (a point-to-point interface).
func addressMessage(data []byte) (netip.Addr, place, error) {
	if len(data) < unix.SizeofIfAddrmsg {
		return netip.Addr{}, place{}, errors.New("a netlink message is too short")
	}
	p := place{index: int(nl.NativeEndian().Uint32(data[4:])), bits: int(data[1])} // struct ifaddrmsg
	var ip netip.Addr
	for b := data[unix.SizeofIfAddrmsg:]; len(b) >= unix.SizeofRtAttr; {
		length, kind := int(nl.NativeEndian().Uint16(b)), nl.NativeEndian().Uint16(b[2:])
		if length < unix.SizeofRtAttr || length > len(b) {
			return netip.Addr{}, place{}, errors.New("a netlink message has a broken attribute")
		}
		got, ok := netip.AddrFromSlice(b[unix.SizeofRtAttr:length])
		if ok && (kind == unix.IFA_LOCAL || kind == unix.IFA_ADDRESS && !ip.IsValid()) {
			ip = got
		}
		const align = unix.RTA_ALIGNTO - 1
		b = b[min((length+align)&^align, len(b)):]
	}
	return ip, p, nil
}

// subscribe opens a socket on which the kernel tells of the target's family. It is
// called inside the namespace.
func subscribe(t target, buffer int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	group := uint32(unix.RTNLGRP_IPV4_IFADDR)
	if !t.ip.Is4() {
		group = unix.RTNLGRP_IPV6_IFADDR
	}
	if buffer > 0 {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (group - 1)})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen to the kernel about addresses: %w", err)
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

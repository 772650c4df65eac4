package address

import (
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// placeFor is how long an address that is where it was put is only refreshed: looking
// at every interface and route each second costs several times as much as that.
const placeFor = 5 * time.Second

// places remembers where addresses were put, and has a socket to refresh them there.
type places struct {
	mu sync.Mutex
	nl *netlink.Handle // nil until it is needed
	of map[plan.Address]spot
}

type spot struct {
	in netInterface
	at time.Time // when it was looked for
}

func (p *places) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetSocket()
}

func (p *places) forgetSocket() {
	if p.nl != nil {
		p.nl.Close()
		p.nl = nil
	}
}

// put notes where the address is now; forget that nobody knows.
func (p *places) put(a plan.Address, in netInterface, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[plan.Address]spot{}
	}
	p.of[a] = spot{in, now}
}

func (p *places) forget(a plan.Address) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.of, a)
}

// refresh renews the lifetime of an address that is where it was put not long ago,
// and nowhere else. done false: it has to be looked for; nothing was changed, or only
// that very lifetime.
func (m *Manager) refresh(t target, a plan.Address, start time.Time, lifetime time.Duration) (done bool) {
	p := &m.places
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.of[a]
	if !ok || start.Sub(known.at) > placeFor {
		return false
	}
	delete(p.of, a) // unless all goes well
	h, err := m.sameHost(t)
	if err != nil {
		p.forgetSocket()
		return false
	}
	own := h.own(t, known.in)
	if len(h.copies) != 1 || h.copies[0].index != own.index || h.copies[0].prefix != own.prefix {
		return false
	}
	if m.give(h, t, known.in, start, lifetime) != nil {
		return false
	}
	p.of[a] = known
	return true
}

// sameHost is look without the interfaces, over the standing socket. The caller holds
// the places' mu.
func (m *Manager) sameHost(t target) (*host, error) {
	p := &m.places
	if p.nl == nil {
		err := m.in(func() (err error) {
			p.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("open netlink: %w", err)
		}
	}
	h := &host{nl: p.nl, family: netlinkFamily(t)}
	all, err := addressesBy(p.nl.AddrList, h.family)
	if err != nil {
		return nil, err
	}
	h.see(t, all)
	return h, nil
}

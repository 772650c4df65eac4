package address

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// probes is how often Probe asks, evenly over its wait: a question or an answer can
// be lost.
const probes = 3

// Announce tells the network once that this host has the address: a gratuitous ARP
// request and reply, or an unsolicited neighbour advertisement. On an interface that
// resolves no addresses (loopback) there is nobody to tell, which is success. An
// address that is not here is ErrNotHeld.
func (m *Manager) Announce(ctx context.Context, a plan.Address) error {
	t, err := parse(a)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = m.in(func() error { return m.announce(t) })
	}
	if err != nil {
		return fmt.Errorf("announce %s: %w", a.Address, err)
	}
	return nil
}

func (m *Manager) announce(t target) error {
	h, err := m.look(t)
	if err != nil {
		return err
	}
	defer h.close()
	if len(h.copies) == 0 {
		return ErrNotHeld
	}
	var errs []error
	for _, c := range h.copies {
		for _, in := range h.interfaces {
			if in.index == c.index && !in.silent {
				errs = append(errs, announceOn(t, in))
			}
		}
	}
	return errors.Join(errs...)
}

func announceOn(t target, in netInterface) error {
	hw, err := in.ethernet()
	if err != nil {
		return err
	}
	ethertype := uint16(unix.ETH_P_ARP)
	if !t.ip.Is4() {
		ethertype = unix.ETH_P_IPV6
	}
	w, err := openWire(in.index, ethertype, false)
	if err != nil {
		return err
	}
	defer w.close()
	if !t.ip.Is4() {
		return w.send(allNodes6, unsolicited(t.ip, hw).encode())
	}
	for _, p := range announcements(t.ip, hw) {
		if err := w.send(broadcast, p.encode()); err != nil {
			return err
		}
	}
	return nil
}

func (in netInterface) ethernet() (hardware, error) {
	if len(in.hardware) != len(hardware{}) {
		return hardware{}, fmt.Errorf("interface %s has the hardware address %q; only Ethernet is supported", in.name, in.hardware)
	}
	return hardware(in.hardware), nil
}

// Probe asks the network who answers for the address (an ARP request from 0.0.0.0,
// or a neighbour solicitation from ::, neither of which changes what others
// remember), and listens for as long as wait. It returns hardware addresses, sorted,
// without any of this host's own interfaces. From a host that has the address it
// finds a second one. On an interface that resolves no addresses there is nobody.
func (m *Manager) Probe(ctx context.Context, a plan.Address, wait time.Duration) ([]net.HardwareAddr, error) {
	t, err := parse(a)
	var p *prober
	if err == nil {
		err = m.in(func() error { p, err = m.prober(t); return err })
	}
	var found []net.HardwareAddr
	if err == nil && p != nil {
		found, err = p.run(ctx, wait)
	}
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", a.Address, err)
	}
	return found, nil
}

// prober is one Probe under way.
type prober struct {
	t     target
	w     *wire
	to    hardware
	ask   []byte
	own   map[hardware]bool
	found map[hardware]bool
}

// prober prepares a Probe; nil: there is nobody to ask.
func (m *Manager) prober(t target) (*prober, error) {
	h, err := m.look(t)
	if err != nil {
		return nil, err
	}
	defer h.close()
	in, err := choose(t, h.interfaces, h.routes)
	if err != nil {
		return nil, err
	}
	if in.silent {
		return nil, nil
	}
	hw, err := in.ethernet()
	if err != nil {
		return nil, err
	}
	p := &prober{t: t, own: map[hardware]bool{}, found: map[hardware]bool{}}
	for _, i := range h.interfaces {
		if len(i.hardware) == len(hardware{}) {
			p.own[hardware(i.hardware)] = true
		}
	}
	ethertype := uint16(unix.ETH_P_ARP)
	if t.ip.Is4() {
		p.to, p.ask = broadcast, probe(t.ip, hw).encode()
	} else {
		ethertype = unix.ETH_P_IPV6
		p.to, p.ask = ethernet(solicited(t.ip)), solicitation(t.ip).encode()
	}
	p.w, err = openWire(in.index, ethertype, true)
	return p, err
}

func (p *prober) run(ctx context.Context, wait time.Duration) ([]net.HardwareAddr, error) {
	defer p.w.close()
	start := time.Now()
	for i := range probes {
		if err := p.w.send(p.to, p.ask); err != nil {
			return nil, err
		}
		until := start.Add(wait * time.Duration(i+1) / probes)
		if err := p.w.receive(ctx, until, p.take); err != nil {
			return nil, err
		}
	}
	var out []net.HardwareAddr
	for hw := range p.found {
		out = append(out, net.HardwareAddr(hw[:]))
	}
	slices.SortFunc(out, func(a, b net.HardwareAddr) int { return bytes.Compare(a, b) })
	return out, nil
}

// take notes who claims the address in a packet; what is no such packet is none.
func (p *prober) take(packet []byte) {
	var hw hardware
	var claims bool
	if p.t.ip.Is4() {
		if a, err := decodeARP(packet); err == nil {
			hw, claims = a.claims(p.t.ip)
		}
	} else if n, err := decodeNeighbour(packet); err == nil {
		hw, claims = n.claims(p.t.ip)
	}
	if claims && !p.own[hw] {
		p.found[hw] = true
	}
}

package agenttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Addresses is a kernel with virtual addresses: they end when their lifetime does.
type Addresses struct {
	mu        sync.Mutex
	held      map[string]*heldAddress
	watchers  map[chan struct{}]string
	announced int
	others    []net.HardwareAddr
	conns     map[string][]chan struct{}
	fail      error
}

type heldAddress struct {
	timer *time.Timer // nil: for ever
}

func newAddresses() *Addresses {
	return &Addresses{held: map[string]*heldAddress{}, watchers: map[chan struct{}]string{}, conns: map[string][]chan struct{}{}}
}

// Addresses is the host's kernel as far as virtual addresses go.
func (h *Host) Addresses() *Addresses { return h.addrs }

// List returns the addresses that are on the host, sorted.
func (k *Addresses) List() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	for a := range k.held {
		out = append(out, a)
	}
	slices.Sort(out)
	return out
}

// AddByHand puts an address on the host for ever; RemoveByHand takes it off.
func (k *Addresses) AddByHand(address string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.putLocked(address, nil)
}

// RemoveByHand takes an address off the host.
func (k *Addresses) RemoveByHand(address string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.removeLocked(address)
}

// SetOthers sets who else answers for the address on the network.
func (k *Addresses) SetOthers(macs ...net.HardwareAddr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.others = macs
}

// Fail makes Hold fail; nil ends it.
func (k *Addresses) Fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = err
}

// Announced counts what the network was told.
func (k *Addresses) Announced() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.announced
}

// Connect opens a connection to the address; the channel is closed when it ends.
func (k *Addresses) Connect(address string) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := make(chan struct{})
	k.conns[address] = append(k.conns[address], c)
	return c
}

func (k *Addresses) putLocked(address string, timer *time.Timer) {
	old := k.held[address]
	if old != nil && old.timer != nil {
		old.timer.Stop()
	}
	k.held[address] = &heldAddress{timer}
	if old == nil {
		k.tellLocked(address)
	}
}

func (k *Addresses) removeLocked(address string) bool {
	old := k.held[address]
	if old == nil {
		return false
	}
	if old.timer != nil {
		old.timer.Stop()
	}
	delete(k.held, address)
	k.tellLocked(address)
	return true
}

func (k *Addresses) tellLocked(address string) {
	for c, a := range k.watchers {
		if a == address {
			c <- struct{}{} // buffered far beyond what any test does
		}
	}
}

// Hold implements agent.Addresses.
func (k *Addresses) Hold(ctx context.Context, a plan.Address, lifetime time.Duration) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case k.fail != nil:
		return false, k.fail
	case lifetime < time.Second:
		return false, fmt.Errorf("hold %s: a lifetime of %s", a.Address, lifetime)
	}
	_, had := k.held[a.Address]
	var timer *time.Timer
	timer = time.AfterFunc(lifetime, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if now := k.held[a.Address]; now != nil && now.timer == timer {
			k.removeLocked(a.Address)
		}
	})
	k.putLocked(a.Address, timer)
	return !had, nil
}

// Drop implements agent.Addresses.
func (k *Addresses) Drop(_ context.Context, a plan.Address) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.conns[a.Address] {
		close(c)
	}
	delete(k.conns, a.Address)
	return k.removeLocked(a.Address), nil
}

// Announce implements agent.Addresses.
func (k *Addresses) Announce(_ context.Context, a plan.Address) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held[a.Address] == nil {
		return errors.New("this host does not have the address")
	}
	k.announced++
	return nil
}

// Held implements agent.Addresses.
func (k *Addresses) Held(_ context.Context, a plan.Address) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held[a.Address] != nil, nil
}

// Watch implements agent.Addresses.
func (k *Addresses) Watch(ctx context.Context, a plan.Address, changed func(bool)) {
	if ctx.Err() != nil {
		return
	}
	c := make(chan struct{}, 1000)
	k.mu.Lock()
	k.watchers[c] = a.Address
	last := k.held[a.Address] != nil
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		delete(k.watchers, c)
		k.mu.Unlock()
	}()
	changed(last)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c:
			last = !last // each tells of one change
			changed(last)
		}
	}
}

// Probe implements agent.Addresses.
func (k *Addresses) Probe(ctx context.Context, _ plan.Address, wait time.Duration) ([]net.HardwareAddr, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(wait):
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.others), nil
}

// SetPatroni sets what GET /primary on loopback answers; nil: yes while PostgreSQL
// runs, since who does not lead is not asked.
func (h *Host) SetPatroni(f func() (leads bool, err error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.patroni = f
}

type loopback struct{ h *Host }

// Leads implements agent.LocalPatroni.
func (l loopback) Leads(ctx context.Context, _ plan.Member) (bool, time.Time, error) {
	l.h.mu.Lock()
	f, leads := l.h.patroni, l.h.local.Reachable
	l.h.mu.Unlock()
	if f == nil {
		return leads, time.Now().Round(0), ctx.Err()
	}
	leads, err := f()
	return leads, time.Now().Round(0), err
}

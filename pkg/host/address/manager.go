package address

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// ErrLate is returned by Hold when the whole lifetime had passed before the kernel
// could be told. The address is not here then.
var ErrLate = errors.New("the lifetime was over before the address was there")

// ErrNotHeld is returned by Announce for an address that this host does not have:
// telling the network otherwise would take it from who has it.
var ErrNotHeld = errors.New("this host does not have the address")

// grace is how much longer than asked an address may live because the kernel
// counts whole seconds: without it 5 s asked would always be 4 s given.
const grace = 200 * time.Millisecond

// Options are what a Manager needs; the zero value is ready for use.
type Options struct {
	// Log gets what is worth knowing and no error. Nil: nothing is logged.
	Log *zap.Logger
	// Namespace is the path of the network namespace to act in, as in
	// /run/netns/blue; empty: the process's own. Another one needs CAP_SYS_ADMIN.
	Namespace string
}

// Manager is the driver of virtual addresses. Its methods may be called by several
// goroutines at once; for one address the caller puts them in order.
type Manager struct {
	o   Options
	now func() time.Time
	// enders ends connections; a test takes the kernel's ability away.
	enders     ender
	noEndsOnce sync.Once
	life       context.Context
	cancel     context.CancelFunc
	background sync.WaitGroup
	places     places
	// watchBuffer is the size of Watch's receive buffer in bytes; 0: the kernel's default.
	watchBuffer int
}

// New returns a Manager. Close it to end what it does in the background.
func New(o Options) *Manager {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	life, cancel := context.WithCancel(context.Background())
	return &Manager{o: o, now: time.Now, enders: kernelEnder{}, life: life, cancel: cancel}
}

// Close ends what still runs in the background. Addresses stay as they are.
func (m *Manager) Close() {
	m.cancel()
	m.background.Wait()
	m.places.close()
}

// Hold adds the address with the given lifetime, or refreshes it; the kernel drops
// it when no refresh comes. The lifetime counts from this call and is at least 1 s;
// the kernel knows whole seconds, so a fraction is cut off. added says that it was
// not here before; taking over a copy is no addition. A refresh is one act and leaves
// no gap.
//
// When no interface is fit the error is a *plan.Refusal with the next command. When ctx
// has ended by the time the kernel has answered, an addition is taken back. ErrLate: see there.
func (m *Manager) Hold(ctx context.Context, a plan.Address, lifetime time.Duration) (added bool, err error) {
	start := m.now()
	t, err := parse(a)
	if err != nil {
		return false, err
	}
	if lifetime < time.Second {
		return false, fmt.Errorf("hold %s: a lifetime of %s; the kernel counts whole seconds", t, lifetime)
	}
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("hold %s: %w", t, err)
	}
	if m.refresh(t, a, start, lifetime) {
		return false, nil
	}
	err = m.in(func() error {
		h, err := m.look(t)
		if err != nil {
			return err
		}
		defer h.close()
		in, err := choose(t, h.interfaces, h.routes)
		if err != nil {
			return err
		}
		added = len(h.copies) == 0
		if err := m.give(h, t, in, start, lifetime); err != nil {
			return err
		}
		if err := over(ctx, m.now()); err != nil && added {
			added = false
			return errors.Join(err, h.remove(h.own(t, in)))
		}
		if err := h.removeOthers(t, in); err != nil {
			return err
		}
		m.places.put(a, in, start)
		return nil
	})
	if err != nil {
		return added && !errors.Is(err, ErrLate), fmt.Errorf("hold %s: %w", t, err)
	}
	return added, nil
}

// give tells the kernel the lifetime that is left, again if that took so long that
// less is left now.
func (m *Manager) give(h *host, t target, in netInterface, start time.Time, lifetime time.Duration) error {
	left := func() int { return int((lifetime - m.now().Sub(start) + grace) / time.Second) }
	given := -1 // nothing yet
	for seconds := left(); seconds != given; seconds = left() {
		if seconds < 1 {
			if given < 0 {
				return ErrLate
			}
			return errors.Join(ErrLate, h.remove(h.own(t, in)))
		}
		if err := h.replace(t, in, seconds); err != nil {
			return err
		}
		if given > 0 {
			m.o.Log.Warn("the kernel was slow to take an address; its lifetime was shortened", zap.Stringer("address", t), zap.Int("seconds", seconds))
		}
		given = seconds
	}
	return nil
}

// over is ctx.Err without waiting for a timer: a process that was stopped and
// continued finds its deadline passed before the timer says so.
func over(ctx context.Context, now time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d, ok := ctx.Deadline(); ok && !now.Before(d) {
		return context.DeadlineExceeded
	}
	return nil
}

// Drop ends the connections on the address and removes it from every interface. An
// absent address is success, and connections that it left behind are ended all
// the same. removed: it was here. Of thousands of connections the last are ended
// in the background; those that are made after Drop are none of them.
//
// It is done also when ctx has ended: nothing is asked that could take long, and an
// address that must go must not stay because somebody was in a hurry.
func (m *Manager) Drop(_ context.Context, a plan.Address) (removed bool, err error) {
	t, err := parse(a)
	if err != nil {
		return false, err
	}
	m.places.forget(a)
	err = m.in(func() error {
		h, err := m.look(t)
		if err != nil {
			return err
		}
		defer h.close()
		if len(h.copies) > 0 {
			m.endConnections(t, m.now().Add(endBudget))
		}
		for _, c := range h.copies {
			if err := h.remove(c); err != nil {
				return err
			}
			removed = true
		}
		late, left := m.endConnections(t, m.now().Add(lateBudget))
		m.endRest(t, left)
		m.tickle(t, late)
		return nil
	})
	if err != nil {
		return removed, fmt.Errorf("drop %s: %w", t, err)
	}
	return removed, nil
}

// Held reports whether the address is on this host now, on whatever interface and
// under whatever prefix length.
func (m *Manager) Held(ctx context.Context, a plan.Address) (bool, error) {
	t, err := parse(a)
	if err != nil {
		return false, err
	}
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("look for %s: %w", t, err)
	}
	var held bool
	err = m.in(func() error {
		addrs, err := addresses(netlinkFamily(t))
		for _, c := range addrs {
			held = held || c.is(t)
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", t, err)
	}
	return held, nil
}

// netlinkFamily is the address family in netlink's terms, which are the kernel's.
func netlinkFamily(t target) int {
	if t.ip.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// gone tells the errors of removing what is not there any more.
func gone(err error) bool {
	return errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV)
}

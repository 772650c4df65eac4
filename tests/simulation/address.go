package simulation

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// kernel is a host's kernel as far as the virtual address goes: it drops the address
// when its lifetime is over, whoever is dead or stopped by then.
type kernel struct {
	h        *host
	holds    bool
	change   int // makes scheduled ends of lifetimes void
	watchers map[chan struct{}]bool
}

func (k *kernel) set(holds bool, why string) {
	k.change++
	if k.holds == holds {
		return
	}
	k.holds = holds
	word := "loses the address"
	if holds {
		word = "has the address"
	}
	k.h.w.say(k.h.node, "%s (%s)", word, why)
	for c := range k.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	k.h.w.check.holders()
}

// addresses is the kernel as one run of the agent sees it.
type addresses struct{ *rig }

// Hold implements agent.Addresses.
//
// Unlike other acts, one that was decided before the process was stopped is not done
// when it goes on: the driver looks at its deadline, and takes back what it added too
// late. That it could be stopped exactly between that look and the kernel's call is
// not simulated; every pause would hit it.
func (a addresses) Hold(ctx context.Context, _ plan.Address, lifetime time.Duration) (added bool, err error) {
	return added, a.locked(func() error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		k := a.h.kernel
		added = !k.holds
		k.set(true, "agent")
		n := k.change
		k.h.w.after(lifetime, "lifetime "+a.h.node, func() {
			if k.change == n {
				k.set(false, "its lifetime is over")
			}
		})
		return nil
	})
}

// Drop implements agent.Addresses.
func (a addresses) Drop(context.Context, plan.Address) (removed bool, err error) {
	return removed, a.locked(func() error {
		removed = a.h.kernel.holds
		a.h.kernel.set(false, "agent")
		return nil
	})
}

// Announce implements agent.Addresses.
func (a addresses) Announce(context.Context, plan.Address) error {
	return a.locked(func() error {
		if !a.h.kernel.holds {
			return errors.New("this host does not have the address")
		}
		return nil
	})
}

// Held implements agent.Addresses.
func (a addresses) Held(context.Context, plan.Address) (held bool, err error) {
	return held, a.locked(func() error { held = a.h.kernel.holds; return nil })
}

// Watch implements agent.Addresses.
func (a addresses) Watch(ctx context.Context, ad plan.Address, changed func(bool)) {
	c := make(chan struct{}, 1)
	if a.locked(func() error { a.h.kernel.watchers[c] = true; return nil }) != nil {
		return
	}
	for {
		held, err := a.Held(ctx, ad)
		if err != nil {
			return
		}
		changed(held)
		select {
		case <-c:
		case <-ctx.Done():
			return
		}
	}
}

// Probe implements agent.Addresses.
func (a addresses) Probe(ctx context.Context, _ plan.Address, wait time.Duration) (macs []net.HardwareAddr, err error) {
	if err := a.takes(ctx, wait); err != nil {
		return nil, err
	}
	return macs, a.locked(func() error {
		for _, o := range a.h.w.hosts {
			if o != a.h && o.kernel.holds && a.h.reaches(o) {
				macs = append(macs, net.HardwareAddr{2, 0, 0, 0, 0, byte(o.n)})
			}
		}
		return nil
	})
}

// loopback is GET /primary of the host's own Patroni.
type loopback struct{ *rig }

// Leads implements agent.LocalPatroni.
func (l loopback) Leads(ctx context.Context, _ plan.Member) (leads bool, seen time.Time, err error) {
	hangs := false
	err = l.locked(func() error {
		p := l.h.pat
		if hangs = p.state == patPaused; hangs {
			return nil
		}
		if p.state != patRunning {
			return errors.New("connection refused")
		}
		leads, _ = p.says("/primary")
		seen = p.touched.Round(0)
		return nil
	})
	if hangs {
		<-ctx.Done()
		return false, time.Time{}, ctx.Err()
	}
	return leads, seen, err
}

// holders is R2's first half: no two hosts hold the address.
func (c *checker) holders() {
	var who []string
	for _, h := range c.w.hosts {
		if h.on && h.kernel.holds {
			who = append(who, h.node)
		}
	}
	if slices.Sort(who); len(who) > 1 {
		c.fail("R2", "%s hold the address at once", strings.Join(who, " and "))
	}
}

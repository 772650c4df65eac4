package agent

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// hand is what a person wants of the address here at this moment; nil: nothing.
func (v *vip) hand(now time.Time) *Override {
	o, held := v.c.a.overrides.get(OverrideVIP, v.c.name, now)
	if !held {
		return nil
	}
	return &o
}

func (o *Override) asHand() plan.Hand {
	if o == nil {
		return plan.Hand{}
	}
	return plan.Hand{Act: o.Act, Knowing: o.Knowing}
}

// checkHand says whether a person can take or drop the address here now. known says
// whether it is taken without etcd; warning is what should be known.
func (v *vip) checkHand(ctx context.Context, act plan.HandAct, knowing bool) (known bool, warning string, err error) {
	a := v.wanted()
	if a == nil {
		return false, "", fmt.Errorf("%w: %s has no virtual address on this node", ErrOverride, v.c.name)
	}
	switch act {
	case plan.HandDrop:
		return false, v.dropWarning(*a), nil
	case plan.HandTake:
	default:
		return false, "", fmt.Errorf("%w: %q of a virtual address; expected %s or %s", ErrOverride, act, plan.HandTake, plan.HandDrop)
	}
	others, err := v.askNetwork(ctx, *a)
	if err != nil {
		return false, "", fmt.Errorf("%w: the network can't be asked who has %s: %w", ErrOverride, a.Network, err)
	}
	now := time.Now()
	v.c.mu.Lock()
	h, _ := v.holdingLocked(*a, now, plan.Hand{Act: act, Knowing: knowing})
	v.c.mu.Unlock()
	h.Others = others
	switch why, unknown := h.RefuseTake(now); {
	case unknown:
		return false, "", fmt.Errorf("%w: %s; %s", ErrUnknown, why, lastSaid(h, now))
	case why != "":
		return false, "", fmt.Errorf("%w: %s", ErrOverride, why)
	}
	if h.Sees(now) {
		return false, "", nil
	}
	return true, "another node may take it as soon as it reaches etcd and leads; " + lastSaid(h, now), nil
}

// lastSaid is what etcd said last, for somebody who has to know better.
func lastSaid(h plan.Holding, now time.Time) string {
	v := h.View
	if !v.Known {
		return "this agent has not heard of etcd since it started"
	}
	leads, has := "nobody led", "nobody had the address"
	if v.Leader.Member != "" {
		leads = v.Leader.Member + " led"
	}
	if r := h.Record; r != nil && r.State == observed.VIPHeld {
		has = "node " + r.Node + " had the address"
	}
	ago := ""
	if !v.FreshAt.IsZero() {
		ago = fmt.Sprintf(" %s ago", now.Sub(v.FreshAt).Round(time.Second))
	}
	return fmt.Sprintf("etcd said last%s that %s and %s", ago, leads, has)
}

func (v *vip) dropWarning(a plan.Address) string {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	if !v.known.OnHost {
		return a.Network + " is not on this node; it will not be taken meanwhile"
	}
	return "no node has " + a.Network + " until another member leads, or this is over"
}

// askNetwork asks who else has the address.
func (v *vip) askNetwork(ctx context.Context, a plan.Address) (plan.NetworkReading, error) {
	at := time.Now()
	macs, err := v.c.a.o.Host.Addresses.Probe(ctx, a, probeWait)
	return plan.NetworkReading{AskedAt: at, Others: strings.Join(macNames(macs), " and ")}, err
}

func macNames(macs []net.HardwareAddr) []string {
	out := make([]string, len(macs))
	for i, m := range macs {
		out[i] = m.String()
	}
	return out
}

// readNetwork asks the network whenever the decision wants it.
func (v *vip) readNetwork(ctx context.Context, a plan.Address) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.wakeNetwork:
		}
		r, err := v.askNetwork(ctx, a)
		if err != nil {
			if ctx.Err() == nil {
				v.c.log.Warn("network not asked for the virtual address, which is held by hand", zap.Error(err))
			}
			continue
		}
		v.c.mu.Lock()
		v.known.Others = r
		v.c.mu.Unlock()
		poke(v.wake)
	}
}

// handDecided does what the decision says about a person's word, and has the report
// say what is held.
func (v *vip) handDecided(o *Override, d plan.HoldDecision) {
	c := v.c
	switch {
	case d.HandOver:
		if c.a.overrides.off(OverrideVIP, c.name, "", d.Because) {
			poke(v.wake)
		}
		o = nil
	case d.EtcdBack:
		c.a.overrides.etcdBack(c.name)
	}
	if d.AskNetwork {
		poke(v.wakeNetwork)
	}
	c.mu.Lock()
	news := (v.byHand == nil) != (o == nil) || o != nil && *v.byHand != *o
	v.byHand = o
	c.mu.Unlock()
	if news {
		poke(c.wakeWork)
	}
}

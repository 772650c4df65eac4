package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

const (
	// refusedEvery is how soon a Patroni that said no is asked again.
	refusedEvery = 100 * time.Millisecond
	// refusedFastFor bounds that: the Patroni of a standby cluster says no for ever.
	refusedFastFor = 10 * time.Second
	// leaseEvery is how often the lease is read, leaseTimeout how long that may take.
	leaseEvery   = 2 * time.Second
	leaseTimeout = time.Second
	// ConflictEvery is about how often each agent asks the network who has the address.
	ConflictEvery = 30 * time.Second
	probeWait     = 300 * time.Millisecond
	// probeAgain is the pause before a second opinion.
	probeAgain = 2 * time.Second
)

// concerned reports whether this node's member leads, may lead, or has the address;
// other nodes have nothing to ask.
func (v *vip) concerned() (plan.Member, bool) {
	c := v.c
	c.mu.Lock()
	defer c.mu.Unlock()
	own, member := c.info.Own()
	s := &c.state
	return own, member && (!s.view.Known || s.view.Leader.Member == own.Name || v.known.OnHost)
}

// askPatroni asks the local Patroni every second, and faster after a no.
func (v *vip) askPatroni(ctx context.Context, _ plan.Address) {
	for {
		own, ok := v.concerned()
		refused := false
		switch {
		case !ok:
			// What was said of an earlier leadership is no word about the next one.
			v.c.mu.Lock()
			v.known.Patroni = plan.PatroniReading{}
			v.c.mu.Unlock()
		default:
			refused = v.askOnce(ctx, own)
		}
		wait := v.c.a.o.Beat.Next(time.Now(), plan.PatroniEvery)
		if refused {
			wait = refusedEvery
		}
		if !idle.For(ctx, wait) {
			return
		}
	}
}

func (v *vip) askOnce(ctx context.Context, own plan.Member) (refused bool) {
	bounded, cancel := context.WithTimeout(ctx, ProbeTimeout)
	defer cancel()
	at := time.Now()
	leads, seen, err := v.c.a.o.Host.Patroni.Leads(bounded, own)
	if ctx.Err() != nil {
		return false
	}
	c := v.c
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &v.known.Patroni
	switch {
	case err != nil:
		return false // silence is no answer: the last word stays, and gets old
	case leads:
		*p, v.seen = plan.PatroniReading{YesAt: at}, seen
	case p.NoAt.IsZero():
		*p = plan.PatroniReading{NoAt: at}
	}
	poke(v.wake)
	return !leads && time.Since(p.NoAt) < refusedFastFor
}

// readLease reads how long the leader key's lease lasts while this member leads: at
// once when it begins to, then every two seconds.
func (v *vip) readLease(ctx context.Context, _ plan.Address) {
	client, ok := v.c.a.admittedClient(ctx)
	if !ok {
		return
	}
	again(ctx, v.wakeLease, func(ctx context.Context) time.Duration { return v.readOnce(ctx, client) })
}

func (v *vip) readOnce(ctx context.Context, client *store.Client) time.Duration {
	c := v.c
	c.mu.Lock()
	own, _ := c.info.Own()
	lease, leads := c.state.view.Leader.Lease, c.state.view.Leader.Member == own.Name && own.Name != ""
	c.mu.Unlock()
	next := c.a.o.Beat.Next(time.Now(), leaseEvery)
	if !leads || lease == 0 {
		return next
	}
	r, err := c.readLease(ctx, client, lease)
	if err != nil {
		return leaseEvery / 4
	}
	c.mu.Lock()
	v.known.Lease = r
	c.mu.Unlock()
	poke(v.wake)
	return next
}

// probe asks the network now and then who answers for the address. Every agent of the
// cluster does, the holder too: only others can see two answers where one is wrong.
func (v *vip) probe(ctx context.Context, a plan.Address) {
	for idle.For(ctx, ConflictEvery/2+rand.N(ConflictEvery)) {
		cond := v.probeOnce(ctx, a)
		for cond != nil && idle.For(ctx, probeAgain) {
			// A move may have been under way; only what is still so is said.
			cond = v.probeOnce(ctx, a)
			if cond != nil && v.setConflict(cond) {
				v.c.log.Error("virtual address in conflict", zap.String("message", cond.Message))
			}
			idle.For(ctx, probeAgain)
		}
		if ctx.Err() == nil && v.setConflict(cond) {
			v.c.log.Info("virtual address no longer in conflict", zap.String("address", a.Address))
		}
	}
}

// setConflict records the condition and reports whether that is news.
func (v *vip) setConflict(cond *observed.Condition) bool {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	if (v.conflict == nil) == (cond == nil) && (cond == nil || *v.conflict == *cond) {
		return false
	}
	v.conflict = cond
	poke(v.c.wakeWork)
	return true
}

func (v *vip) probeOnce(ctx context.Context, a plan.Address) *observed.Condition {
	macs, err := v.c.a.o.Host.Addresses.Probe(ctx, a, probeWait)
	if err != nil {
		if ctx.Err() == nil {
			v.c.log.Debug("network not asked for the virtual address", zap.Error(err))
		}
		return nil
	}
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	held := v.c.state.vip != nil && v.c.state.vip.State == observed.VIPHeld && v.c.state.vip.Node != v.c.a.o.Node
	return judge(a, macs, v.known.OnHost, held)
}

// judge says whether those who answered are too many: nobody else may while it is
// here, and only the holder otherwise.
func judge(a plan.Address, macs []net.HardwareAddr, here, elsewhere bool) *observed.Condition {
	allowed := 0
	if !here && elsewhere {
		allowed = 1
	}
	if len(macs) <= allowed {
		return nil
	}
	who := "answered for by " + strings.Join(macNames(macs), " and ")
	switch {
	case here:
		who += " too"
	case !elsewhere:
		who += ", and no node has it"
	default:
		who += ", and only one node has it"
	}
	return &observed.Condition{
		Type: observed.Healthy, Status: observed.False, Reason: observed.AddressConflict,
		Message: fmt.Sprintf("%s is %s", a.Network, who), Next: "ip neigh (find the host by its MAC)",
	}
}

// write gives the address to this node or gives it up, in a goroutine of its own and
// one at a time; it returns when to try again.
func (v *vip) write(ctx context.Context, a plan.Address, held bool) time.Duration {
	c := v.c
	client := c.a.client.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	wait := time.Until(v.notBefore)
	if client == nil || v.writing || wait > 0 {
		return max(wait, conflictPause)
	}
	s := c.lookLocked()
	own, _ := c.info.Own()
	r := observed.VIP{
		Address: a.Network, Node: c.a.o.Node, Member: own.Name, Epoch: int64(s.view.Leader.Epoch), State: observed.VIPReleased,
		Store: s.view.Store, UID: s.view.UID,
	}
	if !held && !s.vip.HeldBy(r.Node) {
		return plan.RefreshEvery // it was given up, or is another's, since this was decided
	}
	key, leader := c.a.o.Layout.VIPKey(c.name), c.a.o.Layout.Leader(c.name)
	guards := []store.Guard{store.ModIs(key, s.vipRev)}
	if held {
		r.State = observed.VIPHeld
		if s.view.Leader.Member == "" { // by hand
			guards = append(guards, store.ModIs(leader, 0))
		} else {
			guards = append(guards, store.ValueIs(leader, []byte(own.Name)), store.ModIs(leader, r.Epoch))
		}
	} else {
		// From here on it is given up, whether the write arrives or not: an answer that is
		// lost must not leave this agent believing that the address is still its own.
		v.given = s.vipRev
	}
	v.writing = true
	v.writes.Go(func() { v.commit(ctx, client, key, guards, r) })
	return plan.RefreshEvery
}

func (v *vip) commit(ctx context.Context, client *store.Client, key string, guards []store.Guard, r observed.VIP) {
	c := v.c
	rev, err := client.Commit(ctx, guards, []store.Op{store.Put(key, observed.Encode(r))})
	c.a.wrote(err)
	log := c.log.With(zap.String("key", key), zap.String("state", r.State), zap.Int64("epoch", r.Epoch))
	c.mu.Lock()
	v.writing = false
	switch {
	case err == nil:
		c.state.wroteVIP(r, rev)
	case errors.Is(err, store.ErrConflict):
		v.notBefore = time.Now().Add(conflictPause)
	default:
		v.notBefore = time.Now().Add(errorPause)
	}
	c.mu.Unlock()
	poke(v.wake)
	switch {
	case err == nil:
		log.Info("virtual address's record written", zap.Int64("revision", rev))
	case errors.Is(err, store.ErrConflict):
		log.Debug("virtual address's record overtaken", zap.Error(err))
	case ctx.Err() == nil:
		log.Warn("virtual address's record not written", zap.Error(err))
	}
}

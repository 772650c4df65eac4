package agent

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// vipLookEvery is how often the host is asked although the kernel said nothing.
const vipLookEvery = 5 * time.Second

// lookAtHost asks whether the address is here, when there is reason to. What differs
// from what this agent last did is drift (R9).
func (v *vip) lookAtHost(ctx context.Context, a plan.Address) bool {
	c := v.c
	c.mu.Lock()
	due := time.Since(v.looked) >= vipLookEvery
	c.mu.Unlock()
	if !v.look.Swap(false) && !due {
		return true
	}
	held, err := c.a.o.Host.Addresses.Held(ctx, a)
	if err != nil {
		v.look.Store(true)
		v.failed(err)
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	first := v.looked.IsZero()
	v.looked = time.Now()
	if !first && held != v.known.OnHost {
		v.driftLocked(a, held)
	}
	v.hereLocked(a, held, first, v.looked)
	return true
}

// driftLocked reports an address that came or went without this agent. One that ran
// out is no drift: nobody refreshed it, and that has its own reason.
func (v *vip) driftLocked(a plan.Address, held bool) {
	what := "added by somebody else"
	switch {
	case !held && time.Since(v.touched) >= plan.AddressLifetime-plan.RefreshEvery:
		return
	case !held:
		what = "removed by somebody else"
	}
	con := v.c.concerns[vipConcern]
	if con == nil {
		return
	}
	hash := plan.Hash(plan.Resources{a}, con.plan.Secrets)
	v.c.driftedLocked(con, a.ID(), hash, plan.Diff{what})
	con.applied[a.ID()] = hash // it is still followed
	v.c.repaired(con, a.ID())
	v.c.log.Warn("host drifted; repairing", zap.String("concern", vipConcern), zap.String("resource", a.ID()), zap.String("diff", what))
	poke(v.c.wakeWork)
}

// hereLocked notes whether the address is on this host, and since when; first: nothing
// was known of it before.
func (v *vip) hereLocked(a plan.Address, here, first bool, at time.Time) {
	changed := v.known.OnHost != here
	v.known.OnHost = here
	if changed {
		poke(v.c.wakeWork) // the report says who has it
	}
	if changed || first {
		v.c.moves.addressLocked(a, here, first, at)
	}
}

// holdingLocked is all that the decision is made of, at this moment. unsaid: this agent
// gave the address up, and etcd does not say so yet.
func (v *vip) holdingLocked(a plan.Address, now time.Time, hand plan.Hand) (h plan.Holding, unsaid bool) {
	c := v.c
	s := c.lookLocked()
	own, _ := c.info.Own()
	if v.clock.stepped(now) {
		v.known.SteppedAt = now
		c.log.Warn("the wall clock stepped; what was proven before is void until etcd is read again")
	}
	h = v.known
	h.Node, h.Member, h.Address, h.Hand = c.a.o.Node, own.Name, a.Network, hand
	h.View, h.LeaderAt = s.view, s.leaderAt
	// Before etcd was asked for the plan the address may be an older one's: it is kept if
	// it is here, as with an etcd that can't be believed, and not taken.
	h.Back, h.Usurped = s.back || c.foreignLocked() || c.a.waitsForPlans(now), c.a.usurped.Load()
	h.Impostor = impostor(s.view, own, true)
	h.Record = s.vip
	if s.vip != nil && s.vipRev == v.given {
		given := *s.vip
		unsaid = given.HeldBy(c.a.o.Node) && !h.Back && !h.Usurped
		given.State = observed.VIPReleased
		h.Record = &given
	}
	if h.Record != nil {
		h.HolderGoneAt = s.goneSince(h.Record.Node)
	}
	v.localLocked(s)
	h.Local = v.local
	if v.confirmedAt.IsZero() && s.view.Confirmed() && s.view.Leader.Member == own.Name && !h.OnHost {
		v.confirmedAt = now
	}
	return h, unsaid
}

// localLocked takes PostgreSQL's last answer in.
func (v *vip) localLocked(s state) {
	if v.c.watcher == nil {
		return
	}
	last, before := v.c.watcher.Last(), v.local
	// Before etcd was read nobody knows the cluster's identifier; Patroni's word is
	// needed then as well.
	ours := last.Reachable && (last.System == s.initialize || !s.view.Known)
	v.local = plan.LocalProof{At: last.At, Writable: ours && !last.InRecovery, InRecovery: ours && last.InRecovery, WritableAt: before.WritableAt}
	switch {
	case v.local.Writable:
		v.local.WritableAt = last.At
	case before.Writable:
		// It took writes until it did not: the answers in between were not looked at.
		v.local.WritableAt = last.At
	}
}

// decided notes the decision for people.
func (v *vip) decided(h plan.Holding, d plan.HoldDecision) {
	c := v.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.because != d.Because {
		c.log.Debug("virtual address", zap.String("because", d.Because), zap.Bool("here", h.OnHost))
	}
	v.because = d.Because
	same := (v.why == nil) == (d.Why == nil) && (d.Why == nil || *v.why == *d.Why)
	v.why = d.Why
	if !same {
		poke(c.wakeWork)
	}
}

// reportLocked adds what is to be known of the address to the concern's report.
func (v *vip) reportLocked(r *observed.Report) {
	if v.want == nil {
		return
	}
	if v.known.OnHost {
		r.Facts[observed.FactVIP] = observed.VIPHeld
	}
	if v.byHand != nil {
		r.Conditions = append(r.Conditions, v.byHand.condition(v.c.a.o.Node))
	}
	for _, c := range []*observed.Condition{v.problem, v.why, v.conflict} {
		if c == nil {
			continue
		}
		if c == v.problem {
			// The plan is taken in; what the host refuses is that it works.
			p := *c
			p.Type = observed.Healthy
			c = &p
		}
		r.Conditions = append(r.Conditions, *c)
	}
}

// cutOffLocked says that this agent can't reach etcd and Patroni beside it can.
func (v *vip) cutOffLocked(s state, now time.Time) *observed.Condition {
	if v.want == nil || !s.view.Known || fresh(s.view, now) || v.seen.IsZero() || now.Sub(v.known.Patroni.YesAt) > 2*plan.PatroniEvery {
		return nil
	}
	// Patroni's loop runs every 10 s by default.
	if age := now.Round(0).Sub(v.seen); age > 15*time.Second || now.Sub(s.view.FreshAt) < 15*time.Second {
		return nil
	}
	return &observed.Condition{
		Type: observed.Healthy, Status: observed.Unknown, Reason: observed.AgentCutOff,
		Message: observed.Meaning[observed.AgentCutOff] + "; the virtual address is kept by Patroni's word",
		Next:    "journalctl -u pgagent (on " + v.c.a.o.Node + ")",
	}
}

// clock notices steps between the wall clock and the monotonic one.
type clock struct {
	base time.Time
	// wall reads the wall clock; tests set it.
	wall func() time.Time
	at   time.Time
}

// stepBound is more than any slewing does in a second, and far less than the margins.
const stepBound = 250 * time.Millisecond

func newClock() clock {
	c := clock{wall: wallClock}
	c.base, c.at = time.Now(), c.wall()
	return c
}

// wallClock is the time without its monotonic part.
var wallClock = func() time.Time { return time.Now().Round(0) }

// stepped reports whether the two clocks moved apart since the last call.
func (c *clock) stepped(now time.Time) bool {
	if c.wall == nil {
		return false
	}
	wall := c.wall()
	apart := wall.Sub(c.at) - now.Sub(c.base)
	c.base, c.at = now, wall
	return apart > stepBound || apart < -stepBound
}

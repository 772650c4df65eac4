package simulation

import (
	"fmt"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// The bounds that are checked. The protocol's own hold on hosts whose agent is in
// touch, those of HAProxy's checks everywhere.
const (
	// inRecovery is R3's bound for a move.
	inRecovery = time.Second
	// delivery is how long a confirmation may take to reach every HAProxy; the links'
	// delays are a part of it.
	delivery = 250 * time.Millisecond
	// checksBound is what HAProxy's checks need at most to see a server down: three
	// of them, each of which may have to time out.
	checksBound = 12 * time.Second
	// steadyFor is how long after the environment's last change an unattended HAProxy
	// must have found the primary.
	steadyFor = 15 * time.Second
)

// Violation is a rule that was broken, and when.
type Violation struct {
	Rule, What string
	At         time.Duration
}

func (v Violation) String() string {
	return fmt.Sprintf("%s at %.3fs: %s", v.Rule, v.At.Seconds(), v.What)
}

// Stats are what a run saw at worst, for people who want to know how near the
// bounds it came.
type Stats struct {
	Moves, Confirms, Asserts, Applies, Faults int
	Replica, AfterConfirm, TwoWriters         time.Duration // with agents in touch
	TwoWritersUnattended                      time.Duration
	Converged                                 time.Duration // after the last fault
}

// checker watches the rules.
type checker struct {
	w          *World
	violations []Violation
	seen       map[string]bool
	stats      Stats
	// since holds since when something has been the case without a break.
	since map[string]time.Time
	// still: nothing at all may move (R13).
	still bool
	acted map[string]int64 // revisions acted on, by node and kind
	epoch map[*process]plan.Epoch
}

func (c *checker) fail(rule, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	if c.seen == nil {
		c.seen = map[string]bool{}
	}
	if c.seen[rule] { // the first is what matters; the rest follows from it
		return
	}
	c.seen[rule] = true
	v := Violation{Rule: rule, What: what, At: c.w.elapsed()}
	c.violations = append(c.violations, v)
	c.w.say("CHECK", "%s violated: %s", rule, what)
}

// lasts reports for how long something has been the case; now says whether it is.
func (c *checker) lasts(what string, now bool) time.Duration {
	if !now {
		delete(c.since, what)
		return 0
	}
	if c.since == nil {
		c.since = map[string]time.Time{}
	}
	if _, ok := c.since[what]; !ok {
		c.since[what] = time.Now()
	}
	return time.Since(c.since[what])
}

// step checks what is the case at this moment. The caller holds mu.
func (c *checker) step() {
	writers := map[string][]*host{} // by member: through which hosts
	for _, h := range c.w.hosts {
		for _, o := range c.w.hosts {
			up := h.on && h.proxy.running && o.on && h.reaches(o) && h.routes(o)
			if up && o.pat.pg == pgPrimary {
				writers[o.member] = append(writers[o.member], h)
			}
			c.replica(h, o, up && (o.pat.pg == pgRecovery || o.pat.pg == pgPromoting))
		}
		c.served(h)
	}
	c.oneWriter(writers)
	c.quietHands()
	c.vouched()
}

// routes reports whether a read-write service of this host sends clients to o.
func (h *host) routes(o *host) bool {
	for _, backend := range []string{"primary", "default"} {
		if s := h.proxy.servers[backend+"/"+o.member]; s != nil && s.up {
			return true
		}
	}
	return false
}

// replica is R3: o is in recovery, and h's read-write services lead to it.
func (c *checker) replica(h, o *host, now bool) {
	leader := c.w.member(c.w.audit.leader)
	attended := h.inTouch() && o.inTouch() && (leader == nil || leader.inTouch())
	name := h.node + ">" + o.member
	strict := c.lasts("r3 "+name, now && attended)
	c.stats.Replica = max(c.stats.Replica, strict)
	if strict > inRecovery+tick {
		c.fail("R3", "read-write services on %s led to %s, %s, for %s", h.node, o.member, o.pat.pg, strict)
	}
	a := c.w.audit
	confirmed := a.leader != "" && a.primary.Member == a.leader && a.primary.Writable && a.leader != o.member && !a.confirmed.Before(a.leaderAt)
	after := c.lasts("r3c "+name, now && attended && confirmed)
	c.stats.AfterConfirm = max(c.stats.AfterConfirm, after)
	if after > delivery {
		c.fail("R3", "read-write services on %s led to %s, %s, although %s had been confirmed", h.node, o.member, o.pat.pg, a.primary.Member)
	}
	if weak := c.lasts("r3w "+name, now); weak > checksBound {
		c.fail("R3", "read-write services on %s led to %s, %s, for %s, longer than checks need", h.node, o.member, o.pat.pg, weak)
	}
}

// served is R1: whoever runs, HAProxy finds the primary in the end; with the
// agent in touch, at once.
func (c *checker) served(h *host) {
	a := c.w.audit
	leader := c.w.member(a.leader)
	steady := leader != nil && leader.pat.pg == pgPrimary && leader.pat.state == patRunning && leader.on && leader.pat.lock &&
		h.on && h.proxy.running && h.reaches(leader)
	withdrawn := a.primary.Member == a.leader && !a.primary.Writable && leader != nil && !leader.inTouch()
	down := steady && !withdrawn && !h.routes(leader) && len(h.proxy.servers) > 0
	if d := c.lasts("r1 "+h.node, down && time.Since(c.w.steady) > steadyFor); d > checksBound {
		c.fail("R1", "read-write services on %s have not found %s, which leads", h.node, a.leader)
	}
	if !steady || a.primary.Member != a.leader || !a.primary.Writable || a.confirmed.Before(a.leaderAt) {
		down = false
	}
	// A server that the checks took down while its confirmation stood, because
	// PostgreSQL or Patroni were away for a while, comes back with them.
	bound := time.Second
	if leader != nil && (!a.confirmed.After(leader.pat.back) || time.Since(leader.pat.back) < 5*time.Second) {
		bound = 4 * time.Second
	}
	if d := c.lasts("r1f "+h.node, down && h.inTouch()); d > bound {
		c.fail("R1", "read-write services on %s do not lead to %s, which was confirmed %s ago", h.node, a.leader, d)
	}
}

// oneWriter is R2.
func (c *checker) oneWriter(writers map[string][]*host) {
	attended := true
	for _, through := range writers {
		for _, h := range through {
			attended = attended && h.inTouch()
		}
	}
	two := len(writers) > 1
	strict, weak := c.lasts("r2", two && attended), c.lasts("r2w", two)
	c.stats.TwoWriters, c.stats.TwoWritersUnattended = max(c.stats.TwoWriters, strict), max(c.stats.TwoWritersUnattended, weak)
	if strict > delivery || weak > checksBound {
		c.fail("R2", "%d members take writes through the services: %s", len(writers), describe(writers))
	}
}

func describe(writers map[string][]*host) string {
	out := ""
	for i := 1; i <= nodes; i++ {
		m := fmt.Sprintf("%s-%d", cluster, i)
		for _, h := range writers[m] {
			out += fmt.Sprintf("%s through %s; ", m, h.node)
		}
	}
	return out
}

// confirmedNow checks that a confirmation is true: PostgreSQL took writes within the
// time for which one answer is believed.
func (c *checker) confirmedNow(p observed.Primary) {
	c.stats.Confirms++
	h := c.w.member(p.Member)
	if h == nil || !p.Writable {
		return
	}
	if h.pat.pg != pgPrimary && (h.pat.writable.IsZero() || time.Since(h.pat.writable) > proofLives) {
		c.fail("R3", "%s was confirmed by %s and is %s", p.Member, p.By, h.pat.pg)
	}
}

// proofLives is the protocol's second for which an answer is believed, and the time
// that a write may be under way: a call has 5 s.
const proofLives = 6*time.Second + 500*time.Millisecond

// quietHands is R13: while only our own programs restart, nothing that a client
// sees changes.
func (c *checker) quietHands() {
	if !c.still {
		return
	}
	a := c.w.audit
	for _, h := range c.w.hosts {
		for _, o := range c.w.hosts {
			if h.proxy.running && h.routes(o) != (o.member == a.leader) {
				c.fail("R13", "routes on %s to %s changed, and all that happened were restarts", h.node, o.member)
			}
		}
	}
	if time.Since(c.w.steady) < time.Since(c.since["still"]) {
		c.fail("R13", "the leader changed, and all that happened were restarts")
	}
	if a.primary.Member != a.leader || !a.primary.Writable {
		c.fail("R13", "the primary record changed, and all that happened were restarts")
	}
}

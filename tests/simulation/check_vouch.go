package simulation

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// contestedBound is how long a service may be without the primary although proof
// outranks the checks: a check's time-out until the agent sees that it gets no answer,
// one look at the proof, and one assertion.
const contestedBound = 4 * time.Second

// vouched is ROLES section 3: while the leader's Patroni is stopped and its PostgreSQL
// takes writes, the read-write services lead there for as long as nobody else can lead
// and the leader's agent would say if it took no writes any more.
func (c *checker) vouched() {
	a := c.w.audit
	l := c.w.member(a.leader)
	silent := l != nil && l.on && l.pat.pg == pgPrimary && (l.pat.state == patPaused || l.pat.state == patDown) && l.inTouch() &&
		a.primary.Member == a.leader && a.primary.Writable && !a.confirmed.Before(a.leaderAt) && c.w.leaseLeft() > plan.ChecksTake+time.Second
	for _, h := range c.w.hosts {
		down := silent && h.on && h.inTouch() && h.proxy.running && h.reaches(l) && len(h.proxy.servers) > 0 && !h.routes(l)
		if d := c.lasts("vouch "+h.node, down); d > contestedBound {
			c.fail("R1", "read-write services on %s have not led to %s for %s, which takes writes and leads; only its Patroni is stopped", h.node, l.member, d)
		}
	}
}

// leaseLeft is how long the leader key's lease lasts.
func (w *World) leaseLeft() time.Duration {
	_, _, lease := w.leaderKey()
	if lease == 0 {
		return 0
	}
	r, err := w.audit.parts.Lease.TimeToLive(context.Background(), clientv3.LeaseID(lease))
	if err != nil {
		return 0
	}
	return time.Duration(r.TTL) * time.Second
}

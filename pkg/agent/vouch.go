package agent

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// contestedFor is how long a primary is looked at after a HAProxy of this node last got
// no answer from its Patroni.
const contestedFor = 10 * time.Second

// contest notes whether a HAProxy of this node gets no answer about a server that it is
// to have up; then proof is looked for that outranks that.
func (c *cluster) contest(unit string, now time.Time) {
	if c.a.o.Host.Contested == nil || !c.a.o.Host.Contested(unit) {
		return
	}
	c.mu.Lock()
	news := now.Sub(c.contestedAt) > contestedFor
	c.contestedAt = now
	c.mu.Unlock()
	if news {
		c.log.Warn("HAProxy gets no answer from the primary's Patroni; looking for proof that it still leads")
		poke(c.wakeProof)
	}
}

// proofLoop looks at a contested primary: it reads the leader key's lease, and asks the
// primary's PostgreSQL on its port. At rest it does nothing.
func (c *cluster) proofLoop(ctx context.Context) {
	client, ok := c.a.admittedClient(ctx)
	for ok {
		select {
		case <-ctx.Done():
			return
		case <-c.wakeProof:
		}
		for c.prove(ctx, client) && idle.For(ctx, plan.ProofEvery) {
		}
	}
}

// prove looks once, and reports whether to look again.
func (c *cluster) prove(ctx context.Context, client *store.Client) bool {
	c.mu.Lock()
	leader, proof := c.state.view.Leader, c.proof
	m, known := c.info.Find(leader.Member)
	contested := time.Since(c.contestedAt) <= contestedFor
	c.mu.Unlock()
	if !contested || !known {
		return contested
	}
	if proof.Member != m.Name {
		proof = plan.Proof{Member: m.Name}
	}
	if r, err := c.readLease(ctx, client, leader.Lease); err == nil {
		proof.Lease = r
	}
	asked := time.Now()
	bounded, cancel := context.WithTimeout(ctx, ProbeTimeout)
	err := c.a.o.Host.Peers.Answers(bounded, m)
	cancel()
	if err == nil {
		proof.AnsweredAt = asked
	} else if ctx.Err() == nil {
		c.log.Debug("the primary's PostgreSQL does not answer", zap.Error(err))
	}
	c.mu.Lock()
	c.proof = proof
	c.mu.Unlock()
	poke(c.wakeRoutes)
	return true
}

// readLease asks how long the leader key's lease lasts.
func (c *cluster) readLease(ctx context.Context, client *store.Client, lease int64) (plan.LeaseReading, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	at := time.Now()
	left, err := client.LeaseLeft(ctx, lease, c.a.o.Layout.Leader(c.name))
	if err != nil {
		c.log.Debug("leader key's lease not read", zap.Error(err))
	}
	return plan.LeaseReading{Lease: lease, AskedAt: at, Left: left}, err
}

// provenLocked adds to the view what is known of the leader beside etcd's word.
func (c *cluster) provenLocked() {
	m, known := c.info.Find(c.state.view.Leader.Member)
	c.state.view.Attended = known && c.state.present[m.Node]
	c.state.view.Proof = c.proof
}

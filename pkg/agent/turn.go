package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// A freeze ends on every node of a cluster at one instant, and what drifted meanwhile
// would be repaired everywhere at once: HAProxy reloaded under all clients, Patroni
// under all members. R15 says one at a time. A rollout has its turns from the server; a
// repair needs none, so agents take turns by a leased key of the cluster.
const (
	// turnTTL is how long a turn outlives an agent that died in it.
	turnTTL = 10 * time.Second
	// turnAsk bounds the question for it, turnRetry is the pause until the next one.
	turnAsk   = time.Second
	turnRetry = time.Second
	// turnSettle is how long a turn lasts after the last act in it, because a program may
	// die of its configuration two seconds later (R5); turnMost how long it is kept for a
	// node that does not get well. What is unwell then may be so for other reasons.
	turnSettle = 2 * time.Second
	turnMost   = time.Minute
	// turnStep is between two nodes while etcd can't be asked and nobody can wait for
	// anybody: a reload is proven within it, and drift is not left for longer than needs be.
	turnStep = 1500 * time.Millisecond
)

// turn is this node's turn while it has it. The worker's own.
type turn struct {
	give func() // gives it back, and returns when it is
	lost <-chan struct{}
	last time.Time // when something was last repaired in it
	// failed: a repair did not succeed. The others go on, and this node tries again in
	// another turn.
	failed bool
}

// thawing notes a freeze and its end. What is applied from then on waits for the node's
// turn, until the concern is as planned.
func (con *concern) thawing(frozen bool, now time.Time) {
	switch {
	case frozen:
		con.thaws, con.thawedAt = true, time.Time{}
	case con.thaws && con.thawedAt.IsZero():
		con.thawedAt = now
	}
}

// waitsForTurn says whether a resource has to wait for this node's turn after a freeze,
// and until when.
func (c *cluster) waitsForTurn(con *concern, r plan.Resource, diff plan.Diff) (observed.Condition, time.Duration) {
	if _, program := r.(plan.Unit); !con.thaws || !program {
		return observed.Condition{}, 0
	}
	why, wait := c.takeTurn(con, time.Now())
	if why == "" {
		return observed.Condition{}, 0
	}
	return observed.Condition{
		Type: observed.Applied, Status: observed.False, Reason: observed.RollingOut,
		Message: fmt.Sprintf("%s is not as planned (%s) since the freeze, and %s", r.ID(), diff, why),
	}, wait
}

// takeTurn takes this node's turn, or says why it can't and when to try again.
func (c *cluster) takeTurn(con *concern, now time.Time) (why string, wait time.Duration) {
	if c.turn != nil {
		select {
		case <-c.turn.lost:
			c.turn.give()
			c.turn = nil
		default:
			return "", 0
		}
	}
	who, err := c.askTurn()
	switch {
	case err == nil:
		return "", 0
	case errors.Is(err, store.ErrTaken):
		return "waits until node " + who + " has repaired its own", turnRetry
	}
	c.mu.Lock()
	info, leader := c.info, c.state.view.Last.Member
	c.mu.Unlock()
	// By the clock, and by what every node knows.
	at := con.thawedAt.Add(time.Duration(place(info, leader)) * turnStep)
	if wait := at.Sub(now); wait > 0 {
		return "is repaired in a moment, after the nodes before it: etcd can't be asked whose turn it is", wait
	}
	return "", 0
}

// place is this node's among the cluster's, the leader's member and nodes without one
// last.
func place(c plan.Cluster, leader string) int {
	if c.Member == "" || c.Member == leader {
		return len(c.Members) - 1
	}
	return rank(c, c.Member, leader)
}

// askTurn asks etcd for the turn. It is store.ErrTaken while another node has it.
func (c *cluster) askTurn() (who string, err error) {
	client := c.a.client.Load()
	c.mu.Lock()
	s := c.lookLocked()
	c.mu.Unlock()
	if client == nil || !fresh(s.view, time.Now()) || c.foreign() || c.a.usurped.Load() {
		return "", errors.New("etcd can't be asked")
	}
	key := c.a.o.Layout.TurnKey(c.name)
	value := observed.Encode(observed.Turn{Node: c.a.o.Node})
	ctx, stop := context.WithCancel(c.life)
	kept, lost := make(chan struct{}, 1), make(chan struct{})
	var ended error
	go func() {
		defer close(lost)
		ended = client.Keep(ctx, store.Presence{
			Key: key, TTL: turnTTL, Value: func() []byte { return value }, Kept: func() { poke(kept) },
			Mine: func(found kv.KV) bool {
				// An agent that was killed in its turn takes it up again.
				t, err := observed.Decode[observed.Turn](found)
				return err != nil || t.Node == c.a.o.Node
			},
		})
	}()
	give := func() { stop(); <-lost }
	select {
	case <-kept:
		c.log.Info("this node's turn to repair what drifted while it was frozen")
		c.turn = &turn{give: give, lost: lost, last: time.Now()}
		return "", nil
	case <-lost:
		give()
		if errors.Is(ended, store.ErrTaken) {
			e, _, err := client.Get(c.life, key)
			t, bad := observed.Decode[observed.Turn](e)
			if err == nil && bad == nil && t.Node != "" {
				return t.Node, ended
			}
			return "another", ended
		}
		return "", errors.Join(ended, c.life.Err())
	case <-time.After(turnAsk):
		give()
		return "", errors.New("etcd does not answer")
	}
}

// turnUsed notes what came of an act in this node's turn.
func (c *cluster) turnUsed(err error) {
	if c.turn != nil {
		c.turn.last, c.turn.failed = time.Now(), c.turn.failed || err != nil
	}
}

// turnOver gives the turn back once all is well again, or can't be made so now. It says
// when to look again.
func (c *cluster) turnOver(now time.Time) time.Duration {
	if c.turn == nil {
		return DriftEvery
	}
	c.mu.Lock()
	well := true
	for _, con := range c.concerns {
		frozen := con.thaws && con.thawedAt.IsZero() // still: its turn is another one
		well = well && (frozen || !con.thaws && con.report.Done(con.report.Plan))
	}
	c.mu.Unlock()
	left := c.turn.last.Add(turnSettle).Sub(now)
	if !well {
		left = c.turn.last.Add(turnMost).Sub(now)
	}
	if left > 0 && !c.turn.failed {
		return left
	}
	c.log.Info("this node's turn is over", zap.Bool("well", well))
	c.turn.give()
	c.turn = nil
	return DriftEvery
}

package agent

import (
	"context"
	"maps"
	"slices"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// followLeader brings the concerns whose files say who leads as far as they go, while
// everything else waits for the move of the leader to be over: clients that ask for the
// cluster's name must not be sent to the old primary for as long.
func (c *cluster) followLeader(ctx context.Context) {
	if c.a.usurped.Load() {
		return
	}
	c.mu.Lock()
	var names []string
	for _, name := range slices.SortedFunc(maps.Keys(c.concerns), byOrder) {
		if con := c.concerns[name]; con.rev > 0 && plan.FollowsLeader(con.plan) {
			names = append(names, name)
		}
	}
	c.mu.Unlock()
	for _, name := range names {
		if ctx.Err() == nil {
			c.converge(ctx, name)
		}
	}
}

// wrote notes what a file was last found or made to say. The caller holds mu.
func (con *concern) wrote(r plan.Resource, hash string) {
	if _, ok := r.(plan.Watched); ok {
		con.written[r.ID()] = hash
	}
}

// followFrozen writes a frozen concern's file when who leads has changed since it was
// written: a freeze keeps what people set, and what follows the leader goes on to. The
// plan must be the one in force, because a newer one waits for the freeze to end. It
// reports whether it wrote.
func (c *cluster) followFrozen(ctx context.Context, con *concern, r plan.Resource, at plan.Epoch) (wrote bool) {
	w, ok := r.(plan.Watched)
	if !ok || !plan.FollowsLeader(con.plan) {
		return false
	}
	hash := plan.Hash(plan.Resources{r}, con.plan.Secrets)
	c.mu.Lock()
	old, before := con.inForce(), con.written[r.ID()]
	c.mu.Unlock()
	if before == "" || before == hash || plan.Hash(old.Resources, old.Secrets) != plan.Hash(con.plan.Resources, con.plan.Secrets) {
		return false
	}
	if err := c.apply(ctx, con, w, at); err != nil {
		c.log.Warn("a frozen file does not follow the leader", zap.String("concern", con.name), zap.String("resource", r.ID()), zap.Error(err))
		return false
	}
	c.mu.Lock()
	con.wrote(r, hash)
	c.mu.Unlock()
	return true
}

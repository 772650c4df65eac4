package agent

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
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

// keepWritten puts on disk what the concern's files say: an agent that is started anew while the
// concern is frozen goes on from there, or they would name the primary of before for as long.
func (c *cluster) keepWritten(con *concern) {
	c.mu.Lock()
	follows, now := plan.FollowsLeader(con.plan), maps.Clone(con.written)
	c.mu.Unlock()
	if !follows || maps.Equal(now, con.writtenKept) {
		return
	}
	if err := c.a.keeper.put(c.a.keeper.writtenPath(c.name, con.name), now); err != nil {
		c.log.Warn("what files say of the leader is not kept; frozen and started anew this agent would not follow it there", zap.Error(err))
		return // it is tried with the next look
	}
	con.writtenKept = now
}

// writtenPath has a name that is not that of a plan.
func (k keeper) writtenPath(cluster, concern string) string {
	return filepath.Join(k.folder(cluster), concern+".written")
}

// loadWritten reads it; nothing is known when there is none, or none that can be read.
func (k keeper) loadWritten(cluster, concern string) (written map[string]string) {
	if b, err := os.ReadFile(k.writtenPath(cluster, concern)); err == nil && json.Unmarshal(b, &written) != nil {
		return nil
	}
	return written
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

package agent

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// This file hands each resource to the driver of its kind.

func (c *cluster) diff(ctx context.Context, r plan.Resource) (plan.Diff, error) {
	switch r := r.(type) {
	case plan.Unit:
		return c.drivers.Unit.Diff(ctx, r)
	case plan.Patroni:
		return c.drivers.Patroni.Diff(ctx, r)
	case plan.Address:
		return c.vip.diff(r), nil
	case plan.Watched:
		if c.drivers.File != nil {
			return c.drivers.File.Diff(ctx, r)
		}
	}
	return nil, fmt.Errorf("compare %s: no driver for it", r.ID())
}

func (c *cluster) apply(ctx context.Context, con *concern, r plan.Resource, at plan.Epoch) error {
	switch r := r.(type) {
	case plan.Unit:
		if err := c.prepare(ctx, con, r); err != nil {
			return err
		}
		err := c.drivers.Unit.Apply(ctx, r, at)
		c.mu.Lock()
		con.reset = true // whatever came of it, HAProxy may be another process now
		c.mu.Unlock()
		poke(c.wakeRoutes)
		return err
	case plan.Patroni:
		return c.drivers.Patroni.Apply(ctx, r, at)
	case plan.Address:
		c.vip.follow(&r)
		return nil
	case plan.Watched:
		if c.drivers.File != nil {
			return c.drivers.File.Apply(ctx, r, at)
		}
	}
	return fmt.Errorf("apply %s: no driver for it", r.ID())
}

// prepare makes room for a unit once, before it is applied for the first time.
func (c *cluster) prepare(ctx context.Context, con *concern, u plan.Unit) error {
	if con.prepared[u.Unit] {
		return nil
	}
	own, _ := c.own()
	did, err := c.a.o.Host.Takeover.Prepare(ctx, c.name, own, u)
	c.mu.Lock()
	con.took = append(con.took, did...)
	c.mu.Unlock()
	for _, d := range did {
		c.log.Info("took over from the distribution", zap.String("concern", con.name), zap.String("unit", u.Unit), zap.String("did", d))
	}
	if err != nil {
		return err
	}
	con.prepared[u.Unit] = true
	return nil
}

func (c *cluster) remove(ctx context.Context, r plan.Resource, at plan.Epoch) error {
	ctx, cancel := context.WithTimeout(ctx, ApplyTimeout)
	defer cancel()
	switch r := r.(type) {
	case plan.Unit:
		return c.drivers.Unit.Remove(ctx, r, at)
	case plan.Patroni:
		return c.drivers.Patroni.Remove(ctx, r, at)
	case plan.Address:
		return c.vip.forget(ctx, r)
	case plan.Watched:
		if c.drivers.File != nil {
			return c.drivers.File.Remove(ctx, r, at)
		}
	case plan.SQL:
		return nil // what is in the databases is data, and stays with it
	}
	return fmt.Errorf("remove %s: no driver for it", r.ID())
}

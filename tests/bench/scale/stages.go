package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/pgctrl/pgctrl/pkg/controllers/all"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// planned is the first stage: a server that finds documents and nothing else.
type planned struct {
	took time.Duration // until every node has its plans
	usage
}

// fromNothing is from the start of the server until every node has both its plans,
// with a Patroni that starts as soon as it may. It ends with the server stopped and
// nothing left to be written.
func fromNothing(ctx context.Context, r *rig, f *fleet) (p planned, err error) {
	say("writing the documents of %d clusters", f.n)
	if err := f.documents(ctx); err != nil {
		return p, err
	}
	say("planning from nothing")
	_, rev := f.count(ctx, layout.StoreKey())
	began := time.Now()
	if err := r.startServer(); err != nil {
		return p, err
	}
	var g errgroup.Group
	g.Go(func() error { return f.start(ctx, rev+1) })
	err = poll(ctx, seldom, 20*time.Minute, "all plans", func() bool {
		have, _ := f.count(ctx, layout.Prefix(keys.Plan))
		return have >= int64(2*members*f.n)
	})
	if err != nil {
		return p, err
	}
	p.took = time.Since(began)
	if p.usage, err = r.memory(); err != nil {
		return p, err
	}
	r.stage()
	if err := g.Wait(); err != nil {
		return p, err
	}
	if err := f.agents(ctx); err != nil {
		return p, err
	}
	if err := settled(ctx, r, f); err != nil {
		return p, err
	}
	return p, r.stopServer()
}

// settled waits until the server has nothing to do and has written nothing for a while.
func settled(ctx context.Context, r *rig, f *fleet) error {
	last, since := int64(0), time.Now()
	return poll(ctx, seldom, 20*time.Minute, "the server to settle", func() bool {
		if _, now := f.count(ctx, layout.StoreKey()); now != last || r.metric("pgctrl_engine_queue_depth") != 0 || r.metric("pgctrl_engine_leader") != 1 {
			last, since = now, time.Now()
		}
		return time.Since(since) > 3*time.Second
	})
}

// restarted is a server that finds everything in order.
type restarted struct {
	ready, compared time.Duration // from its start
	atReady, at     usage
	// plans and writes are how many keys it wrote; the second counts all of them, its
	// own leadership and presence included.
	plans, writes int64
}

func restart(ctx context.Context, r *rig, f *fleet) (s restarted, err error) {
	_, before := f.count(ctx, layout.StoreKey())
	began := time.Now()
	if err := r.startServer(); err != nil {
		return s, err
	}
	err = poll(ctx, often, time.Minute, "the server to be ready", func() bool {
		code, _ := get("http://" + r.listen + "/readyz")
		return code == 200
	})
	if err != nil {
		return s, err
	}
	s.ready = time.Since(began)
	if s.atReady, err = r.memory(); err != nil {
		return s, err
	}
	steps := float64(len(all.All()) * f.n)
	err = poll(ctx, seldom, 20*time.Minute, "the compare", func() bool {
		return r.metric("pgctrl_engine_reconcile_total") >= steps
	})
	if err != nil {
		return s, err
	}
	s.compared = time.Since(began)
	if s.at, err = r.memory(); err != nil {
		return s, err
	}
	r.stage()
	if err := settled(ctx, r, f); err != nil {
		return s, err
	}
	_, after := f.count(ctx, layout.StoreKey())
	s.writes = after - before
	changed, err := f.c.Get(ctx, layout.Prefix(keys.Plan), clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithMinModRev(before+1))
	if err != nil {
		return s, fmt.Errorf("count new plans: %w", err)
	}
	s.plans = int64(len(changed.Kvs)) // its Count is of the whole range
	return s, nil
}

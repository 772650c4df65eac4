package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/probe"
)

// move is one planned switchover as three observers saw it. Durations are in
// nanoseconds in the saved results.
type move struct {
	From, To string
	// Floor is Patroni's own: last write acknowledged by the old member's 5432 to
	// the first one acknowledged by the new member's.
	Floor time.Duration
	// Ours and Checks run from the new primary's first acknowledged direct write to
	// the first write through the service.
	Ours, Checks time.Duration
	// OursGap and ChecksGap are what a client saw: last write through the service
	// before the move to the first one after it.
	OursGap, ChecksGap time.Duration
	// OursLeaks and ChecksLeaks count attempts that reached a server in recovery.
	OursLeaks, ChecksLeaks int
	Attempts               int
	// Promotion runs from the leader key to the confirmed primary.
	Promotion time.Duration
	// VIP is pgctrl's virtual address, Rival vip-manager's.
	VIP, Rival address
}

// checksLimit is how long a move may take through checks alone: 8.6 s was the
// longest measured elsewhere.
const checksLimit = 30 * time.Second

// patience is how long a sampled client waits before it tries anew. HAProxy holds
// connections while nobody takes writes; sixty held clients that all get through
// at once keep two cores busy with logging in for longer than the move's routing
// takes, and then the measurement is of that.
const patience = 50 * time.Millisecond

func measureMoves(ctx context.Context, f *fleet.Fleet, r *rival, a *addresses, o options) ([]move, error) {
	if err := f.Whole(ctx, cluster, 2*time.Minute); err != nil {
		return nil, err
	}
	var out []move
	for i := range o.moves {
		from, to, err := nextMove(ctx, f)
		if err != nil {
			return out, err
		}
		if err := a.at(ctx, f.Node(from).Name); err != nil {
			return out, err
		}
		m, err := one(ctx, f, r, a, o, from, to, i)
		if err != nil {
			return out, fmt.Errorf("move %d from %s to %s: %w", i+1, from, to, err)
		}
		say("move %2d of %d  %s -> %s  floor %s  through 5436 +%s  checks alone +%s  leader key to a write: address %s, vip-manager's %s",
			i+1, o.moves, from, to, ms(m.Floor), ms(m.Ours), ms(m.Checks), ms(m.VIP.Write), ms(m.Rival.Write))
		out = append(out, m)
		if err := f.Whole(ctx, cluster, 2*time.Minute); err != nil {
			return out, err
		}
	}
	return out, nil
}

// nextMove goes round the members, so that every node is old and new in turn.
func nextMove(ctx context.Context, f *fleet.Fleet) (from, to string, err error) {
	if from, err = f.Leader(ctx, cluster); err != nil {
		return "", "", err
	}
	for i, h := range f.Nodes {
		if f.Node(from) == h {
			next := (i + 1) % len(f.Nodes)
			return from, fmt.Sprintf("%s-%d", cluster, next+1), nil
		}
	}
	return "", "", fmt.Errorf("leader %q is on no known node", from)
}

func one(ctx context.Context, f *fleet.Fleet, r *rival, vips *addresses, o options, from, to string, i int) (move, error) {
	m := move{From: from, To: to}
	old, err := f.Target(ctx, cluster, f.Node(from), 5432)
	if err != nil {
		return m, err
	}
	fresh := old
	fresh.Host = f.Node(to).IP
	service := old // through each node's HAProxy in turn
	service.Host, service.Port = f.Nodes[i%len(f.Nodes)].IP, 5436
	service.Patience = patience
	alone := r.target(old.Password)
	alone.Patience = 20 * patience // and a tenth as often: what it measures takes seconds
	if err := old.Prepare(ctx); err != nil {
		return m, err
	}
	dOld, dNew := probe.Watch(ctx, old, 20*time.Millisecond), probe.Watch(ctx, fresh, 2*time.Millisecond)
	ours := probe.Start(ctx, service, o.interval, 60, nil)
	checks := probe.Start(ctx, alone, 10*o.interval, 25, nil)
	defer func() { dOld.Stop(); dNew.Stop(); ours.Stop(); checks.Stop() }()

	if err := pause(ctx, time.Second); err != nil { // a second of writes before the move
		return m, err
	}
	through, err := vips.follow(ctx, to, old.Password)
	if err != nil {
		return m, err
	}
	begin := time.Now()
	if err := f.Switchover(ctx, cluster, from, to); err != nil {
		return m, err
	}
	if m.VIP, m.Rival, err = through(); err != nil {
		return m, err
	}
	var writable time.Time
	err = fleet.Until(ctx, checksLimit, "writes through both services", func(context.Context) error {
		writable = dNew.FirstAfter(begin)
		if writable.IsZero() {
			return fmt.Errorf("%s has not acknowledged a direct write", to)
		}
		for name, s := range map[string]*probe.Sampler{"5436": ours, "checks alone": checks} {
			if _, ok := probe.FirstWritten(s.Samples(), fresh.Host, begin); !ok {
				return fmt.Errorf("no write through %s has reached %s", name, to)
			}
		}
		return nil
	})
	if err != nil {
		return m, err
	}
	m.Floor = writable.Sub(dOld.LastBefore(writable))
	a, b := ours.Stop(), checks.Stop()
	m.Ours, m.OursGap, m.OursLeaks = summary(a, old.Host, fresh.Host, begin, writable)
	m.Checks, m.ChecksGap, m.ChecksLeaks = summary(b, old.Host, fresh.Host, begin, writable)
	m.Attempts = len(a)
	return m, nil
}

func summary(samples []probe.Sample, old, fresh string, begin, writable time.Time) (wait, gap time.Duration, leaks int) {
	first, _ := probe.FirstWritten(samples, fresh, begin)
	var last time.Time
	for _, s := range samples {
		if s.Outcome == probe.Written && s.Server == old && s.End.After(last) {
			last = s.End
		}
	}
	return first.End.Sub(writable), first.End.Sub(last), probe.Count(samples)[probe.Replica]
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

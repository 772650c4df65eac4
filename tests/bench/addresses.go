package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/probe"
	"github.com/pgctrl/pgctrl/tests/probe/holders"
)

// Two virtual addresses follow the leader in every move, pgctrl's and vip-manager's.

// address is how one of them fared in one move.
type address struct {
	// FromKey runs to the address's arrival from the key that its program follows:
	// the confirmed primary for pgctrl, the leader key for vip-manager.
	FromKey time.Duration
	// Write runs from the leader key to the first write through the address.
	Write time.Duration
	// Leaks of Attempts until then reached a server in recovery through it.
	Leaks, Attempts int
	written         time.Time
}

// addresses are both, and all moves of theirs.
type addresses struct {
	f               *fleet.Fleet
	names           [2]string // pgctrl's, vip-manager's
	ear             *ear
	leader, primary string // keys
	moves           []asked
}

// asked is a move that was asked for.
type asked struct {
	to    string
	begin time.Time
}

func watchAddresses(f *fleet.Fleet, ours, theirs string) (*addresses, error) {
	a := &addresses{f: f, names: [2]string{ours, theirs}, leader: f.Layout.Leader(cluster), primary: f.Layout.PrimaryKey(cluster)}
	h := hearing{Endpoint: f.Endpoint(), Keys: []string{a.leader, a.primary}, Addresses: a.names[:]}
	for _, n := range f.Nodes {
		h.Hosts = append(h.Hosts, holders.Host{Name: n.Name, Namespace: n.Namespace()})
	}
	var err error
	a.ear, err = startEar(h)
	return a, err
}

func (a *addresses) stop() { _ = a.ear.stop() }

// at waits until both addresses are on the node.
func (a *addresses) at(ctx context.Context, node string) error {
	return fleet.Until(ctx, 20*time.Second, "both addresses to be on "+node, func(context.Context) error {
		now, err := a.ear.ask()
		for i, have := range now.Holders {
			if len(have) != 1 || have[0] != node {
				return fmt.Errorf("%s is on %v", a.names[i], have)
			}
		}
		return err
	})
}

// follow begins with a move that is about to be made. The function that it returns
// waits for the first write through each address, pgctrl's and vip-manager's.
func (a *addresses) follow(ctx context.Context, to, password string) (wait func() (vip, rival address, err error), err error) {
	ctx, cancel := context.WithTimeout(ctx, checksLimit)
	leads := make(chan time.Time, 1)
	err = hear(ctx, a.f.Etcd, a.leader, func(at time.Time, value string) {
		if value == to {
			select {
			case leads <- at:
			default: // stamped again
			}
		}
	})
	if err != nil {
		cancel()
		return nil, err
	}
	a.moves = append(a.moves, asked{to, time.Now()})
	var each [2]address
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		leader, err := receive(gctx, leads, "the leader key to name "+to)
		if err != nil {
			return err
		}
		for i, name := range a.names {
			g.Go(func() error {
				t := probe.Target{Host: name, Port: 5432, Password: password, Dial: 50 * time.Millisecond, Patience: 2 * time.Second}
				return each[i].firstWrite(gctx, t, leader)
			})
		}
		return nil
	})
	return func() (address, address, error) {
		defer cancel()
		err := g.Wait()
		return each[0], each[1], err
	}, nil
}

func receive(ctx context.Context, from <-chan time.Time, what string) (time.Time, error) {
	select {
	case at := <-from:
		return at, nil
	case <-ctx.Done():
		return time.Time{}, fmt.Errorf("wait for %s: %w", what, ctx.Err())
	}
}

// firstWrite makes attempts until one is acknowledged. They go straight to the
// PostgreSQL of the host that has the address, so that nothing but the address is
// compared. While a new leader is promoted, nobody takes writes.
func (a *address) firstWrite(ctx context.Context, t probe.Target, leader time.Time) (err error) {
	written := make(chan time.Time, 1)
	s := probe.Start(ctx, t, 10*time.Millisecond, 20, func(one probe.Sample) {
		if one.Outcome == probe.Written {
			select {
			case written <- one.End:
			default: // a later one
			}
		}
	})
	a.written, err = receive(ctx, written, "a write through "+t.Host)
	samples := s.Stop()
	a.Write, a.Leaks, a.Attempts = a.written.Sub(leader), probe.Count(samples)[probe.Replica], len(samples)
	return err
}

// judge fills in the times by what the ear heard, and says how the addresses fared
// over all moves.
func (a *addresses) judge(ms []move) (out [2]holders.Report, err error) {
	all, err := a.ear.finish()
	if err != nil {
		return out, err
	}
	var moves []holders.Move
	for n, asked := range a.moves {
		end := all.Lines[0].End
		if n+1 < len(a.moves) {
			end = a.moves[n+1].begin
		}
		span := holders.Move{After: asked.begin, Before: end, Host: a.f.Node(asked.to).Name}
		moves = append(moves, span)
		if err := ms[n].fill(all, span, asked.to, a.leader, a.primary); err != nil {
			return out, fmt.Errorf("judge move %d: %w", n+1, err)
		}
	}
	for i := range out {
		out[i] = all.Lines[i].Judge(moves...)
	}
	return out, nil
}

// fill takes the times of one move from all that was heard.
func (m *move) fill(all earReport, span holders.Move, to, leaderKey, primaryKey string) error {
	within := func(t time.Time) bool { return t.After(span.After) && t.Before(span.Before) }
	var leader, confirmed time.Time
	for _, h := range all.Heard {
		r, err := observed.Decode[observed.Primary](kv.KV{Value: []byte(h.Value)})
		switch {
		case !within(h.At):
		case h.Key == leaderKey && h.Value == to && leader.IsZero():
			leader = h.At
		case h.Key == primaryKey && err == nil && r.Member == to && r.Writable && confirmed.IsZero():
			confirmed = h.At
		}
	}
	var came [2]time.Time
	for i, line := range all.Lines {
		for _, c := range line.Changes {
			if c.Has && c.Host == span.Host && within(c.At) && came[i].IsZero() {
				came[i] = c.At
			}
		}
	}
	if leader.IsZero() || confirmed.IsZero() || came[0].IsZero() || came[1].IsZero() {
		return fmt.Errorf("leader key %s, confirmed %s, addresses %s", leader, confirmed, came)
	}
	m.Promotion = confirmed.Sub(leader)
	m.VIP.FromKey, m.Rival.FromKey = came[0].Sub(confirmed), came[1].Sub(leader)
	m.VIP.Write, m.Rival.Write = m.VIP.written.Sub(leader), m.Rival.written.Sub(leader)
	return nil
}

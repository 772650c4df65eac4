package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

const (
	// movesRest is how long nothing was stamped before the record is written: what
	// belongs to one move follows within less.
	movesRest = time.Second
	// movesEvery is the shortest time between two writes of a record, the longest that
	// one is put off by stamps that never end, and how long a move may last that nobody
	// has confirmed: half a move in the record is better than none.
	movesEvery = 5 * time.Second
)

// moves keeps the record of what this node saw and did when the leader moved. Whoever
// takes part in a move appends a stamp under the cluster's lock, and no move waits for
// more; run writes them together once it is over.
type moves struct {
	c    *cluster
	wake chan struct{}

	// The cluster's mu guards these.
	stamps []stamp // not in record yet
	newest time.Time
	leader time.Time // newest leader event
	learnt int64     // epoch of a leader who led when this agent began to look
	dns    string    // whom the cluster's name leads to; empty: not known

	writable plan.Epoch // under which this node's PostgreSQL was last seen to take writes; confirmLoop's own

	// io is held while the record is read, written or deleted, and guards the rest.
	io         sync.Mutex
	generation int // of the store that record is in
	record     observed.Moves
	unsaved    int   // so many of its newest are not known to be in etcd
	known      bool  // rev is
	rev        int64 // of the key; 0: there is none
	notBefore  time.Time
	failed     bool // said already
}

func newMoves(c *cluster) *moves { return &moves{c: c, wake: make(chan struct{}, 1)} }

// after reports whether the stamp's move was after another one: a leader is acted on first and
// noted afterwards, so what came of it may have been noted before.
func (s stamp) after(mv observed.Move) bool {
	leads := func(k observed.MoveKind) bool { return k == observed.MoveLeader || k == observed.MoveLost }
	return s.At.After(mv.At) || s.At.Equal(mv.At) && leads(mv.What) && !leads(s.What)
}

// stampLocked takes note of a move that was at that moment. first: the agent knew
// nothing of it before, so it has learnt how things are and not seen them change.
func (m *moves) stampLocked(at time.Time, first bool, mv observed.Move) {
	mv.At = at
	if len(m.stamps) >= observed.MaxMoves {
		m.stamps = slices.Delete(m.stamps, 0, 1)
	}
	i := len(m.stamps)
	for i > 0 && m.stamps[i-1].after(mv) {
		i--
	}
	m.stamps = slices.Insert(m.stamps, i, stamp{mv, first})
	if at.After(m.newest) {
		m.newest = at
	}
	if (mv.What == observed.MoveLeader || mv.What == observed.MoveLost) && at.After(m.leader) {
		m.leader = at
		if first {
			m.learnt = mv.Epoch
		}
	}
	poke(m.wake)
}

// run writes the record until ctx ends. What was stamped in the last second before that
// is lost: an agent that stops has no time for what nobody waits for.
func (m *moves) run(ctx context.Context) {
	client, ok := m.c.a.admittedClient(ctx)
	if !ok {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-timer.C:
		}
		if wait := m.once(ctx, client); wait > 0 {
			timer.Reset(wait)
		}
	}
}

// once writes what is due and says when to come again; 0: there is nothing left.
func (m *moves) once(ctx context.Context, client *store.Client) time.Duration {
	m.io.Lock()
	defer m.io.Unlock()
	if wait, ready := m.waits(time.Now()); !ready {
		return wait
	}
	key := m.c.a.o.Layout.MovesKey(m.c.a.o.Node, m.c.name)
	err := m.read(ctx, client, key)
	if err == nil {
		m.take()
		if m.unsaved == 0 {
			return 0
		}
		err = m.write(ctx, client, key)
	}
	m.c.a.wrote(err)
	pause := movesEvery
	switch {
	case errors.Is(err, store.ErrNoSpace):
		pause = fullPause
	case err != nil:
		// Whether the write arrived is not known.
		m.known, pause = false, time.Second
	}
	m.notBefore = time.Now().Add(pause)
	if err != nil && !m.failed && ctx.Err() == nil && !errors.Is(err, store.ErrNoSpace) {
		m.c.log.Warn("record of moves not written; trying again", zap.String("key", key), zap.Error(err))
	}
	if m.failed = err != nil; m.failed {
		return pause
	}
	return 0
}

// waits says how long to wait before the record may be written; ready: it may be now.
// Without ready, 0 means that there is nothing to write.
func (m *moves) waits(now time.Time) (wait time.Duration, ready bool) {
	c := m.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation != m.generation {
		m.generation, m.record, m.unsaved, m.known = c.generation, observed.Moves{}, 0, false
	}
	if c.ended || len(m.stamps)+m.unsaved == 0 {
		return 0, false
	}
	due := m.notBefore
	if len(m.stamps) > 0 {
		v := c.state.view
		due = later(due, movesDue(m.stamps[0].At, m.newest, m.leader, v.Leader.Member != "" && v.Confirmed()))
	}
	switch {
	case due.After(now):
		return due.Sub(now), false
	case c.uid == "" || c.distrustsLocked():
		return movesEvery, false // whose record this is can't be said, or into which etcd it would go
	}
	return 0, true
}

// read learns what etcd has, when that is not known.
func (m *moves) read(ctx context.Context, client *store.Client, key string) error {
	if m.known {
		return nil
	}
	e, found, err := client.Get(ctx, key)
	if err != nil {
		return err
	}
	var there observed.Moves
	m.rev = 0
	if found {
		m.rev = e.ModRevision
		if there, err = observed.Decode[observed.Moves](e); err != nil {
			m.c.log.Warn("record of moves can't be read; it is begun anew", zap.String("key", key), zap.Error(err))
			there = observed.Moves{}
		}
	}
	m.c.mu.Lock()
	uid, incarnation := m.c.uid, m.c.state.store
	m.c.mu.Unlock()
	if there.UID != uid || there.Store != incarnation {
		there = observed.Moves{} // its epochs are of another time
	}
	m.record, m.unsaved = rebase(there, m.record, m.unsaved)
	m.known = true
	return nil
}

// take makes the stamps part of the record.
func (m *moves) take() {
	c := m.c
	c.mu.Lock()
	m.record.Schema, m.record.Node, m.record.UID, m.record.Store = observed.Schema, c.a.o.Node, c.uid, c.state.store
	stamps := slices.Clone(m.stamps)
	m.stamps = m.stamps[:0]
	c.mu.Unlock()
	before := lastSeq(m.record)
	m.record.Moves = join(m.record.Moves, stamps)
	m.unsaved = min(m.unsaved+int(lastSeq(m.record)-before), len(m.record.Moves))
}

// write puts the record, guarded by the revision that was seen last: a write of an
// older process that is still on its way can't undo it.
func (m *moves) write(ctx context.Context, client *store.Client, key string) error {
	rev, err := client.Commit(ctx, []store.Guard{store.ModIs(key, m.rev)}, []store.Op{store.Put(key, observed.Encode(m.record))})
	if err == nil {
		m.rev, m.unsaved = rev, 0
	}
	return err
}

// forget deletes the record of a cluster that has left this host.
func (m *moves) forget(ctx context.Context, client *store.Client) error {
	m.io.Lock()
	defer m.io.Unlock()
	key := m.c.a.o.Layout.MovesKey(m.c.a.o.Node, m.c.name)
	if _, err := client.Commit(ctx, nil, []store.Op{store.Delete(key)}); err != nil {
		return err
	}
	m.record, m.unsaved, m.known, m.rev = observed.Moves{}, 0, true, 0
	m.c.mu.Lock()
	m.stamps = nil
	m.c.mu.Unlock()
	return nil
}

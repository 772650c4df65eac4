package engine

import (
	"context"
	"errors"
	"sync"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/store"
)

const (
	// maxBatch keeps a transaction under etcd's 1.5 MiB; two plans of the largest
	// size still fit with their keys.
	maxBatch = 1<<20 + 64<<10
	// maxInFlight is how many transactions are under way at once. What is to be
	// written meanwhile shares the next one: a transaction costs etcd a disk sync,
	// a key in it next to nothing.
	maxInFlight = 4
)

// write is one key to be written, if it is still at the revision that was seen.
type write struct {
	family keys.Family
	key    string
	value  []byte // nil: the key goes
	seen   int64  // 0: it must not exist
}

func (w write) op() store.Op {
	if w.value == nil {
		return store.Delete(w.key)
	}
	return store.Put(w.key, w.value)
}

// committer writes for all workers of a term, each transaction guarded by its
// election (R7) and by the revisions that the plans were made from. A lone write
// goes at once; what comes while all writers are busy goes together.
type committer struct {
	client     *store.Client
	leadership *store.Leadership

	mu      sync.Mutex
	wake    *sync.Cond
	waiting []*request
	closed  bool
	writers sync.WaitGroup
}

// request is what one worker wants written, whole or not at all.
type request struct {
	writes []write
	answer chan answer // buffered, so that no writer waits for a worker
}

type answer struct {
	rev int64
	err error
	// alone asks the worker to try by itself: somebody in its batch was in conflict.
	alone bool
}

var errNotLeading = errors.New("not leading any more")

func newCommitter(ctx context.Context, c *store.Client, l *store.Leadership) *committer {
	m := &committer{client: c, leadership: l}
	m.wake = sync.NewCond(&m.mu)
	for range maxInFlight {
		m.writers.Go(func() { m.write(ctx) })
	}
	return m
}

// close ends the writers. Nobody may commit any more.
func (c *committer) close() {
	c.mu.Lock()
	c.closed = true
	c.wake.Broadcast()
	c.mu.Unlock()
	c.writers.Wait()
}

// commit writes at one revision, which it returns.
func (c *committer) commit(ctx context.Context, writes []write) (int64, error) {
	r := &request{writes: writes, answer: make(chan answer, 1)}
	c.mu.Lock()
	c.waiting = append(c.waiting, r)
	c.wake.Signal()
	c.mu.Unlock()
	a := <-r.answer // in time: every transaction has a deadline
	if a.alone {
		return c.try(ctx, []*request{r})
	}
	return a.rev, a.err
}

// write is one writer: it takes what waits, all of it, and writes that.
func (c *committer) write(ctx context.Context) {
	for {
		c.mu.Lock()
		for len(c.waiting) == 0 && !c.closed {
			c.wake.Wait()
		}
		batch := c.take()
		c.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		var a answer
		a.rev, a.err = c.try(ctx, batch)
		a.alone = len(batch) > 1 && errors.Is(a.err, store.ErrConflict)
		for _, r := range batch {
			r.answer <- a
		}
	}
}

// take removes the next batch from those that wait.
func (c *committer) take() []*request {
	var batch, rest []*request
	taken, ops, size := map[string]bool{}, 0, 0
	for _, r := range c.waiting {
		n, clash := 0, false
		for _, w := range r.writes {
			n += len(w.key) + len(w.value)
			clash = clash || taken[w.key] // a record that is kept once has several who would make it
		}
		if clash || ops+len(r.writes) >= store.MaxOps || len(batch) > 0 && size+n > maxBatch {
			rest = append(rest, r)
			continue
		}
		for _, w := range r.writes {
			taken[w.key] = true
		}
		batch, ops, size = append(batch, r), ops+len(r.writes), size+n
	}
	c.waiting = rest
	return batch
}

// try is one transaction.
func (c *committer) try(ctx context.Context, batch []*request) (int64, error) {
	guards := []store.Guard{c.leadership.Guard()}
	var ops []store.Op
	for _, r := range batch {
		for _, w := range r.writes {
			guards = append(guards, store.ModIs(w.key, w.seen))
			ops = append(ops, w.op())
		}
	}
	if !c.leadership.Held() {
		return 0, errNotLeading
	}
	return c.client.Commit(ctx, guards, ops)
}

package engine

import (
	"container/heap"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/pgctrl/pgctrl/internal/jitter"
)

// Class is how urgent a key is. Within a class, first come is first served.
type Class int

// The classes, least urgent first.
const (
	// Resync is looking again although nothing is known to have changed.
	Resync Class = iota
	// Retry follows a failure.
	Retry
	// Change follows a changed input.
	Change
	// Failover follows a change of who leads or takes writes.
	Failover
	classes
)

// String is the class's name.
func (c Class) String() string {
	return [...]string{"resync", "retry", "change", "failover"}[c]
}

// Key is what the queue orders: one controller's view of one cluster.
type Key struct{ Controller, Cluster string }

// Next is how a key goes on after it was worked on.
type Next struct {
	// Failed asks for another try after a backoff that grows with each failure.
	Failed bool
	// After asks to look again then; 0: not by itself.
	After time.Duration
}

// Numbers of the retries: an operator's fix is an input and ends the wait at once,
// so the cap only bounds how long a fault that heals by itself goes unnoticed.
const (
	firstRetry = 100 * time.Millisecond
	mostRetry  = 30 * time.Second
)

// Queue holds each key at most once. A key that is being worked on is not handed
// out again before Done; what is added meanwhile waits. Merging takes the more
// urgent class and the earlier time.
type Queue struct {
	mu     sync.Mutex
	wake   *sync.Cond
	items  map[Key]*item
	ready  [classes]fifo
	length int
	timed  schedule
	timer  *time.Timer
	closed bool
}

// item is what the queue knows about a key. Exactly one of queued, running and
// neither holds; a timer may run besides.
type item struct {
	key     Key
	class   Class
	queued  bool
	running bool
	dirty   bool // added while running

	prev, next *item // in its class's list, while queued

	at       time.Time // when its timer is due
	atClass  Class
	position int // in the schedule; -1: no timer

	retry *backoff.ExponentialBackOff // nil: the last work succeeded
}

// NewQueue returns an empty queue.
func NewQueue() *Queue {
	q := &Queue{items: map[Key]*item{}}
	q.wake = sync.NewCond(&q.mu)
	q.timer = time.AfterFunc(time.Hour, q.due)
	q.timer.Stop()
	return q
}

// Add asks for work on a key now. An input that changed (Change, Failover) also
// ends a backoff: what failed before may work with it.
func (q *Queue) Add(k Key, c Class) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.item(k)
	if c >= Change {
		it.retry = nil
	}
	q.push(it, c)
}

// AddIn asks for work on a key once d has passed, or when it is next worked on.
// Asking again does not put the time off.
func (q *Queue) AddIn(k Key, c Class, d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.item(k)
	if c >= Change {
		it.retry = nil
	}
	switch {
	case it.running || it.queued || d <= 0:
		q.push(it, c)
	case it.position >= 0 && time.Until(it.at) <= d:
		it.atClass = max(it.atClass, c)
	default:
		if it.position >= 0 {
			c = max(c, it.atClass)
			heap.Remove(&q.timed, it.position)
		}
		q.schedule(it, d, c)
	}
}

// Get returns the most urgent key, waiting for one; false when the queue is closed.
func (q *Queue) Get() (Key, Class, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.closed {
			return Key{}, 0, false
		}
		for c := classes - 1; c >= 0; c-- {
			if it := q.ready[c].first; it != nil {
				q.take(it)
				it.running = true
				return it.key, c, true
			}
		}
		q.wake.Wait()
	}
}

// Done ends the work on a key that Get returned.
func (q *Queue) Done(k Key, n Next) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[k]
	if it == nil || !it.running {
		return
	}
	it.running = false
	if !n.Failed {
		it.retry = nil
	}
	switch {
	case it.dirty:
		it.dirty = false
		q.push(it, it.class)
		return // whatever comes of it asks anew for its next time
	case n.Failed:
		if it.retry == nil {
			it.retry = newRetry()
		}
		q.schedule(it, min(it.retry.NextBackOff(), mostRetry), Retry)
	case n.After > 0:
		q.schedule(it, n.After, Resync)
	}
	if it.position < 0 && it.retry == nil {
		delete(q.items, k)
	}
}

// Len is how many keys wait for a worker.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.length
}

// Close makes every Get return, now and later.
func (q *Queue) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.timer.Stop()
	q.wake.Broadcast()
}

func newRetry() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(firstRetry),
		backoff.WithMultiplier(2),
		backoff.WithMaxInterval(mostRetry),
		backoff.WithRandomizationFactor(jitter.Factor()),
		backoff.WithMaxElapsedTime(0), // the library's default gives up after 15 minutes
	)
}

func (q *Queue) item(k Key) *item {
	it := q.items[k]
	if it == nil {
		it = &item{key: k, position: -1}
		q.items[k] = it
	}
	return it
}

// push makes a key ready, or remembers it while it is being worked on.
func (q *Queue) push(it *item, c Class) {
	if it.position >= 0 {
		c = max(c, it.atClass)
		heap.Remove(&q.timed, it.position)
	}
	switch {
	case it.running:
		if it.dirty {
			c = max(c, it.class)
		}
		it.dirty, it.class = true, c
		return
	case it.queued && it.class >= c:
		return
	case it.queued:
		q.take(it)
	}
	it.queued, it.class = true, c
	q.ready[c].append(it)
	q.length++
	q.wake.Signal()
}

func (q *Queue) take(it *item) {
	q.ready[it.class].remove(it)
	it.queued = false
	q.length--
}

// schedule sets a key's timer; there is none when it is called.
func (q *Queue) schedule(it *item, d time.Duration, c Class) {
	it.at, it.atClass = time.Now().Add(d), c
	heap.Push(&q.timed, it)
	if it.position == 0 {
		q.timer.Reset(d)
	}
}

// due runs when the first timer may be.
func (q *Queue) due() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.timed) > 0 && !q.closed {
		first := q.timed[0]
		if d := time.Until(first.at); d > 0 {
			q.timer.Reset(d)
			return
		}
		q.push(first, first.atClass) // takes it off the schedule
	}
}

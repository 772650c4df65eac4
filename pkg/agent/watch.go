package agent

import (
	"context"
	"sync"
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// The pace at which events are answered.
const (
	// coalesce is how long after an event the host is compared: editors and
	// `systemctl disable` make several events of one act.
	coalesce = 50 * time.Millisecond
	// A resource with more than burst answered events within paceWindow is looked at
	// every paceEvery at most, so that a program that touches a file in a loop costs
	// little and drift is still repaired within the second.
	burst      = 10
	paceWindow = 10 * time.Second
	paceEvery  = 500 * time.Millisecond
)

// events is what may have drifted in one cluster: filled by Watchers, emptied by the
// worker. It has a lock of its own, because Watchers call at any time.
type events struct {
	wake chan struct{}

	mu      sync.Mutex
	touched map[string]time.Time // resource -> its first event that nobody looked at
	looking map[string]time.Time // the same, of those that the present pass looks at
	past    map[string][]time.Time
	watched map[string]watched
	ending  sync.WaitGroup
}

// watched is a resource that is being watched, by what there is to watch of it.
type watched struct {
	what string
	stop context.CancelFunc
}

func newEvents() *events {
	return &events{
		wake: make(chan struct{}, 1), touched: map[string]time.Time{}, looking: map[string]time.Time{},
		past: map[string][]time.Time{}, watched: map[string]watched{},
	}
}

// touch notes that a resource may have drifted.
func (e *events) touch(id string, now time.Time) {
	e.mu.Lock()
	if _, already := e.touched[id]; !already {
		e.touched[id] = now
	}
	e.mu.Unlock()
	poke(e.wake)
}

// wait is how long until the first touched resource is to be looked at.
func (e *events) wait(now time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := DriftEvery
	for id, at := range e.touched {
		next = min(next, due(at, e.past[id]).Sub(now))
	}
	return max(next, 0)
}

// due is when to look at a resource that was touched, given when it was before.
func due(touched time.Time, past []time.Time) time.Time {
	at := touched.Add(coalesce)
	if n := len(past); n >= burst && touched.Sub(past[n-burst]) < paceWindow {
		if slow := past[n-1].Add(paceEvery); slow.After(at) {
			return slow
		}
	}
	return at
}

// begin starts a pass: it answers every event so far.
func (e *events) begin(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.looking = e.touched
	e.touched = map[string]time.Time{}
	for id := range e.looking {
		p := append(e.past[id], now)
		e.past[id] = p[max(0, len(p)-burst):]
	}
}

// seen is when the event came that the present pass looks at; zero: there was none.
func (e *events) seen(id string) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.looking[id]
}

// end stops all watching.
func (e *events) end() {
	e.mu.Lock()
	for id, w := range e.watched {
		w.stop()
		delete(e.watched, id)
	}
	e.mu.Unlock()
	e.ending.Wait()
}

// watch keeps a Watch on every resource of the newest plans. One whose plan is gone
// stays watched: it is kept in force.
func (c *cluster) watch(ctx context.Context) {
	if c.a.o.Host.Watcher == nil {
		return
	}
	c.mu.Lock()
	var rs []plan.Resource
	for _, con := range c.concerns {
		rs = append(rs, con.plan.Resources...)
	}
	c.mu.Unlock()
	e := c.events
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range rs {
		id, what := r.ID(), watchable(r)
		if what == "" || e.watched[id].what == what {
			continue
		}
		if old := e.watched[id]; old.stop != nil {
			old.stop()
		}
		wctx, stop := context.WithCancel(ctx)
		e.watched[id] = watched{what: what, stop: stop}
		e.ending.Go(func() {
			c.a.o.Host.Watcher.Watch(wctx, r, func() { e.touch(id, time.Now()) })
		})
		// What happened between its compare and this nobody saw.
		if _, already := e.touched[id]; !already {
			e.touched[id] = time.Now()
		}
		poke(e.wake)
	}
}

// watchable names what of a resource can be watched; empty: nothing.
func watchable(r plan.Resource) string {
	if w, ok := r.(plan.Watched); ok {
		return w.File
	}
	u, ok := r.(plan.Unit)
	if !ok {
		return "" // Patroni's configuration is a key, and keys tell
	}
	what := u.Unit
	for _, f := range u.Files {
		what += "\x00" + f.Path
	}
	return what
}

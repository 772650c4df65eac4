package engine

import (
	"context"
	"sync"
	"time"

	"github.com/pgctrl/pgctrl/pkg/store"
)

// farewell is how long leadership outlives the order to stop, for what runs beside the
// controllers to write how far it is: one transaction of an etcd that answers.
const farewell = time.Second

// companions are what runs beside the controllers, in one leadership.
type companions struct {
	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup
}

// start starts them. They end with ctx, and with the leadership at the latest.
func (c *companions) start(ctx context.Context, l *store.Leadership, list []func(context.Context, *store.Leadership)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	for _, run := range list {
		c.running.Go(func() {
			part, cancel := context.WithCancel(l.Context())
			defer cancel()
			defer context.AfterFunc(ctx, cancel)()
			run(part, l)
		})
	}
}

// wait lets nobody start any more and waits until they have ended, for a farewell at most.
func (c *companions) wait() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.running.Wait()
	}()
	timer := time.NewTimer(farewell)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	}
}

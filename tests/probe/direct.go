package probe

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Direct watches one PostgreSQL over a standing connection of its own, past
// every proxy, and notes each acknowledged write. It is the measure of Patroni's
// own floor and of the instant at which a new primary takes writes.
type Direct struct {
	Target Target
	mu     sync.Mutex
	acks   []time.Time
	stop   context.CancelFunc
	done   chan struct{}
}

// Watch asks every interval whether the server has left recovery and writes one
// row if so; a server that is away is tried again every interval.
func Watch(ctx context.Context, t Target, interval time.Duration) *Direct {
	ctx, cancel := context.WithCancel(ctx)
	d := &Direct{Target: t, stop: cancel, done: make(chan struct{})}
	go d.run(ctx, interval)
	return d
}

func (d *Direct) run(ctx context.Context, interval time.Duration) {
	defer close(d.done)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			conn.Close(context.WithoutCancel(ctx))
		}
	}()
	for ctx.Err() == nil {
		if conn == nil || conn.IsClosed() {
			conn, _ = d.Target.Connect(ctx) // refused while it starts or stops: tried again
		}
		if conn != nil && takesWrites(ctx, conn) {
			if _, err := Write(ctx, conn); err == nil {
				d.mu.Lock()
				d.acks = append(d.acks, time.Now())
				d.mu.Unlock()
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// takesWrites asks first: a refused write would fill the server's log.
func takesWrites(ctx context.Context, conn *pgx.Conn) bool {
	var recovery bool
	err := conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&recovery)
	return err == nil && !recovery
}

// Stop ends the watch.
func (d *Direct) Stop() {
	d.stop()
	<-d.done
}

// FirstAfter is the first acknowledged write after t; zero when there is none.
func (d *Direct) FirstAfter(t time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.acks {
		if a.After(t) {
			return a
		}
	}
	return time.Time{}
}

// LastBefore is the last acknowledged write before t; zero when there is none.
func (d *Direct) LastBefore(t time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	var last time.Time
	for _, a := range d.acks {
		if a.Before(t) {
			last = a
		}
	}
	return last
}

// Package eventlog writes the stream of events: it reads etcd's history from where it stopped, has
// package projection find the events in it, and stores them, as long as its server leads.
//
// # Nothing is lost
//
// The cursor is written in the transaction of the events that it counts, so a server that dies in
// the middle leaves both or neither, and the next one goes on behind it. An event's name follows
// from the revision it is seen in; one that is there already is not written again. What etcd has
// compacted before anybody looked is said (stream.gap), and told as far as it can still be seen.
//
// # Nothing is written while nothing happens (R8)
//
// The cursor moves with events, and once more when a server stops. So it may be far behind when
// little happens; what lies between is read again and holds no events.
//
// # What is kept
//
// At most MaxPerCluster events of a cluster, MaxInAll of all, and none older than MaxAge. What is
// too much goes in the transaction of what comes, and up to where is kept (keys.EventsRemoved):
// what reads events can tell that it was too late for some. When etcd's database is over half of its quota
// nothing is written (ROLES section 7); the stream goes on, from its cursor, when there is room.
package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// What is kept of the past.
const (
	// MaxPerCluster events are a busy week of a cluster, and half a megabyte.
	MaxPerCluster = 1000
	// MaxInAll are 30 MB of etcd, of whose 2 GiB a fleet of 5,000 clusters has its plans.
	MaxInAll = 50_000
	// MaxAge is for how long people look back, or should have copied what they need.
	MaxAge = 30 * 24 * time.Hour
)

const (
	// roomEvery is how often etcd is asked for its size. A database grows by a percent of its
	// quota in minutes at the worst.
	roomEvery = 30 * time.Second
	// maxQueue is how many events wait for etcd at most. Beyond that they are found again.
	maxQueue = 20_000
)

// Options are all that a stream needs.
type Options struct {
	Client *store.Client
	Layout keys.Layout
	Log    *zap.Logger
	// Registry receives the metrics; nil keeps them to itself.
	Registry prometheus.Registerer
}

// Stream writes events.
type Stream struct {
	Options
	metrics *metrics
}

// New prepares a stream.
func New(o Options) (*Stream, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	s := &Stream{Options: o, metrics: newMetrics()}
	if o.Registry != nil {
		if err := s.metrics.register(o.Registry); err != nil {
			return nil, fmt.Errorf("set up events: %w", err)
		}
	}
	return s, nil
}

// Why a session ends while its server leads on.
var (
	errFilling = errors.New("etcd's database is over half of its quota")
	errBehind  = errors.New("etcd takes events more slowly than they come")
)

// Lead writes events until ctx ends, which it does with the leadership at the latest.
func (s *Stream) Lead(ctx context.Context, l *store.Leadership) {
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(200*time.Millisecond), backoff.WithMaxInterval(10*time.Second), backoff.WithMaxElapsedTime(0))
	for ctx.Err() == nil {
		began := time.Now()
		err := s.session(ctx, l)
		if ctx.Err() != nil {
			return
		}
		s.Log.Warn("events are read anew", zap.Error(err))
		if time.Since(began) > time.Minute {
			wait.Reset()
		}
		if !idle.For(ctx, wait.NextBackOff()) {
			return
		}
	}
}

// session reads the cursor and goes on from there until something is in the way.
func (s *Stream) session(ctx context.Context, l *store.Leadership) error {
	if err := s.room(ctx); err != nil {
		return err
	}
	j, err := s.open(ctx, l)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 2)
	go func() { done <- s.watchRoom(ctx) }()
	go func() { done <- j.read(ctx) }()
	err = j.write(ctx, done)
	cancel(err)
	<-done
	<-done
	j.leave()
	return err
}

// room reports that etcd has room for events. One that does not say is believed to have.
func (s *Stream) room(ctx context.Context) error {
	h, err := s.Client.Health(ctx)
	if err == nil && (h.NoSpace || observed.Filling(h.Size, h.Quota)) {
		return errFilling
	}
	return nil
}

func (s *Stream) watchRoom(ctx context.Context) error {
	for idle.For(ctx, roomEvery) {
		if err := s.room(ctx); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// cursor reads how far the stream is; 0: it has not begun.
func (s *Stream) cursor(ctx context.Context) (int64, error) {
	e, there, err := s.Client.Get(ctx, s.Layout.EventsCursor())
	if err != nil || !there {
		return 0, err
	}
	rev, err := strconv.ParseInt(string(e.Value), 10, 64)
	if err != nil {
		s.Log.Warn("the cursor of events can't be read; they begin anew", zap.String("key", e.Key), zap.ByteString("value", e.Value))
		return 0, nil
	}
	return rev, nil
}

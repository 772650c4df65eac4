package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/projection"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// journal is one session: what was found and is not written yet, and how far both are.
type journal struct {
	*Stream
	leadership *store.Leadership
	projection *projection.Projection
	history    *store.History
	stored     *stored
	wake       chan struct{}

	mu      sync.Mutex
	damper  events.Damper
	queue   []events.Event
	through int64 // everything up to this revision was looked at
	cursor  int64 // as etcd has it
}

// open reads where the stream is.
func (s *Stream) open(ctx context.Context, l *store.Leadership) (*journal, error) {
	cursor, err := s.cursor(ctx)
	if err != nil {
		return nil, err
	}
	j := &journal{Stream: s, leadership: l, wake: make(chan struct{}, 1), cursor: cursor}
	if j.stored, err = s.read(ctx); err != nil {
		return nil, err
	}
	reports, now, err := s.Client.ListKeys(ctx, s.Layout.Prefix(keys.Observed))
	if err != nil {
		return nil, err
	}
	j.projection = projection.New(s.Layout, reports)
	cursor = min(cursor, now) // somebody wrote it by hand, or etcd was put back
	if cursor == 0 {
		// What was before the first server is no event. That there is a beginning is written, so
		// that nothing is lost between it and the first event.
		cursor = now
		if err := j.commit(ctx, nil, now); err != nil {
			return nil, err
		}
	}
	j.from(cursor)
	return j, nil
}

func (j *journal) from(cursor int64) {
	j.through = cursor
	j.history = store.NewHistory(j.Client, "events", cursor+1, projection.Prefixes(j.Layout)...)
}

// read finds events until ctx ends or something is in the way.
func (j *journal) read(ctx context.Context) error {
	err := j.history.Run(ctx, j.take)
	var gone *store.Forgotten
	if !errors.As(err, &gone) {
		return err
	}
	if err := j.bridge(ctx, gone); err != nil {
		return err
	}
	return j.history.Run(ctx, j.take)
}

// take finds the events of one transaction.
func (j *journal) take(m store.Moment) error {
	changes := make([]projection.Change, len(m.Changes))
	for i, c := range m.Changes {
		changes[i] = projection.Change{Key: c.Key, Old: c.Old, New: c.New}
	}
	now := time.Now().UTC()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.found(j.projection.Of(m.Revision, changes, now, m.Past), now)
	j.through = m.Revision
	if len(j.queue) > maxQueue {
		return errBehind
	}
	return nil
}

// found queues events that are not there yet. The caller holds mu.
func (j *journal) found(list []events.Event, now time.Time) {
	for _, e := range list {
		if !j.stored.has(e) && j.damper.Offer(e, now) {
			j.queue = append(j.queue, e)
		}
	}
	if len(list) > 0 {
		idle.Poke(j.wake)
	}
}

// bridge tells of what etcd has forgotten as far as it can still be seen: what was written then and
// is still there. What came and went is not known to anybody. History has the rest.
func (j *journal) bridge(ctx context.Context, gone *store.Forgotten) error {
	now := time.Now().UTC()
	written := map[int64][]projection.Change{}
	for _, f := range []keys.Family{keys.Desired, keys.Defaults, keys.Nodes, keys.Hooks, keys.Primary, keys.Operations} {
		found, _, err := j.Client.List(ctx, j.Layout.Prefix(f))
		if err != nil {
			return err
		}
		for i := range found {
			if e := found[i]; e.ModRevision >= gone.From && e.ModRevision < gone.Oldest {
				written[e.ModRevision] = append(written[e.ModRevision], projection.Change{Key: e.Key, New: &e})
			}
		}
	}
	var list []events.Event
	first := 0
	for rev, changes := range written {
		found := j.projection.Of(rev, changes, now, true)
		if rev == gone.From {
			first = len(found)
		}
		list = append(list, found...)
	}
	gap := events.Event{
		Schema: events.Schema, ID: events.ID{Revision: gone.From, N: first}.String(), Cluster: events.Fleet, Kind: events.StreamGap,
		Severity: events.Warning, At: now, Seen: now, Late: true,
		Message: fmt.Sprintf("no server looked for longer than etcd remembers (revisions %d to %d); what was written then and is still there is told", gone.From, gone.Oldest-1),
	}
	j.Log.Warn("events of the past are incomplete", zap.Error(gone))
	list = append(list, gap)
	events.Sort(list)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.found(list, now)
	j.from(gone.Oldest - 1)
	return nil
}

// A transaction of etcd has 128 operations: so many events, as many that go and a few more, each
// perhaps the only one of its cluster that does, and the cursor.
const (
	writeAtOnce  = 40
	removeAtOnce = (store.MaxOps - 1 - writeAtOnce) / 2
)

// write stores what was found until ctx ends or one of the others does.
func (j *journal) write(ctx context.Context, others chan error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-j.wake:
		case <-timer.C:
		case err := <-others:
			others <- nil // it is counted by who waits for it
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for more := true; more; {
			var err error
			if more, err = j.flush(ctx); err != nil {
				return err
			}
		}
		j.mu.Lock()
		next := j.damper.Next(time.Now())
		j.mu.Unlock()
		timer.Reset(max(next, time.Millisecond))
		if next == 0 {
			timer.Stop()
		}
	}
}

// flush writes one transaction of what waits, and reports whether more does.
func (j *journal) flush(ctx context.Context) (more bool, err error) {
	now := time.Now().UTC()
	j.mu.Lock()
	j.queue = append(j.queue, j.damper.Due(now)...)
	batch := j.queue[:min(len(j.queue), writeAtOnce)]
	cursor := j.reachLocked(len(batch))
	j.mu.Unlock()
	if len(batch) == 0 {
		return false, nil
	}
	if err := j.commit(ctx, batch, cursor); err != nil {
		return false, err
	}
	for _, e := range batch {
		j.metrics.events.WithLabelValues(string(e.Kind)).Inc()
	}
	if last := batch[len(batch)-1]; !last.Late {
		j.metrics.seconds.Observe(time.Since(last.Seen).Seconds())
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.queue = j.queue[len(batch):]
	return len(j.queue) > 0, nil
}

// reachLocked is how far the stream is once the first n that wait are written.
func (j *journal) reachLocked(n int) int64 {
	cursor := j.through
	for _, e := range j.queue[n:] {
		if id, err := events.ParseID(e.ID); err == nil {
			cursor = min(cursor, id.Revision-1)
		}
	}
	if held := j.damper.Oldest(); held > 0 {
		cursor = min(cursor, held-1)
	}
	return max(cursor, j.cursor)
}

// commit writes events and the cursor at once, and removes what is too much.
func (j *journal) commit(ctx context.Context, batch []events.Event, cursor int64) error {
	ops := make([]store.Op, 0, 3*len(batch)+1)
	named := map[string]bool{}
	for _, e := range batch {
		if named[nameOf(e)] {
			continue // etcd would refuse all of them, again and again
		}
		named[nameOf(e)] = true
		ops = append(ops, store.Put(j.Layout.EventKey(e.Cluster, e.ID), observed.Encode(e)))
	}
	gone := j.stored.tooMuch(batch, time.Now(), removeAtOnce)
	for _, old := range gone {
		ops = append(ops, store.Delete(j.Layout.EventKey(old.cluster, old.id.String())))
	}
	higher, bare := j.stored.floors(batch, gone)
	for cluster, rev := range higher {
		ops = append(ops, store.Put(j.Layout.EventsRemoved(cluster), observed.Encode(events.Removed{Schema: events.Schema, Revision: rev})))
	}
	for _, cluster := range bare {
		ops = append(ops, store.Delete(j.Layout.EventsRemoved(cluster)))
	}
	ops = append(ops, store.Put(j.Layout.EventsCursor(), strconv.AppendInt(nil, cursor, 10)))
	rev, err := j.Client.Commit(ctx, []store.Guard{j.leadership.Guard()}, ops)
	if err != nil {
		return fmt.Errorf("write %d events: %w", len(batch), err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stored.written(batch, gone, rev) // under mu, because who finds events looks there meanwhile
	j.cursor = cursor
	return nil
}

// leave writes how far the stream has come, when a server stops that leads: the next one need not
// read so much again, of which etcd may have forgotten a part by then.
func (j *journal) leave() {
	j.mu.Lock()
	j.through = max(j.through, j.history.Reached())
	cursor, idle := j.reachLocked(0), j.cursor
	j.mu.Unlock()
	if cursor == idle || !j.leadership.Held() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := j.commit(ctx, nil, cursor); err != nil {
		j.Log.Debug("the cursor of events stays where it is", zap.Error(err))
	}
}

package agent

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// streamsAfter is how long a replica of a confirmed primary may be without a stream before it
// is to look into the archive. A stream that breaks is there again within wal_retrieve_retry_interval
// (1 s here) and a login; a member that follows a new primary is restarted or rewound in a few
// seconds.
const streamsAfter = 10 * time.Second

// ledAfter is that for a former primary which does not answer yet: it has all WAL of its own, and
// with a store that hangs its start asked for a timeline's history for 50 s, many times over, when
// it might (measured). Its stop takes 20 s while nothing can be archived.
const ledAfter = time.Minute

// streams tells PostgreSQL's restore_command whether to ask the archive (plan.StreamsFile).
type streams struct {
	c    *cluster
	wake chan struct{}
	// Of run alone: what was said last, if anything was, and since when the member follows a
	// confirmed primary without a stream.
	said, says bool
	lacks      time.Time
	// led: it led when it answered last. up: it answers.
	led, up bool
}

func newStreams(c *cluster) *streams { return &streams{c: c, wake: make(chan struct{}, 1)} }

func (w *streams) run(ctx context.Context) {
	if w.c.a.o.Host.Streams != nil {
		again(ctx, w.wake, w.once)
	}
}

func (w *streams) once(context.Context) time.Duration {
	c := w.c
	c.mu.Lock()
	s := c.lookLocked()
	own, member := c.info.Own()
	var local PostgresState
	if c.watcher != nil {
		local = c.watcher.Last()
	}
	c.mu.Unlock()
	if !member {
		return sqlIdle
	}
	follows := s.view.Confirmed() && s.view.Primary.Member != own.Name
	says, sure, wait := w.judge(local, follows, time.Now())
	if !sure || w.said && says == w.says {
		return wait
	}
	if err := c.a.o.Host.Streams(c.name, says); err != nil {
		c.log.Warn("restore_command is not told whether to ask the archive", zap.Error(err))
		return time.Minute
	}
	w.said, w.says = true, says
	return wait
}

// judge says whether the archive need not be asked, and when to judge again; without sure it
// stays as it is. Without a confirmed primary nothing changes: those moments are a failover,
// in which a promotion would wait for the archive.
func (w *streams) judge(local PostgresState, follows bool, now time.Time) (says, sure bool, wait time.Duration) {
	if w.led && !w.up && local.Reachable {
		w.lacks = time.Time{} // it has started, and a stream takes a moment
	}
	w.up = local.Reachable
	switch {
	case local.Reachable && (local.Streaming || !local.InRecovery):
		w.lacks, w.led = time.Time{}, !local.InRecovery
		return true, true, sqlIdle
	case !follows:
		w.lacks = time.Time{}
		return false, false, sqlIdle
	case w.lacks.IsZero():
		w.lacks = now
	}
	patience := streamsAfter
	if w.led && !w.up {
		patience = ledAfter
	}
	if left := w.lacks.Add(patience).Sub(now); left > 0 {
		return false, false, left
	}
	return false, true, sqlIdle
}

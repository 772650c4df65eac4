package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"

	"github.com/pgctrl/pgctrl/internal/idle"
)

// Forgotten means that etcd has compacted revisions that were still to be read.
type Forgotten struct {
	// From was to be read next; Oldest is the first revision that etcd still has.
	From, Oldest int64
}

// Error implements error.
func (f *Forgotten) Error() string {
	return fmt.Sprintf("etcd has forgotten revisions that were not read yet: from %d on, and the oldest that it has is %d", f.From, f.Oldest)
}

// Moment is one revision: all that one transaction changed of the prefixes that are read.
type Moment struct {
	Revision int64
	// Changes are in the transaction's order within each prefix; Old is as it was before.
	Changes []Change
	// Past: it was there before reading began.
	Past bool
}

// History reads what was changed under some prefixes, revision by revision and in their order,
// from one in the past on and without an end. A Mirror says what is; a History misses nothing that
// was, and holds nothing.
type History struct {
	client   *Client
	prefixes []string
	stream   string
	past     int64 // the newest revision when reading began
	reached  atomic.Int64
}

// NewHistory prepares reading from a revision on; Run reads. Prefixes are as in MirrorOptions,
// and so is stream.
func NewHistory(c *Client, stream string, from int64, prefixes ...string) *History {
	h := &History{client: c, prefixes: distinct(prefixes), stream: stream}
	h.reached.Store(from - 1)
	return h
}

// Reached is the revision up to which everything was handed over.
func (h *History) Reached() int64 { return h.reached.Load() }

// historyAsk is how soon etcd is asked again how far it is, where a prefix holds another one up:
// it drops the question while a watch of the stream is not up to date.
const historyAsk = 20 * time.Millisecond

// historyAlive is how often a stream has to be heard of: one that hangs says nothing, and no error
// either. It costs a message for each prefix.
const historyAlive = 10 * time.Second

// historyPause is how long nothing is read after a watch has ended for no reason of its own.
const historyPause = 200 * time.Millisecond

// Run hands over one moment after the other until ctx ends, each says stop, or what is next was
// compacted away (Forgotten). Whatever else goes wrong it goes on where it was.
func (h *History) Run(ctx context.Context, each func(Moment) error) error {
	for generation := 0; ; generation++ {
		r := &historian{History: h, each: each, generation: generation}
		err := r.read(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, new(*Forgotten)), r.stopped:
			return err
		}
		h.client.log.Warn("history is read again", zap.Int64("revision", h.Reached()+1), zap.Error(err))
		if !idle.For(ctx, historyPause) {
			return context.Cause(ctx)
		}
	}
}

// historian is one attempt: a watch for each prefix, merged by revision. The watches have no
// order among them, so a revision is handed over once every watch is known to have passed it, by
// an event of its own or by etcd's word about its progress.
type historian struct {
	*History
	each       func(Moment) error
	generation int
	passed     []int64
	waiting    [][]Moment // of each prefix, not yet handed over
	answers    int        // to the question how far etcd is
	stopped    bool       // by each
}

func (r *historian) read(ctx context.Context) error {
	if r.past == 0 { // what comes while a watch is broken is late by seconds, and is no past
		past, err := r.client.revision(ctx, r.prefixes[0])
		if err != nil {
			return err
		}
		r.History.past = past
	}
	// One stream for all, so that one question about progress is answered for all; another one
	// for each attempt, since a stream that hangs stays so.
	ctx = clientv3.WithRequireLeader(metadata.AppendToOutgoingContext(ctx, streamKey, r.stream+"#"+strconv.Itoa(r.generation)))
	ctx, cancel := context.WithCancel(ctx)
	var watches sync.WaitGroup
	defer watches.Wait()
	defer cancel()
	responses := make(chan heard)
	from := r.Reached() + 1
	r.passed, r.waiting = make([]int64, len(r.prefixes)), make([][]Moment, len(r.prefixes))
	for i := range r.prefixes {
		r.passed[i] = from - 1
		watches.Go(func() { r.watch(ctx, i, from, responses) })
	}
	ask, alive := time.NewTimer(historyAsk), time.NewTicker(historyAlive)
	defer ask.Stop()
	defer alive.Stop()
	asked, silent := false, false
	r.answers = 0
	for {
		select {
		case got := <-responses:
			silent = false
			if err := r.take(got); err != nil {
				return err
			}
			if r.answers >= len(r.prefixes) {
				asked, r.answers = false, 0 // every watch has its answer: who is behind now asks anew
			}
		case <-ask.C:
			asked = false
		case <-alive.C:
			if silent {
				return errSilent
			}
			silent = true
			if err := r.askHow(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		behind, err := r.hand()
		if err != nil {
			r.stopped = true
			return err
		}
		if behind && !asked {
			asked, r.answers = true, 0
			ask.Reset(historyAsk)
			if err := r.askHow(ctx); err != nil {
				return err
			}
		}
	}
}

// askHow has etcd say how far each watch is. On a stream that hangs not even that gets through.
func (r *historian) askHow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := r.client.watcher.RequestProgress(ctx); err != nil {
		return fmt.Errorf("ask how far etcd is: %w", err)
	}
	return nil
}

func (r *historian) watch(ctx context.Context, i int, from int64, to chan<- heard) {
	r.client.carry(ctx, i, r.prefixes[i], from, func(h heard) {
		select {
		case to <- h:
		case <-ctx.Done():
		}
	}, clientv3.WithPrevKV())
}

// take takes one answer of one watch in.
func (r *historian) take(h heard) error {
	switch resp := &h.resp; {
	case h.closed:
		return errClosed
	case resp.CompactRevision > 0:
		return &Forgotten{From: r.Reached() + 1, Oldest: resp.CompactRevision}
	case resp.Err() != nil:
		return resp.Err()
	case resp.Canceled:
		return errClosed
	case resp.Created:
	case len(resp.Events) == 0:
		r.answers++
		r.passed[h.i] = max(r.passed[h.i], resp.Header.GetRevision())
	default:
		r.events(h.i, resp.Events)
	}
	return nil
}

func (r *historian) events(i int, events []*clientv3.Event) {
	list, newest := r.waiting[i], r.Reached()
	if n := len(list); n > 0 {
		newest = list[n-1].Revision
	}
	for _, ev := range events {
		rev := ev.Kv.ModRevision
		if rev <= newest {
			continue // etcd has sent events twice (#17247)
		}
		c := Change{Key: string(ev.Kv.Key)}
		if ev.PrevKv != nil {
			old := fromEtcd(ev.PrevKv)
			c.Old = &old
		}
		if ev.Type != clientv3.EventTypeDelete {
			now := fromEtcd(ev.Kv)
			c.New = &now
		}
		if n := len(list); n > 0 && list[n-1].Revision == rev {
			list[n-1].Changes = append(list[n-1].Changes, c)
			continue
		}
		list = append(list, Moment{Revision: rev, Changes: []Change{c}, Past: rev <= r.past})
	}
	r.waiting[i] = list
	r.passed[i] = max(r.passed[i], events[len(events)-1].Kv.ModRevision)
}

// hand hands over what every watch has passed, and reports whether something waits for one that
// has not.
func (r *historian) hand() (behind bool, err error) {
	for {
		next, low := int64(0), r.passed[0]
		for i := range r.waiting {
			low = min(low, r.passed[i])
			if w := r.waiting[i]; len(w) > 0 && (next == 0 || w[0].Revision < next) {
				next = w[0].Revision
			}
		}
		if next == 0 {
			r.reached.Store(max(low, r.Reached()))
			return false, nil
		}
		if next > low {
			return true, nil
		}
		m := Moment{Revision: next}
		for i, w := range r.waiting {
			if len(w) > 0 && w[0].Revision == next {
				m.Changes, m.Past = append(m.Changes, w[0].Changes...), w[0].Past
				r.waiting[i] = w[1:]
			}
		}
		if err := r.each(m); err != nil {
			return false, err
		}
		r.reached.Store(next)
	}
}

package model

import (
	"context"
	"errors"
	"fmt"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// batchRevisions is how many revisions etcd puts into one response at most.
const batchRevisions = 1000

// watcher is the client library's Watcher. The library's own can't be used here:
// its streams wait on a channel made outside of every synctest bubble, which
// stops fake time. Like the library's, Watch returns when etcd knows the watch, a
// watch survives a bad link and goes on where it was, and watches with equal
// metadata share a stream and its fate. The notice of creation is always sent, and so is what a
// key was before.
type watcher struct {
	*conn
	ctx     context.Context
	close   context.CancelFunc
	serving sync.WaitGroup
}

func newWatcher(c *conn) *watcher {
	w := &watcher{conn: c}
	w.ctx, w.close = context.WithCancel(context.Background())
	return w
}

// watch is one watch; the server's mutex guards it. It remembers how far it was
// told, so a slow or cut off reader costs nothing and gets everything later.
type watch struct {
	stream    string
	from, end []byte
	next      int64 // the first revision not yet told
	created   bool  // the notice of creation is still due
	progress  bool  // asked for and not yet given
	failed    bool
}

// Watch implements clientv3.Watcher.
func (w *watcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	out := make(chan clientv3.WatchResponse, 1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(w.ctx, cancel)
	if w.server.pass(ctx, w.link) != nil {
		stop()
		cancel()
		close(out)
		return out
	}
	op := clientv3.OpGet(key, opts...) // the options fill the same struct for both
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	if w.ctx.Err() != nil {
		cancel()
		close(out)
		return out
	}
	wt := &watch{stream: streamOf(ctx), from: op.KeyBytes(), end: op.RangeBytes(), next: op.Rev(), created: true}
	if wt.next == 0 {
		wt.next = w.server.rev() + 1
	}
	w.link.watches[wt] = true
	w.serving.Go(func() {
		defer close(out)
		defer cancel()
		defer stop()
		w.serve(ctx, wt, out)
	})
	return out
}

// RequestProgress implements clientv3.Watcher.
func (w *watcher) RequestProgress(ctx context.Context) error {
	if err := w.server.pass(ctx, w.link); err != nil {
		return fmt.Errorf("request progress: %w", context.Cause(ctx))
	}
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	for wt := range w.link.watches {
		wt.progress = wt.progress || wt.stream == streamOf(ctx)
	}
	w.server.broadcast()
	return nil
}

// Close implements clientv3.Watcher.
func (w *watcher) Close() error {
	w.server.mu.Lock()
	w.close() // under the lock, so that no watch begins after Wait
	w.server.mu.Unlock()
	w.serving.Wait()
	return nil
}

// streamOf is how the library decides which watches share a stream.
func streamOf(ctx context.Context) string {
	md, _ := metadata.FromOutgoingContext(ctx)
	return fmt.Sprint(md)
}

// errOver ends a watch after what it said last.
var errOver = errors.New("watch is over")

func (w *watcher) serve(ctx context.Context, wt *watch, out chan<- clientv3.WatchResponse) {
	defer func() {
		w.server.mu.Lock()
		delete(w.link.watches, wt)
		w.server.mu.Unlock()
	}()
	for {
		if w.server.pass(ctx, w.link) != nil {
			return
		}
		w.server.mu.Lock()
		changed := w.server.changed
		resp, err := w.say(wt)
		w.server.mu.Unlock()
		if resp == nil {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case out <- *resp:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// say returns what the watch has to say next, or nil.
func (w *watcher) say(wt *watch) (*clientv3.WatchResponse, error) {
	s := w.server
	switch {
	case !w.link.works() || w.link.muted[wt.stream]:
		return nil, nil
	case wt.failed:
		return &clientv3.WatchResponse{Header: &pb.ResponseHeader{}, Canceled: true}, errOver
	case wt.created:
		wt.created = false
		return &clientv3.WatchResponse{Header: s.header(), Created: true}, nil
	case wt.next < s.first:
		return &clientv3.WatchResponse{Header: &pb.ResponseHeader{}, Canceled: true, CompactRevision: s.first}, errOver
	}
	if events := s.eventsFor(wt); len(events) > 0 {
		return &clientv3.WatchResponse{Header: s.header(), Events: events}, nil
	}
	if wt.progress {
		// It has everything: only now may etcd speak of progress.
		wt.progress = false
		return &clientv3.WatchResponse{Header: s.header()}, nil
	}
	return nil, nil
}

// eventsFor takes what the watch has not been told yet.
func (s *Server) eventsFor(wt *watch) []*clientv3.Event {
	var events []*clientv3.Event
	for revisions := 0; wt.next <= s.rev() && revisions < batchRevisions; wt.next++ {
		before := len(events)
		for _, ev := range s.events[wt.next-s.first] {
			if within(string(ev.Kv.Key), wt.from, wt.end) {
				events = append(events, (*clientv3.Event)(ev))
			}
		}
		if len(events) > before {
			revisions++
		}
	}
	return events
}

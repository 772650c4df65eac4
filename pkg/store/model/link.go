package model

import (
	"context"
	"time"

	"google.golang.org/grpc/status"
)

// link is the network between one client and the server. The server's mutex
// guards it.
type link struct {
	open  chan struct{} // closed while the link works
	delay time.Duration
	// muted names streams that will never say anything again.
	muted   map[string]bool
	watches map[*watch]bool
	calls   int64
}

func (s *Server) link(name string) *link {
	l, ok := s.links[name]
	if !ok {
		l = &link{open: make(chan struct{}), muted: map[string]bool{}, watches: map[*watch]bool{}}
		close(l.open)
		s.links[name] = l
	}
	return l
}

// Cut makes the link a black hole: calls hang until their deadline, watches fall
// silent, nothing is refused.
func (s *Server) Cut(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.link(name)
	if l.works() {
		l.open = make(chan struct{})
	}
}

// Heal ends Cut: calls that still wait go through, watches go on where they were.
func (s *Server) Heal(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.link(name)
	if !l.works() {
		close(l.open)
		s.broadcast()
	}
}

// Delay makes every call and every watch response of the link take that long.
func (s *Server) Delay(name string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link(name).delay = d
}

// DropWatch mutes the watch streams the link has now, for good, and every later
// watch that shares one of them: a hung stream. Calls work; a new stream works.
func (s *Server) DropWatch(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.link(name)
	for wt := range l.watches {
		l.muted[wt.stream] = true
	}
	s.broadcast()
}

// FailWatch cancels the watches the link has now, as a member does that lost its
// leader.
func (s *Server) FailWatch(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for wt := range s.link(name).watches {
		wt.failed = true
	}
	s.broadcast()
}

// Calls counts the link's unary calls.
func (s *Server) Calls(name string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link(name).calls
}

func (l *link) works() bool {
	select {
	case <-l.open:
		return true
	default:
		return false
	}
}

// pass carries one message over the link: it waits while the link is cut, then
// for the link's delay, and again in case it was cut meanwhile.
func (s *Server) pass(ctx context.Context, l *link) error {
	for delayed := false; ; delayed = true {
		s.mu.Lock()
		open, delay := l.open, l.delay
		s.mu.Unlock()
		select {
		case <-open:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
		if delayed || delay == 0 {
			return nil
		}
		t := time.NewTimer(delay / 2)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// call is one unary call: the question passes the link, the server acts, the
// answer passes the link. What is cut in between has happened, and its caller
// does not know.
func call[T any](ctx context.Context, c *conn, act func() (T, error)) (T, error) {
	var zero T
	if err := c.server.pass(ctx, c.link); err != nil {
		return zero, err
	}
	c.server.mu.Lock()
	c.link.calls++
	out, err := act()
	c.server.mu.Unlock()
	if perr := c.server.pass(ctx, c.link); perr != nil {
		return zero, perr
	}
	return out, err
}

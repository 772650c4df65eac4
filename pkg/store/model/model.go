// Package model is an etcd in memory, for tests that need time to be fake and
// faults to be exact. Calls stand in at the wire, so the real client library
// prepares the requests and reads the answers; watches stand in for the library.
// The suite in pkg/store/storetest runs against the model and against a real etcd
// and holds the one to the other.
//
// It takes time from the time package only, so it works in a testing/synctest
// bubble: server and clients must be made, and clients closed, inside.
package model

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/store/internal/tree"
)

// Server is the modelled etcd. Its methods are the hand of the test: they act at
// once and no fault touches them.
type Server struct {
	mu sync.Mutex
	// roots[i] is every key as of revision first+i, events[i] what that revision
	// did. The last root is now.
	first  int64
	roots  []tree.Tree[*mvccpb.KeyValue]
	events [][]*mvccpb.Event

	leases    map[int64]*lease
	nextLease int64
	links     map[string]*link
	// changed is closed and replaced whenever a stream may have something to say.
	changed chan struct{}
	reads   int
}

// Reads is how many ranges were read so far, by whomever.
func (s *Server) Reads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// New returns an empty etcd; like a real one it is at revision 1.
func New() *Server {
	return &Server{
		first:   1,
		roots:   make([]tree.Tree[*mvccpb.KeyValue], 1),
		events:  make([][]*mvccpb.Event, 1),
		leases:  map[int64]*lease{},
		links:   map[string]*link{},
		changed: make(chan struct{}),
	}
}

// Parts are a client as the client library cuts it; what store.New takes.
type Parts struct {
	KV      clientv3.KV
	Watcher clientv3.Watcher
	Lease   clientv3.Lease
}

// Connect returns the library's own client on the link of that name. Faults are
// named after links; several connections may share one.
func (s *Server) Connect(name string) Parts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &conn{server: s, link: s.link(name)}
	base := clientv3.NewCtxClient(context.Background()) // lends its logger, no more
	return Parts{
		KV:      clientv3.NewKVFromKVClient(c, base),
		Watcher: newWatcher(c),
		Lease:   clientv3.NewLeaseFromLeaseClient(c, base, time.Second),
	}
}

// Client is Connect wrapped as everybody uses it. Close it at the end of the test.
func (s *Server) Client(name string) *store.Client {
	p := s.Connect(name)
	return store.New(p.KV, p.Watcher, p.Lease, nil)
}

// Revision is the newest revision.
func (s *Server) Revision() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rev()
}

// Put writes a key by hand and returns the revision.
func (s *Server) Put(key, value string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.begin()
	w.put(key, []byte(value), 0)
	return w.commit()
}

// Delete removes a key by hand and returns the revision.
func (s *Server) Delete(key string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.begin()
	w.delete(key)
	return w.commit()
}

// Get looks at a key by hand.
func (s *Server) Get(key string) (value string, modRevision int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.now().Get(key)
	return string(e.GetValue()), e.GetModRevision(), ok
}

// Compact forgets history before rev, which must not be in the future.
func (s *Server) Compact(rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compact(rev)
}

func (s *Server) compact(rev int64) {
	if n := rev - s.first; n > 0 {
		s.roots, s.events, s.first = s.roots[n:], s.events[n:], rev
		s.broadcast()
	}
}

// ExpireLease ends a lease as if its time were over.
func (s *Server) ExpireLease(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLease(id)
}

// Leases are the ids of all leases.
func (s *Server) Leases() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaseIDs()
}

func (s *Server) rev() int64 { return s.first + int64(len(s.roots)) - 1 }

func (s *Server) now() tree.Tree[*mvccpb.KeyValue] { return s.roots[len(s.roots)-1] }

func (s *Server) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
}

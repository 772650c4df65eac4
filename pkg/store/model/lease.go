package model

import (
	"context"
	"maps"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// lease ends exactly when its time is over. A real etcd takes up to half a second
// more; the model is the hardest case for whoever must stop before.
type lease struct {
	ttl     time.Duration
	ends    time.Time
	expires *time.Timer
	keys    map[string]bool
}

// LeaseGrant implements pb.LeaseClient.
func (c *conn) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest, _ ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
	return call(ctx, c, func() (*pb.LeaseGrantResponse, error) {
		s, id := c.server, r.ID
		if id == 0 {
			s.nextLease++
			id = s.nextLease
		}
		if s.leases[id] != nil {
			return nil, rpctypes.ErrGRPCLeaseExist
		}
		l := &lease{ttl: time.Duration(r.TTL) * time.Second, keys: map[string]bool{}}
		s.leases[id] = l
		l.ends = time.Now().Add(l.ttl)
		l.expires = time.AfterFunc(l.ttl, func() { s.expire(id, l) })
		return &pb.LeaseGrantResponse{Header: s.header(), ID: id, TTL: r.TTL}, nil
	})
}

// LeaseRevoke implements pb.LeaseClient.
func (c *conn) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest, _ ...grpc.CallOption) (*pb.LeaseRevokeResponse, error) {
	return call(ctx, c, func() (*pb.LeaseRevokeResponse, error) {
		if !c.server.endLease(r.ID) {
			return nil, rpctypes.ErrGRPCLeaseNotFound
		}
		return &pb.LeaseRevokeResponse{Header: c.server.header()}, nil
	})
}

// LeaseTimeToLive implements pb.LeaseClient.
func (c *conn) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest, _ ...grpc.CallOption) (*pb.LeaseTimeToLiveResponse, error) {
	return call(ctx, c, func() (*pb.LeaseTimeToLiveResponse, error) {
		out := &pb.LeaseTimeToLiveResponse{Header: c.server.header(), ID: r.ID, TTL: -1}
		l := c.server.leases[r.ID]
		if l == nil {
			return out, nil
		}
		out.TTL, out.GrantedTTL = int64(time.Until(l.ends)/time.Second), int64(l.ttl/time.Second)
		if r.Keys {
			for _, key := range slices.Sorted(maps.Keys(l.keys)) {
				out.Keys = append(out.Keys, []byte(key))
			}
		}
		return out, nil
	})
}

// LeaseLeases implements pb.LeaseClient.
func (c *conn) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest, _ ...grpc.CallOption) (*pb.LeaseLeasesResponse, error) {
	return call(ctx, c, func() (*pb.LeaseLeasesResponse, error) {
		out := &pb.LeaseLeasesResponse{Header: c.server.header()}
		for _, id := range c.server.leaseIDs() {
			out.Leases = append(out.Leases, &pb.LeaseStatus{ID: id})
		}
		return out, nil
	})
}

// LeaseKeepAlive implements pb.LeaseClient.
func (c *conn) LeaseKeepAlive(ctx context.Context, _ ...grpc.CallOption) (grpc.BidiStreamingClient[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse], error) {
	return &keepAliveStream{conn: c, ctx: ctx, asked: make(chan int64, 16)}, nil
}

// keepAliveStream is one stream of renewals; each Recv answers one Send.
type keepAliveStream struct {
	grpc.ClientStream
	conn  *conn
	ctx   context.Context
	asked chan int64
}

func (k *keepAliveStream) Send(r *pb.LeaseKeepAliveRequest) error {
	select {
	case k.asked <- r.ID:
		return nil
	case <-k.ctx.Done():
		return status.FromContextError(k.ctx.Err()).Err()
	}
}

func (k *keepAliveStream) Recv() (*pb.LeaseKeepAliveResponse, error) {
	var id int64
	select {
	case id = <-k.asked:
	case <-k.ctx.Done():
		return nil, status.FromContextError(k.ctx.Err()).Err()
	}
	return call(k.ctx, k.conn, func() (*pb.LeaseKeepAliveResponse, error) {
		s := k.conn.server
		out := &pb.LeaseKeepAliveResponse{Header: s.header(), ID: id}
		if l := s.leases[id]; l != nil {
			l.expires.Reset(l.ttl)
			l.ends = time.Now().Add(l.ttl)
			out.TTL = int64(l.ttl / time.Second)
		}
		return out, nil // a TTL of 0 says that there is no such lease
	})
}

func (k *keepAliveStream) CloseSend() error         { return nil }
func (k *keepAliveStream) Context() context.Context { return k.ctx }

// expire ends a lease by its timer, unless it was renewed in the same instant.
func (s *Server) expire(id int64, l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases[id] == l && !time.Now().Before(l.ends) {
		s.endLease(id)
	}
}

// endLease removes a lease and its keys, all at one revision.
func (s *Server) endLease(id int64) bool {
	l := s.leases[id]
	if l == nil {
		return false
	}
	l.expires.Stop()
	delete(s.leases, id)
	w := s.begin()
	for _, key := range slices.Sorted(maps.Keys(l.keys)) {
		w.delete(key)
	}
	w.commit()
	return true
}

func (s *Server) detach(e *mvccpb.KeyValue) {
	if l := s.leases[e.Lease]; l != nil {
		delete(l.keys, string(e.Key))
	}
}

func (s *Server) leaseIDs() []int64 { return slices.Sorted(maps.Keys(s.leases)) }

package model

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pgctrl/pgctrl/pkg/store/internal/tree"
)

const (
	maxTxnOps    = 128
	maxRequest   = 1.5 * 1024 * 1024
	errNestedTxn = "model: nested transactions are not modelled"
)

// conn is a client's end of a link: etcd's KV, Watch and Lease services.
type conn struct {
	server *Server
	link   *link
}

func (s *Server) header() *pb.ResponseHeader { return &pb.ResponseHeader{Revision: s.rev()} }

// Range implements pb.KVClient.
func (c *conn) Range(ctx context.Context, r *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	return call(ctx, c, func() (*pb.RangeResponse, error) {
		c.server.reads++
		return c.server.rangeAt(r, c.server.now())
	})
}

// RangeStream implements pb.KVClient.
func (c *conn) RangeStream(context.Context, *pb.RangeRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[pb.RangeStreamResponse], error) {
	return nil, status.Error(codes.Unimplemented, "model: RangeStream is not modelled")
}

// Put implements pb.KVClient.
func (c *conn) Put(ctx context.Context, r *pb.PutRequest, _ ...grpc.CallOption) (*pb.PutResponse, error) {
	return call(ctx, c, func() (*pb.PutResponse, error) {
		w := c.server.begin()
		if err := w.check(r); err != nil {
			return nil, err
		}
		w.put(string(r.Key), r.Value, r.Lease)
		w.commit()
		return &pb.PutResponse{Header: c.server.header()}, nil
	})
}

// DeleteRange implements pb.KVClient.
func (c *conn) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest, _ ...grpc.CallOption) (*pb.DeleteRangeResponse, error) {
	return call(ctx, c, func() (*pb.DeleteRangeResponse, error) {
		w := c.server.begin()
		n := w.deleteRange(r)
		w.commit()
		return &pb.DeleteRangeResponse{Header: c.server.header(), Deleted: n}, nil
	})
}

// Compact implements pb.KVClient.
func (c *conn) Compact(ctx context.Context, r *pb.CompactionRequest, _ ...grpc.CallOption) (*pb.CompactionResponse, error) {
	return call(ctx, c, func() (*pb.CompactionResponse, error) {
		s := c.server
		if r.Revision <= s.first {
			return nil, rpctypes.ErrGRPCCompacted
		}
		if r.Revision > s.rev() {
			return nil, rpctypes.ErrGRPCFutureRev
		}
		s.compact(r.Revision)
		return &pb.CompactionResponse{Header: s.header()}, nil
	})
}

// Txn implements pb.KVClient.
func (c *conn) Txn(ctx context.Context, r *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	return call(ctx, c, func() (*pb.TxnResponse, error) {
		s := c.server
		if max(len(r.Compare), len(r.Success), len(r.Failure)) > maxTxnOps {
			return nil, rpctypes.ErrGRPCTooManyOps
		}
		ops, resp := r.Success, &pb.TxnResponse{Succeeded: true}
		for _, cmp := range r.Compare {
			if !s.holds(cmp) {
				ops, resp.Succeeded = r.Failure, false
				break
			}
		}
		w := s.begin()
		if err := w.checkAll(ops); err != nil {
			return nil, err
		}
		for _, op := range ops {
			out, err := w.do(op)
			if err != nil {
				return nil, err
			}
			resp.Responses = append(resp.Responses, out)
		}
		w.commit()
		resp.Header = s.header()
		return resp, nil
	})
}

// rangeAt answers a range request; current is what revision 0 means.
func (s *Server) rangeAt(r *pb.RangeRequest, current tree.Tree[*mvccpb.KeyValue]) (*pb.RangeResponse, error) {
	if len(r.Key) == 0 {
		return nil, rpctypes.ErrGRPCEmptyKey
	}
	keys := current
	switch {
	case r.Revision > s.rev():
		return nil, rpctypes.ErrGRPCFutureRev
	case r.Revision > 0 && r.Revision < s.first:
		return nil, rpctypes.ErrGRPCCompacted
	case r.Revision > 0:
		keys = s.roots[r.Revision-s.first]
	}
	out := &pb.RangeResponse{Header: s.header()}
	limit := r.Limit
	if r.SortTarget == pb.RangeRequest_MOD {
		limit = 0 // which ones are first is known when all of them are
	}
	for key, e := range keys.From(string(r.Key)) {
		if !within(key, r.Key, r.RangeEnd) {
			break
		}
		out.Count++
		switch {
		case e.ModRevision < r.MinModRevision:
		case r.CountOnly:
		case limit > 0 && int64(len(out.Kvs)) == limit:
			out.More = true
		case r.KeysOnly:
			out.Kvs = append(out.Kvs, &mvccpb.KeyValue{
				Key: e.Key, CreateRevision: e.CreateRevision, ModRevision: e.ModRevision, Version: e.Version, Lease: e.Lease,
			})
		default:
			out.Kvs = append(out.Kvs, e)
		}
	}
	if r.SortTarget == pb.RangeRequest_MOD {
		slices.SortStableFunc(out.Kvs, func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.ModRevision, b.ModRevision) })
		if r.Limit > 0 && int64(len(out.Kvs)) > r.Limit {
			out.Kvs, out.More = out.Kvs[:r.Limit], true
		}
	}
	return out, nil
}

// within reports whether key is in the range; a range without end is one key, and
// the end "\x00" is no end at all.
func within(key string, from, end []byte) bool {
	switch {
	case len(end) == 0:
		return key == string(from)
	case bytes.Equal(end, []byte{0}):
		return key >= string(from)
	}
	return key >= string(from) && key < string(end)
}

// holds evaluates one compare. A key that does not exist has zero revisions and
// no value: a comparison with its value is never true.
func (s *Server) holds(c *pb.Compare) bool {
	e, ok := s.now().Get(string(c.Key))
	var order int
	switch c.Target {
	case pb.Compare_VALUE:
		if !ok {
			return false
		}
		order = bytes.Compare(e.Value, c.GetValue())
	case pb.Compare_CREATE:
		order = cmp.Compare(e.GetCreateRevision(), c.GetCreateRevision())
	case pb.Compare_MOD:
		order = cmp.Compare(e.GetModRevision(), c.GetModRevision())
	case pb.Compare_LEASE:
		order = cmp.Compare(e.GetLease(), c.GetLease())
	default:
		order = cmp.Compare(e.GetVersion(), c.GetVersion())
	}
	switch c.Result {
	case pb.Compare_EQUAL:
		return order == 0
	case pb.Compare_GREATER:
		return order > 0
	case pb.Compare_LESS:
		return order < 0
	}
	return order != 0
}

package model

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pgctrl/pgctrl/pkg/store/internal/tree"
)

// write is what becomes the next revision, or nothing if it changes nothing.
type write struct {
	s      *Server
	keys   tree.Tree[*mvccpb.KeyValue]
	events []*mvccpb.Event
}

func (s *Server) begin() *write { return &write{s: s, keys: s.now()} }

func (w *write) put(key string, value []byte, leaseID int64) {
	rev := w.s.rev() + 1
	e := &mvccpb.KeyValue{Key: []byte(key), Value: value, ModRevision: rev, CreateRevision: rev, Version: 1, Lease: leaseID}
	old, ok := w.keys.Get(key)
	if ok {
		e.CreateRevision, e.Version = old.CreateRevision, old.Version+1
		w.s.detach(old)
	}
	w.keys = w.keys.Set(key, e)
	w.events = append(w.events, &mvccpb.Event{Type: mvccpb.Event_PUT, Kv: e, PrevKv: old})
	if l := w.s.leases[leaseID]; l != nil {
		l.keys[key] = true
	}
}

func (w *write) delete(key string) bool {
	old, ok := w.keys.Get(key)
	if !ok {
		return false
	}
	w.s.detach(old)
	w.keys = w.keys.Delete(key)
	w.events = append(w.events, &mvccpb.Event{
		Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: w.s.rev() + 1}, PrevKv: old,
	})
	return true
}

func (w *write) deleteRange(r *pb.DeleteRangeRequest) int64 {
	var n int64
	for key := range w.keys.From(string(r.Key)) {
		if !within(key, r.Key, r.RangeEnd) {
			break
		}
		if w.delete(key) {
			n++
		}
	}
	return n
}

// commit makes the write the newest revision and tells every watch.
func (w *write) commit() int64 {
	if len(w.events) > 0 {
		w.s.roots = append(w.s.roots, w.keys)
		w.s.events = append(w.s.events, w.events)
		w.s.broadcast()
	}
	return w.s.rev()
}

// check refuses what etcd refuses before it does anything.
func (w *write) check(r *pb.PutRequest) error {
	switch {
	case len(r.Key) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case len(r.Key)+len(r.Value) > maxRequest:
		return rpctypes.ErrGRPCRequestTooLarge
	case r.Lease != 0 && w.s.leases[r.Lease] == nil:
		return rpctypes.ErrGRPCLeaseNotFound
	}
	return nil
}

// checkAll refuses a transaction as a whole; ops is the branch that is taken.
func (w *write) checkAll(ops []*pb.RequestOp) error {
	size, puts := 0, map[string]bool{}
	for _, op := range ops {
		put := op.GetRequestPut()
		if put == nil {
			continue
		}
		if err := w.check(put); err != nil {
			return err
		}
		if puts[string(put.Key)] {
			return rpctypes.ErrGRPCDuplicateKey
		}
		puts[string(put.Key)] = true
		if size += len(put.Key) + len(put.Value); size > maxRequest {
			return rpctypes.ErrGRPCRequestTooLarge
		}
	}
	return nil
}

func (w *write) do(op *pb.RequestOp) (*pb.ResponseOp, error) {
	switch {
	case op.GetRequestPut() != nil:
		r := op.GetRequestPut()
		w.put(string(r.Key), r.Value, r.Lease)
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{}}}, nil
	case op.GetRequestDeleteRange() != nil:
		n := w.deleteRange(op.GetRequestDeleteRange())
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{
			ResponseDeleteRange: &pb.DeleteRangeResponse{Deleted: n},
		}}, nil
	case op.GetRequestRange() != nil:
		out, err := w.s.rangeAt(op.GetRequestRange(), w.keys)
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: out}}, err
	}
	return nil, status.Error(codes.Unimplemented, errNestedTxn)
}

package storetest

import (
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func grant(t *testing.T, b Backend, ttl int64) clientv3.LeaseID {
	t.Helper()
	return must[*clientv3.LeaseGrantResponse](t)(b.Lease.Grant(t.Context(), ttl)).ID
}

func testLeaseRevoke(t *testing.T, b Backend) {
	ctx := t.Context()
	id := grant(t, b, 60)
	for _, k := range []string{"/l/a", "/l/b"} {
		must[*clientv3.PutResponse](t)(b.KV.Put(ctx, k, "x", clientv3.WithLease(id)))
	}
	if e, _ := get(t, b, "/l/a"); e.Lease != int64(id) {
		t.Errorf("key says lease %d, expected %d", e.Lease, id)
	}
	ttl := must[*clientv3.LeaseTimeToLiveResponse](t)(b.Lease.TimeToLive(ctx, id, clientv3.WithAttachedKeys()))
	if ttl.GrantedTTL != 60 || ttl.TTL < 50 || len(ttl.Keys) != 2 {
		t.Errorf("granted %d, left %d, keys %q", ttl.GrantedTTL, ttl.TTL, ttl.Keys)
	}
	if r := must[*clientv3.LeaseKeepAliveResponse](t)(b.Lease.KeepAliveOnce(ctx, id)); r.TTL != 60 {
		t.Errorf("renewal says %d s", r.TTL)
	}
	before := must[*clientv3.GetResponse](t)(b.KV.Get(ctx, "/l/a")).Header.Revision
	must[*clientv3.LeaseRevokeResponse](t)(b.Lease.Revoke(ctx, id))
	after := must[*clientv3.GetResponse](t)(b.KV.Get(ctx, "/l/", clientv3.WithPrefix()))
	if after.Count != 0 || after.Header.Revision != before+1 {
		t.Errorf("after revocation: %d keys, revision %d; expected none, %d", after.Count, after.Header.Revision, before+1)
	}
	if _, err := b.Lease.KeepAliveOnce(ctx, id); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("renewal of a revoked lease: %v", err)
	}
	if _, err := b.Lease.Revoke(ctx, id); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("second revocation: %v", err)
	}
	if r := must[*clientv3.LeaseTimeToLiveResponse](t)(b.Lease.TimeToLive(ctx, id)); r.TTL != -1 {
		t.Errorf("a revoked lease has %d s left, expected -1", r.TTL)
	}
}

func testLeaseExpires(t *testing.T, b Backend) {
	id := grant(t, b, 1)
	rev := must[*clientv3.PutResponse](t)(b.KV.Put(t.Context(), "/l/a", "x", clientv3.WithLease(id))).Header.Revision
	ch := b.Watcher.Watch(ctxFor(t), "/l/a", clientv3.WithRev(rev+1))
	r := next(t, ch)
	if len(r.Events) != 1 || r.Events[0].Type != clientv3.EventTypeDelete {
		t.Errorf("expiry came as %v", r.Events)
	}
	if _, err := b.Lease.KeepAliveOnce(t.Context(), id); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("renewal of an expired lease: %v", err)
	}
}

func testLeaseDetach(t *testing.T, b Backend) {
	id, other := grant(t, b, 60), grant(t, b, 60)
	for _, k := range []string{"/l/free", "/l/moved", "/l/kept"} {
		must[*clientv3.PutResponse](t)(b.KV.Put(t.Context(), k, "x", clientv3.WithLease(id)))
	}
	put(t, b, "/l/free", "y")
	must[*clientv3.PutResponse](t)(b.KV.Put(t.Context(), "/l/moved", "y", clientv3.WithLease(other)))
	must[*clientv3.LeaseRevokeResponse](t)(b.Lease.Revoke(t.Context(), id))
	for key, want := range map[string]bool{"/l/free": true, "/l/moved": true, "/l/kept": false} {
		if _, ok := get(t, b, key); ok != want {
			t.Errorf("%s exists: %v, expected %v", key, ok, want)
		}
	}
}

package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// goodbye bounds what is said to etcd after the caller's context ended.
const goodbye = time.Second

// held is a lease of our own. The client library's keep-alive is not used: it
// counts from when an answer came, ticks coarsely, and reports a loss up to half a
// second after etcd gave the key to somebody else (measured). Here the lease is
// worth its time from the moment its last renewal was *sent*.
type held struct {
	client *Client
	id     clientv3.LeaseID
	ttl    time.Duration // as granted: etcd may grant more than was asked
	sentAt time.Time
}

// grant takes a new lease.
func (c *Client) grant(ctx context.Context, ttl time.Duration) (*held, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	h := &held{client: c, sentAt: time.Now()}
	seconds := int64((ttl + time.Second - 1) / time.Second)
	resp, err := c.lease.Grant(ctx, max(1, seconds))
	if err != nil {
		return nil, fmt.Errorf("grant lease of %s: %w", ttl, refined(err))
	}
	h.id, h.ttl = resp.ID, time.Duration(resp.TTL)*time.Second
	return h, nil
}

// renew prolongs the lease. errLeaseLost means that etcd no longer has it; any
// other error leaves it as it was.
func (h *held) renew(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	sentAt := time.Now()
	resp, err := h.client.lease.KeepAliveOnce(ctx, h.id)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return errLeaseLost
	}
	if err != nil {
		return fmt.Errorf("renew lease: %w", err)
	}
	h.sentAt, h.ttl = sentAt, time.Duration(resp.TTL)*time.Second
	return nil
}

// release gives the lease back, and with it every key under it, even when the
// caller's context is over: that is when it is called.
func (h *held) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	_, err := h.client.lease.Revoke(ctx, h.id)
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("revoke lease: %w", err)
	}
	return nil
}

// errLeaseLost means that the lease expired or was revoked.
var errLeaseLost = errors.New("lease is gone")

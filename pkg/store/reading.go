package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// LeaseLeft asks etcd how long somebody's lease still lives if nobody renews it,
// provided that key hangs on it: a lease outlives the key when the key is given up. 0
// is a lease that is over, or without the key. etcd answers in whole seconds and
// rounds down. What it says counts from when it was asked.
func (c *Client) LeaseLeft(ctx context.Context, lease int64, key string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := c.lease.TimeToLive(ctx, clientv3.LeaseID(lease), clientv3.WithAttachedKeys())
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("ask for lease of %s: %w", key, err)
	case r.TTL <= 0 || !slices.ContainsFunc(r.Keys, func(k []byte) bool { return string(k) == key }):
		return 0, nil
	}
	return time.Duration(r.TTL) * time.Second, nil
}

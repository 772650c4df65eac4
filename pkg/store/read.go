package store

import (
	"context"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/kv"
)

// Sizes of a list's pages. The first tells how large keys are here; the others are
// about two MiB, because etcd counts the rest of the range again for every page (50,000
// small keys took 240 ms in pages of 500 and 80 ms in pages of 2000).
const (
	firstPage = 500
	mostPage  = 5000
	pageBytes = 2 << 20
)

// Get reads one key, linearizably.
func (c *Client) Get(ctx context.Context, key string) (kv.KV, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.kv.Get(ctx, key)
	if err != nil {
		return kv.KV{}, false, fmt.Errorf("get %s: %w", key, err)
	}
	if len(resp.Kvs) == 0 {
		return kv.KV{}, false, nil
	}
	return fromEtcd(resp.Kvs[0]), true, nil
}

// List reads every key under prefix as it was at one revision, sorted by key,
// and returns that revision. A prefix that does not end with "/" is a single key.
func (c *Client) List(ctx context.Context, prefix string) ([]kv.KV, int64, error) {
	return c.ListAt(ctx, prefix, 0)
}

// ListAt is List as etcd was at an earlier revision; 0 is the newest.
func (c *Client) ListAt(ctx context.Context, prefix string, rev int64) ([]kv.KV, int64, error) {
	var out []kv.KV
	rev, err := c.eachAt(ctx, prefix, rev, func(e kv.KV) { out = append(out, e) })
	if err != nil {
		return nil, 0, err
	}
	return out, rev, nil
}

// ListKeys reads the names of all keys under a prefix, and the revision that they are of.
func (c *Client) ListKeys(ctx context.Context, prefix string) ([]string, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.kv.Get(ctx, prefix, clientv3.WithRange(rangeEnd(prefix)), clientv3.WithKeysOnly())
	if err != nil {
		return nil, 0, fmt.Errorf("list the keys of %s: %w", prefix, err)
	}
	out := make([]string, 0, len(resp.Kvs))
	for _, e := range resp.Kvs {
		out = append(out, string(e.Key))
	}
	return out, resp.Header.GetRevision(), nil
}

// eachAt calls do for every key under prefix, sorted by key, as it was at the given
// revision; 0 is the newest. It returns that revision, and rpctypes.ErrCompacted when
// etcd has forgotten it. Two pages at most are in memory at once: etcd reads the next
// one while this one is worked on.
func (c *Client) eachAt(ctx context.Context, prefix string, rev int64, do func(kv.KV)) (int64, error) {
	type answer struct {
		page *clientv3.GetResponse
		err  error
	}
	end := rangeEnd(prefix)
	ask := func(from string, limit int, rev int64) <-chan answer {
		opts := []clientv3.OpOption{clientv3.WithLimit(int64(limit)), clientv3.WithRev(rev)}
		if end != "" {
			opts = append(opts, clientv3.WithRange(end))
		}
		to := make(chan answer, 1)
		go func() {
			page, err := c.page(ctx, from, opts)
			to <- answer{page, err}
		}()
		return to
	}
	n, size := 0, 0
	for next := ask(prefix, firstPage, rev); ; {
		a := <-next
		if a.err != nil {
			return 0, fmt.Errorf("list %s: %w", prefix, a.err)
		}
		if rev == 0 {
			// Every further page reads the revision of the first, so that the list is
			// one moment and not a smear.
			rev = a.page.Header.GetRevision()
		}
		for _, e := range a.page.Kvs {
			n, size = n+1, size+len(e.Key)+len(e.Value)
		}
		more := a.page.More && len(a.page.Kvs) > 0
		if more {
			last := a.page.Kvs[len(a.page.Kvs)-1].Key
			next = ask(string(last)+"\x00", min(mostPage, max(1, pageBytes*n/max(1, size))), rev)
		}
		for _, e := range a.page.Kvs {
			do(fromEtcd(e))
		}
		if !more {
			return rev, nil
		}
	}
}

func (c *Client) page(ctx context.Context, from string, opts []clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.kv.Get(ctx, from, opts...)
}

// revision asks etcd, linearizably, how far it is. The key only has to be one
// that the caller may read; prefixes themselves are such keys.
func (c *Client) revision(ctx context.Context, key string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.kv.Get(ctx, key, clientv3.WithCountOnly())
	if err != nil {
		return 0, fmt.Errorf("ask etcd for its revision: %w", err)
	}
	return resp.Header.GetRevision(), nil
}

// rangeEnd is the end of the range a prefix stands for, empty for a single key.
func rangeEnd(prefix string) string {
	if !strings.HasSuffix(prefix, "/") {
		return ""
	}
	return clientv3.GetPrefixRangeEnd(prefix)
}

func fromEtcd(e *mvccpb.KeyValue) kv.KV {
	return kv.KV{
		Key: string(e.Key), Value: e.Value,
		ModRevision: e.ModRevision, CreateRevision: e.CreateRevision, Lease: e.Lease,
	}
}

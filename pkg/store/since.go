package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// Page is what Since read.
type Page struct {
	KVs []kv.KV
	// More says that there are others.
	More bool
	// Revision is when etcd looked.
	Revision int64
}

// Since reads keys under prefix that were last written at rev or later, in the order in which
// they were written, the first of them and at most limit. Keys of one transaction come in no
// order, and a page may end between them.
//
// etcd looks at the whole prefix for it, so it is for what is kept within bounds.
func (c *Client) Since(ctx context.Context, prefix string, rev int64, limit int) (Page, error) {
	resp, err := c.page(ctx, prefix, []clientv3.OpOption{
		clientv3.WithRange(rangeEnd(prefix)), clientv3.WithMinModRev(rev), clientv3.WithLimit(int64(limit)),
		clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortAscend),
	})
	if err != nil {
		return Page{}, fmt.Errorf("list %s since revision %d: %w", prefix, rev, err)
	}
	p := Page{More: resp.More, Revision: resp.Header.GetRevision()}
	for _, e := range resp.Kvs {
		p.KVs = append(p.KVs, fromEtcd(e))
	}
	return p, nil
}

// Hear calls heard with the keys under prefix that are written from now on, all of a transaction
// at once, and with none when something may have been missed: at first, and after a break.
// Nothing is kept, and heard must not block. It returns when ctx ends.
func (c *Client) Hear(ctx context.Context, prefix string, heard func([]kv.KV)) {
	ctx = clientv3.WithRequireLeader(ctx)
	wait := newBackoff(100*time.Millisecond, 2*time.Second)
	for ctx.Err() == nil {
		c.hear(ctx, prefix, func(es []kv.KV) {
			wait.Reset()
			heard(es)
		})
		if !idle.For(ctx, wait.NextBackOff()) {
			return
		}
	}
}

// hear is one watch, until it breaks.
func (c *Client) hear(ctx context.Context, prefix string, heard func([]kv.KV)) {
	ctx, cancel := context.WithCancel(ctx) // or the library goes on with a watch nobody reads
	defer cancel()
	watch := c.watcher.Watch(ctx, prefix, clientv3.WithRange(rangeEnd(prefix)), clientv3.WithFilterDelete(), clientv3.WithCreatedNotify())
	for resp := range watch {
		if err := resp.Err(); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
			return
		}
		if resp.Created || resp.CompactRevision > 0 {
			heard(nil)
		}
		var es []kv.KV
		for _, e := range resp.Events {
			if e.IsCreate() || e.IsModify() {
				es = append(es, fromEtcd(e.Kv))
			}
		}
		if len(es) > 0 {
			heard(es)
		}
	}
}

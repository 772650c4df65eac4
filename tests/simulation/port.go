package simulation

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// port is how one process reaches etcd: the model's link of its name, and on it the
// process's own pauses and kill, duplicated and unevenly late watch responses, and
// what a planted bug does with requests and answers.
type port struct {
	p    *process
	w    *World
	link string
	// bug is the planted bug's hand on this process's traffic; nil: none.
	bug *wireBug
}

// wireBug changes what a process believes or does by changing what it hears and says.
type wireBug struct {
	// events may drop or forge events before the process hears of them.
	events func(*clientv3.Event) *clientv3.Event
	// compares may take guards off a transaction.
	compares func([]clientv3.Cmp) []clientv3.Cmp
	// fresh answers questions for etcd's revision from memory while etcd is away.
	fresh bool
}

func (w *World) client(p *process, link string, bug *wireBug) *store.Client {
	parts := w.etcd.Connect(link)
	if bug == nil {
		bug = &wireBug{}
	}
	pt := &port{p: p, w: w, link: link, bug: bug}
	return store.New(&portKV{KV: parts.KV, pt: pt, answers: map[string]*clientv3.GetResponse{}}, &portWatcher{parts.Watcher, pt}, &portLease{parts.Lease, pt}, w.log)
}

// through carries one call: out, then the answer in.
func through[T any](pt *port, call func() (T, error)) (T, error) {
	var zero T
	if err := pt.p.pass(); err != nil {
		return zero, err
	}
	out, err := call()
	if perr := pt.p.pass(); perr != nil {
		return zero, perr
	}
	return out, err
}

type portKV struct {
	clientv3.KV
	pt *port

	mu      sync.Mutex
	answers map[string]*clientv3.GetResponse // to questions for the revision, for wireBug.fresh
}

func (k *portKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	op := clientv3.OpGet(key, opts...)
	forged := k.pt.bug.fresh && op.IsCountOnly()
	if forged && k.pt.w.isCut(k.pt.link) {
		// Not held while the process may be stopped: a mutex that is waited for keeps the
		// bubble's clock from moving.
		k.mu.Lock()
		resp := k.answers[key]
		k.mu.Unlock()
		if resp != nil {
			return resp, k.pt.p.pass()
		}
	}
	resp, err := through(k.pt, func() (*clientv3.GetResponse, error) { return k.KV.Get(ctx, key, opts...) })
	if err != nil {
		return resp, err
	}
	if forged {
		k.mu.Lock()
		k.answers[key] = resp
		k.mu.Unlock()
	}
	if f := k.pt.bug.events; f != nil {
		kept := resp.Kvs[:0:0]
		for _, e := range resp.Kvs {
			if ev := f(&clientv3.Event{Type: clientv3.EventTypePut, Kv: e}); ev != nil {
				kept = append(kept, ev.Kv)
			}
		}
		resp.Kvs = kept
	}
	return resp, nil
}

func (k *portKV) Txn(ctx context.Context) clientv3.Txn {
	return &portTxn{Txn: k.KV.Txn(ctx), pt: k.pt}
}

type portTxn struct {
	clientv3.Txn
	pt   *port
	cmps []clientv3.Cmp
	ops  []clientv3.Op
}

func (t *portTxn) If(cs ...clientv3.Cmp) clientv3.Txn {
	if f := t.pt.bug.compares; f != nil {
		cs = f(cs)
	}
	t.cmps = cs
	t.Txn = t.Txn.If(cs...)
	return t
}

func (t *portTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	t.ops = ops
	t.Txn = t.Txn.Then(ops...)
	return t
}

func (t *portTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	t.Txn = t.Txn.Else(ops...)
	return t
}

func (t *portTxn) Commit() (*clientv3.TxnResponse, error) {
	t.pt.w.sawTxn(t.pt.link, t.cmps, t.ops)
	return through(t.pt, t.Txn.Commit)
}

type portLease struct {
	clientv3.Lease
	pt *port
}

func (l *portLease) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	return through(l.pt, func() (*clientv3.LeaseGrantResponse, error) { return l.Lease.Grant(ctx, ttl) })
}

func (l *portLease) Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	return through(l.pt, func() (*clientv3.LeaseRevokeResponse, error) { return l.Lease.Revoke(ctx, id) })
}

func (l *portLease) KeepAliveOnce(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	return through(l.pt, func() (*clientv3.LeaseKeepAliveResponse, error) { return l.Lease.KeepAliveOnce(ctx, id) })
}

func (l *portLease) TimeToLive(ctx context.Context, id clientv3.LeaseID, opts ...clientv3.LeaseOption) (*clientv3.LeaseTimeToLiveResponse, error) {
	return through(l.pt, func() (*clientv3.LeaseTimeToLiveResponse, error) { return l.Lease.TimeToLive(ctx, id, opts...) })
}

type portWatcher struct {
	clientv3.Watcher
	pt *port
}

// Watch passes responses on, each range a little later than the others, as etcd
// orders no two of them, and now and then one twice.
func (w *portWatcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	out := make(chan clientv3.WatchResponse, 1)
	if w.pt.p.pass() != nil {
		close(out)
		return out
	}
	in := w.Watcher.Watch(ctx, key, opts...)
	go func() {
		defer close(out)
		for resp := range in {
			if !w.wait(ctx, w.pt.w.lateness(w.pt.link, key, resp)) || w.pt.p.pass() != nil {
				return
			}
			for range w.pt.w.copies(w.pt.link, resp) {
				select {
				case out <- w.altered(resp):
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out
}

func (w *portWatcher) altered(resp clientv3.WatchResponse) clientv3.WatchResponse {
	f := w.pt.bug.events
	if f == nil || len(resp.Events) == 0 {
		return resp
	}
	var events []*clientv3.Event
	for _, ev := range resp.Events {
		if ev = f(ev); ev != nil {
			events = append(events, ev)
		}
	}
	resp.Events = events
	return resp
}

func (w *portWatcher) wait(ctx context.Context, d time.Duration) bool {
	return d == 0 || idle.For(ctx, d)
}

func (w *portWatcher) RequestProgress(ctx context.Context) error {
	if err := w.pt.p.pass(); err != nil {
		return err
	}
	return w.Watcher.RequestProgress(ctx)
}

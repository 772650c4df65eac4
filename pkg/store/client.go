package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"google.golang.org/grpc"
)

// Numbers of the connection.
const (
	// callTimeout bounds every unary call: the client library has no bound of its
	// own, and a Get blocks for ever while etcd is away.
	callTimeout = 5 * time.Second
	// keepAliveTime is the least that grpc-go accepts; it raises anything lower.
	keepAliveTime    = 10 * time.Second
	keepAliveTimeout = 3 * time.Second
	// window is how much etcd may send ahead. With one that gRPC sizes by itself, it
	// measures the line by a ping with every answer, which wakes both ends once more.
	window = 1 << 20
)

// Options say how to reach etcd.
type Options struct {
	Endpoints []string
	Log       *zap.Logger
	// DialTimeout bounds the first contact; 5 s when zero.
	DialTimeout time.Duration
}

// Client is a connection to one etcd. It is safe for concurrent use.
type Client struct {
	kv        clientv3.KV
	watcher   clientv3.Watcher
	lease     clientv3.Lease
	cluster   clientv3.Cluster     // nil over the model
	upkeep    clientv3.Maintenance // nil over the model
	endpoints []string
	log       *zap.Logger
	close     func() error
	rounds    rounds
}

// Connect opens a connection and looks at every server it was given: at least
// one must answer within the dial timeout, and each that answers must be new
// enough (ErrServerTooOld). clientv3.New itself never blocks and proves nothing.
func Connect(ctx context.Context, o Options) (*Client, error) {
	if len(o.Endpoints) == 0 {
		return nil, errors.New("connect to etcd: no endpoint given")
	}
	log := logger(o.Log)
	timeout := o.DialTimeout
	if timeout <= 0 {
		timeout = 5 * time.Second
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints:            o.Endpoints,
		DialTimeout:          timeout,
		DialKeepAliveTime:    keepAliveTime,
		DialKeepAliveTimeout: keepAliveTimeout,
		PermitWithoutStream:  true,
		// The library logs every retry as a warning; what matters is returned.
		Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{
			// After a partition heals the library would wait up to 120 s to dial again.
			grpc.WithConnectParams(reconnect),
			grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("connect to etcd %v: %w", o.Endpoints, err)
	}
	if err := checkServers(ctx, c, o.Endpoints, timeout); err != nil {
		_ = c.Close() // the first error is the one that matters
		return nil, fmt.Errorf("connect to etcd: %w", err)
	}
	return &Client{
		kv: c.KV, watcher: c.Watcher, lease: c.Lease, cluster: c.Cluster, upkeep: c.Maintenance,
		endpoints: slices.Clone(o.Endpoints), log: log, close: c.Close,
	}, nil
}

// New makes a client of the parts of etcd's interface that this package uses;
// for the in-memory model and for tests.
func New(kv clientv3.KV, w clientv3.Watcher, l clientv3.Lease, log *zap.Logger) *Client {
	return &Client{
		kv: kv, watcher: w, lease: l, log: logger(log),
		close: func() error { return errors.Join(w.Close(), l.Close()) },
	}
}

func logger(log *zap.Logger) *zap.Logger {
	if log == nil {
		return zap.NewNop()
	}
	return log
}

// Close ends the connection and every watch on it.
func (c *Client) Close() error { return c.close() }

// Endpoints returns the client URLs that etcd's members advertise, sorted: what
// a node is told so that it finds etcd even after members moved.
func (c *Client) Endpoints(ctx context.Context) ([]string, error) {
	if c.cluster == nil {
		return slices.Clone(c.endpoints), nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.cluster.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list etcd members: %w", err)
	}
	var urls []string
	for _, m := range resp.Members {
		urls = append(urls, m.ClientURLs...)
	}
	slices.Sort(urls)
	return slices.Compact(urls), nil
}

// checkServers asks every endpoint for its version, all at once.
func checkServers(ctx context.Context, c *clientv3.Client, endpoints []string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	errs := make([]error, len(endpoints))
	var wg sync.WaitGroup
	for i, e := range endpoints {
		wg.Go(func() {
			resp, err := c.Status(ctx, e)
			if err != nil {
				errs[i] = fmt.Errorf("ask %s for its status: %w", e, err)
				return
			}
			errs[i] = checkVersion(e, resp.Version)
		})
	}
	wg.Wait()
	answered := false
	for _, err := range errs {
		if errors.Is(err, ErrServerTooOld) {
			return err
		}
		answered = answered || err == nil
	}
	if !answered {
		return errors.Join(errs...)
	}
	return nil
}

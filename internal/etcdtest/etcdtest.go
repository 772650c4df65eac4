// Package etcdtest runs a real etcd inside a test. It is the only package, with
// `pgctrl etcd`, that imports etcd's server: 550 packages that no other test
// should have to link.
package etcdtest

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/freeport"
)

// Server is one etcd. It ends with its test.
type Server struct {
	etcd     *embed.Etcd
	endpoint string
	stop     sync.Once
}

// Start runs a one-member etcd that is ready when it returns, in about 60 ms: it
// ticks ten times as fast as usual and doesn't wait for the disk. Leases of one
// second are granted as asked.
func Start(t testing.TB) *Server {
	t.Helper()
	return start(t, func(*embed.Config) {})
}

// StartSmall starts one that is full at so many bytes.
func StartSmall(t testing.TB, quota int64) *Server {
	t.Helper()
	return start(t, func(c *embed.Config) { c.QuotaBackendBytes = quota })
}

// StartSynced starts one that brings every write to the disk, as etcd does where it counts.
func StartSynced(t testing.TB) *Server {
	t.Helper()
	return start(t, func(c *embed.Config) { c.UnsafeNoFsync = false })
}

func start(t testing.TB, change func(*embed.Config)) *Server {
	t.Helper()
	address := freeport.Address(t) // etcd must tell its clients, and can't learn it from a listener on port 0
	cfg := config(t.TempDir(), address)
	change(cfg)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	s := &Server{etcd: e, endpoint: "http://" + address}
	t.Cleanup(s.Stop)
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		t.Fatalf("start etcd: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("start etcd: not ready after 30 s")
	}
	return s
}

func config(dir, address string) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.EnableGRPCGateway = false
	cfg.UnsafeNoFsync = true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	client := url.URL{Scheme: "http", Host: address}
	cfg.ListenClientUrls = []url.URL{client}
	cfg.AdvertiseClientUrls = []url.URL{client}
	// A single member talks to no peer, so its address is never dialled.
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenPeerUrls = []url.URL{peer}
	cfg.AdvertisePeerUrls = []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	return cfg
}

// Endpoints are the server's client URLs.
func (s *Server) Endpoints() []string { return []string{s.endpoint} }

// Client opens a connection of the test's own; it is closed before the server.
func (s *Server) Client(t testing.TB) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: s.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatalf("connect to etcd: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Compact forgets history up to rev.
func (s *Server) Compact(ctx context.Context, rev int64) error {
	c, err := clientv3.New(clientv3.Config{Endpoints: s.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		return fmt.Errorf("connect to etcd: %w", err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Compact(ctx, rev, clientv3.WithCompactPhysical()); err != nil {
		return fmt.Errorf("compact etcd: %w", err)
	}
	return nil
}

// Stop ends the server now.
func (s *Server) Stop() { s.stop.Do(s.etcd.Close) }

// Fill writes under /fill/ until the database is over half of the quota, and etcd says so: it
// tells the size that its last commit to the disk had.
func (s *Server) Fill(t testing.TB, quota int64) {
	t.Helper()
	c := s.Client(t)
	piece := string(make([]byte, quota/8))
	for i := range 5 {
		if _, err := c.Put(t.Context(), fmt.Sprint("/fill/", i), piece); err != nil {
			t.Fatalf("fill etcd: %v", err)
		}
	}
	for end := time.Now().Add(30 * time.Second); ; <-time.After(10 * time.Millisecond) {
		st, err := c.Status(t.Context(), s.endpoint)
		if err == nil && st.DbSize*2 > quota {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("fill etcd: %v, %v", st, err)
		}
	}
}

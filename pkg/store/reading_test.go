package store_test

import (
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/store/model"
)

// TestLeaseLeft: a lease is worth something only while the key hangs on it.
func TestLeaseLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := model.New()
		p := s.Connect("patroni")
		defer func() { _ = p.Lease.Close(); _ = p.Watcher.Close() }()
		c := client(t, s, "agent")
		g, err := p.Lease.Grant(t.Context(), 30)
		if err != nil {
			t.Fatal(err)
		}
		expect := func(what string, want time.Duration) {
			t.Helper()
			if left, err := c.LeaseLeft(t.Context(), int64(g.ID), "/k"); err != nil || left != want {
				t.Errorf("%s: %s, %v; want %s", what, left, err, want)
			}
		}
		expect("without the key", 0)
		if _, err := p.KV.Put(t.Context(), "/k", "x", clientv3.WithLease(g.ID)); err != nil {
			t.Fatal(err)
		}
		expect("with it", 30*time.Second)
		time.Sleep(9500 * time.Millisecond)
		expect("later", 20*time.Second)
		s.Put("/k", "y")
		expect("the key was given another value without it", 0)
		time.Sleep(time.Minute)
		expect("over", 0)
	})
}

package storetest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/store/model"
	"github.com/pgctrl/pgctrl/pkg/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestModel(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Backend {
		s := model.New()
		raw, client := s.Connect("raw"), s.Client("store")
		t.Cleanup(func() {
			_ = client.Close()
			_ = raw.Watcher.Close()
			_ = raw.Lease.Close()
		})
		return storetest.Backend{KV: raw.KV, Watcher: raw.Watcher, Lease: raw.Lease, Store: client}
	})
}

func TestEtcd(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Backend {
		s := etcdtest.Start(t)
		raw := s.Client(t)
		client, err := store.Connect(t.Context(), store.Options{Endpoints: s.Endpoints()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		return storetest.Backend{KV: raw.KV, Watcher: raw.Watcher, Lease: raw.Lease, Store: client}
	})
}

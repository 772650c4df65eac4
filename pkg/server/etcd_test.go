package server

import (
	"math"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// TestAskingEtcd: a real etcd tells how long its disk took, and what time it is.
func TestAskingEtcd(t *testing.T) {
	etcd := etcdtest.StartSynced(t)
	c := connect(t, etcd)
	before, err := c.Fsyncs(t.Context())
	if err != nil || len(before) != 1 {
		t.Fatalf("%v, %v", before, err)
	}
	for range 20 {
		if _, err := c.Commit(t.Context(), nil, []store.Op{store.Put("/x", []byte("y"))}); err != nil {
			t.Fatal(err)
		}
	}
	after, err := c.Fsyncs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for endpoint, h := range after {
		took, n := h.Since(before[endpoint]).Quantile(0.99)
		if n < 20 || took <= 0 || math.IsInf(took, 1) {
			t.Errorf("20 writes: %d to disk, a hundredth of them took more than %v s", n, took)
		}
		if ahead, err := store.ClockAhead(t.Context(), endpoint); err != nil || ahead.Abs() > 2*time.Second {
			t.Errorf("the clock of this very host is %s ahead, %v", ahead, err)
		}
	}
	if _, err := store.ClockAhead(t.Context(), "http://127.0.0.1:1"); err == nil {
		t.Error("nobody told the time, and there is no error")
	}
}

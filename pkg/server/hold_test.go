package server

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// TestHold: ROLES section 7, the server's part.
func TestHold(t *testing.T) {
	s1 := observed.Store{Incarnation: "S1"}
	restored := observed.Store{Incarnation: "S2", Restored: &observed.Restored{}}
	accepted := restored.Accept("S3", "S1")
	knows := func(incarnation string) map[string]observed.StoreSeen {
		return map[string]observed.StoreSeen{"pg1": {Incarnation: incarnation, Revision: 900}}
	}
	var h hold
	for _, step := range []struct {
		what     string
		rec      observed.Store
		rev      int64
		distrust map[string]observed.StoreSeen
		held     bool
	}{
		{"the first store", s1, 100, nil, false},
		{"it goes on", s1, 120, nil, false},
		{"it was not asked", s1, 0, nil, false},
		{"it went back", s1, 110, nil, true},
		{"what gave it away is passed", s1, 130, nil, true},
		{"accepted", s1.Accept("S4"), 131, nil, false},
		{"an agent that knows a later state of it", s1.Accept("S4"), 132, knows("S4"), true},
		{"an agent that knows another etcd", s1.Accept("S4"), 133, knows("S9"), false},
		{"restored", restored, 1_000_000, nil, true},
		{"restored and accepted", accepted, 1_000_001, knows("S1"), false},
	} {
		if why := h.judge(step.rec, step.rev, step.distrust); (why != "") != step.held {
			t.Errorf("%s: held because of %q, want %v", step.what, why, step.held)
		}
	}
}

// TestServerPlansNothingOnADistrustedStore, and goes on by itself once the store was
// accepted, with controllers that know nothing of what was before.
func TestServerPlansNothingOnADistrustedStore(t *testing.T) {
	etcd := etcdtest.Start(t)
	url := start(t, Options{Endpoints: etcd.Endpoints()})
	until(t, url+"/readyz", 200, "ok")
	c, is := connect(t, etcd), readStore(t, etcd)
	put := func(key string, value any) {
		t.Helper()
		if _, err := c.Commit(t.Context(), nil, []store.Op{store.Put(key, observed.Encode(value))}); err != nil {
			t.Fatal(err)
		}
	}
	put(keys.Default.AliveKey("pg1"), observed.Alive{
		Schema: observed.Schema, Node: "pg1", Store: &observed.StoreSeen{Incarnation: is.Incarnation, Revision: 1 << 40, At: time.Now()},
	})
	until(t, url+"/readyz", 503, "nothing is planned until: pgctrl etcd accept")
	if _, led, err := c.Get(t.Context(), keys.Default.ElectionKey()); err != nil || led {
		t.Errorf("the server still leads (%v)", err)
	}
	if code, body := get(t, url+"/healthz"); code != 200 {
		t.Errorf("/healthz: %d %s; a restart would not help", code, body)
	}
	put(keys.Default.StoreKey(), is.Accept(store.NewIncarnation()))
	until(t, url+"/readyz", 200, "ok")
	if code, _ := get(t, url+"/metrics"); code != 200 {
		t.Errorf("/metrics: %d", code)
	}
}

package delivery

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// However much waits in etcd, a hook has a page of it in memory; pages end between transactions,
// and nothing between two of them is lost, whatever else lies there.
func TestPages(t *testing.T) {
	c, err := store.Connect(t.Context(), store.Options{Endpoints: etcdtest.Start(t).Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	l := keys.Default
	var want []string
	for n, size := range []int{1, 100, 127, 128, 3, 128, 128, 1, 90, 128} {
		var ops []store.Op
		for i := range size {
			e := events.Event{Schema: 1, ID: fmt.Sprintf("%d-%d", 100+n, i), Cluster: "c", Kind: events.VIPTaken}
			value, _ := json.Marshal(e)
			if n == 5 {
				value = []byte("by hand") // a whole transaction of what is no event
			} else {
				want = append(want, hooks.ID(e))
			}
			ops = append(ops, store.Put(l.EventKey("c", e.ID), value))
		}
		if _, err := c.Commit(t.Context(), nil, ops); err != nil {
			t.Fatal(err)
		}
	}
	h, _ := desired.ReadHook(l, kv.KV{Key: l.ClusterDoc("c", "hooks/a"), Value: []byte("events: ['*']\nwebhook: {url: http://h}")})
	w := newWork(New(Options{Client: c, Layout: l}), h)
	var got []string
	for {
		if err := w.read(context.Background()); err != nil {
			t.Fatal(err)
		}
		if len(w.page) > pageSize {
			t.Fatalf("%d events in memory", len(w.page))
		}
		if len(w.page) == 0 {
			break
		}
		for _, i := range w.page {
			got = append(got, hooks.ID(i.event))
			w.state.Cursor = i.cursor()
		}
		w.page = nil
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %d events, want %d:\n%v", len(got), len(want), got)
	}
}

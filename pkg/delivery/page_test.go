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
	w.hear(nil, true)
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
	// What is heard from here on is not asked for, until it is more than a page or something was
	// missed.
	hear := func(n int) (es []kv.KV) {
		for i := range n {
			e := events.Event{Schema: 1, ID: fmt.Sprintf("999-%d", i), Cluster: "c", Kind: events.VIPTaken}
			value, _ := json.Marshal(e)
			es = append(es, kv.KV{Key: l.EventKey("c", e.ID), Value: value, ModRevision: w.state.Cursor.Revision + 1})
		}
		w.hear(es, false)
		return es
	}
	hear(12) // of one transaction, and "10" sorts before "2" among keys
	if err := w.read(context.Background()); err != nil || len(w.page) != 12 || hooks.ID(w.page[10].event) != "c.999-10" {
		t.Errorf("%d of 12 that were heard, %v", len(w.page), err)
	}
	hear(pageSize)
	hear(1)
	if err := w.read(context.Background()); err != nil || len(w.page) != 0 || len(w.heard) != 0 {
		t.Errorf("%d that nobody wrote, when etcd was to be asked; %v", len(w.page), err)
	}
	hear(1)
	w.hear(nil, true)
	if err := w.read(context.Background()); err != nil || len(w.page) != 0 {
		t.Errorf("%d that nobody wrote, when something may have been missed; %v", len(w.page), err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %d events, want %d:\n%v", len(got), len(want), got)
	}
}

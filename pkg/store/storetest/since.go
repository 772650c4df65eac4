package storetest

import (
	"context"
	"slices"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/store"
)

func testSince(t *testing.T, b Backend) {
	put(t, b, "/s/c", "1")
	put(t, b, "/s/b", "1")
	from := put(t, b, "/s/a", "1")
	put(t, b, "/other/a", "1")
	put(t, b, "/s/b", "2") // is now the last
	names := func(es []kv.KV) (out []string) {
		for _, e := range es {
			out = append(out, e.Key)
		}
		return out
	}
	for _, tc := range []struct {
		rev   int64
		limit int
		want  []string
		more  bool
	}{
		{0, 10, []string{"/s/c", "/s/a", "/s/b"}, false},
		{0, 2, []string{"/s/c", "/s/a"}, true},
		{from, 10, []string{"/s/a", "/s/b"}, false},
		{from + 1, 10, []string{"/s/b"}, false},
		{from + 100, 10, nil, false},
	} {
		page, err := b.Store.Since(t.Context(), "/s/", tc.rev, tc.limit)
		if err != nil || page.More != tc.more || !slices.Equal(names(page.KVs), tc.want) {
			t.Errorf("since %d, at most %d: %v, %v, %v; want %v, %v", tc.rev, tc.limit, names(page.KVs), page.More, err, tc.want, tc.more)
		}
	}
	// What else there was at that moment can be asked for later.
	page, err := b.Store.Since(t.Context(), "/s/", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, "/other/b", "1")
	if then, _, err := b.Store.ListAt(t.Context(), "/other/", page.Revision); err != nil || !slices.Equal(names(then), []string{"/other/a"}) {
		t.Errorf("at revision %d: %v, %v", page.Revision, names(then), err)
	}
}

func testHear(t *testing.T, b Backend) {
	ctx, cancel := context.WithCancel(t.Context())
	heard, done := make(chan []kv.KV, 10), make(chan struct{})
	go func() {
		defer close(done)
		b.Store.Hear(ctx, "/h/", func(es []kv.KV) { heard <- es })
	}()
	if es := <-heard; es != nil {
		t.Errorf("heard %v first, want that something may have been missed", es)
	}
	put(t, b, "/other", "1")
	put(t, b, "/h/a", "1")
	if es := <-heard; len(es) != 1 || es[0].Key != "/h/a" || string(es[0].Value) != "1" {
		t.Errorf("heard %v", es)
	}
	// All of a transaction at once, and nothing of what is deleted.
	if _, err := b.Store.Commit(ctx, nil, []store.Op{store.Put("/h/b", nil), store.Delete("/h/a"), store.Put("/h/c", nil)}); err != nil {
		t.Fatal(err)
	}
	if es := <-heard; len(es) != 2 || es[0].Key != "/h/b" || es[1].Key != "/h/c" || es[0].ModRevision != es[1].ModRevision {
		t.Errorf("heard %v", es)
	}
	cancel()
	<-done
}

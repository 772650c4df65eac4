package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/store"
)

// read runs a history until enough says so of what was handed over.
func read(t *testing.T, h *store.History, enough func([]store.Moment) bool) []store.Moment {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []store.Moment
	stop := errors.New("enough")
	err := h.Run(ctx, func(m store.Moment) error {
		got = append(got, m)
		if enough(got) {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) {
		t.Fatalf("history ended with %v after %d moments", err, len(got))
	}
	return got
}

// told is a moment as a test spells it: key=old>new.
func told(m store.Moment) string {
	s := ""
	for _, c := range m.Changes {
		was, is := "", ""
		if c.Old != nil {
			was = string(c.Old.Value)
		}
		if c.New != nil {
			is = string(c.New.Value)
		}
		s += fmt.Sprintf("%s=%s>%s ", c.Key, was, is)
	}
	return s
}

func testHistory(t *testing.T, b Backend) {
	put(t, b, "/a/x", "0")
	from := put(t, b, "/a/x", "1")
	put(t, b, "/other/x", "1")
	put(t, b, "/b/x", "2")
	del(t, b, "/a/x")
	must[*clientv3.TxnResponse](t)(b.KV.Txn(t.Context()).Then(clientv3.OpPut("/b/x", "3"), clientv3.OpPut("/a/y", "4"), clientv3.OpPut("/c", "5")).Commit())
	h := store.NewHistory(b.Store, "history", from, "/a/", "/b/", "/c")
	got := read(t, h, func(ms []store.Moment) bool {
		if len(ms) == 4 {
			put(t, b, "/b/z", "6") // while it is read
		}
		return len(ms) == 5
	})
	want := []string{"/a/x=0>1 ", "/b/x=>2 ", "/a/x=1> ", "/a/y=>4 /b/x=2>3 /c=>5 ", "/b/z=>6 "}
	for i, m := range got {
		if told(m) != want[i] || m.Past != (i < 4) || i > 0 && m.Revision <= got[i-1].Revision {
			t.Errorf("moment %d is %q at %d, past %v; want %q", i, told(m), m.Revision, m.Past, want[i])
		}
	}
	// Another reader goes on behind what this one has passed.
	next := store.NewHistory(b.Store, "history", h.Reached()+1, "/a/", "/b/", "/c")
	if got := read(t, next, func(ms []store.Moment) bool { return true }); told(got[0]) != want[4] {
		t.Errorf("after %d comes %q; the last one was not taken, so want %q", h.Reached(), told(got[0]), want[4])
	}
}

// testHistoryOfMany: what is written under three prefixes at once comes in the order of its
// revisions, each once.
func testHistoryOfMany(t *testing.T, b Backend) {
	const each = 300
	from := put(t, b, "/start", "x")
	prefixes := []string{"/a/", "/b/", "/c/"}
	last := make(chan int64, len(prefixes))
	for _, p := range prefixes {
		go func() {
			var rev int64
			for i := range each {
				resp, err := b.KV.Put(context.WithoutCancel(t.Context()), fmt.Sprintf("%s%d", p, i%7), fmt.Sprint(i))
				if err != nil {
					t.Error(err)
					break
				}
				rev = resp.Header.Revision
			}
			last <- rev
		}()
	}
	h := store.NewHistory(b.Store, "many", from, prefixes...)
	seen := int64(0)
	got := read(t, h, func(ms []store.Moment) bool {
		m := ms[len(ms)-1]
		if m.Revision <= seen || len(m.Changes) != 1 || m.Changes[0].New.ModRevision != m.Revision {
			t.Errorf("after %d came %d: %q", seen, m.Revision, told(m))
		}
		seen = m.Revision
		return len(ms) == each*len(prefixes)
	})
	end := int64(0)
	for range prefixes {
		end = max(end, <-last)
	}
	if got[len(got)-1].Revision != end {
		t.Errorf("the last moment is of revision %d, the last write of %d", got[len(got)-1].Revision, end)
	}
}

func testHistoryForgotten(t *testing.T, b Backend) {
	from := put(t, b, "/a/x", "1")
	put(t, b, "/a/x", "2")
	rev := put(t, b, "/a/x", "3")
	must[*clientv3.CompactResponse](t)(b.KV.Compact(t.Context(), rev))
	h := store.NewHistory(b.Store, "forgotten", from, "/a/", "/b/")
	err := h.Run(ctxFor(t), func(m store.Moment) error { t.Errorf("handed over %q", told(m)); return nil })
	var gone *store.Forgotten
	if !errors.As(err, &gone) || gone.From != from || gone.Oldest != rev {
		t.Fatalf("history ended with %v, want one that has forgotten %d up to %d", err, from, rev)
	}
	// What it still has can be read, and what was before is known of it.
	rest := store.NewHistory(b.Store, "forgotten", gone.Oldest, "/a/", "/b/")
	if got := read(t, rest, func([]store.Moment) bool { return true }); got[0].Revision != rev {
		t.Errorf("the oldest is of revision %d, want %d", got[0].Revision, rev)
	}
}

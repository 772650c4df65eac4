package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/store"
)

func testMirror(t *testing.T, b Backend) {
	put(t, b, "/m/a", "1")
	put(t, b, "/m2/a", "not ours")
	put(t, b, "/one", "1")
	m, log := start(t, b, store.MirrorOptions{
		Name: "test", Prefixes: []string{"/m/", "/one", "/n/", "/m/covered/"}, Stream: "own",
		Index: func(e kv.KV) []string {
			return []string{e.Key[strings.LastIndex(e.Key, "/")+1:] + e.Key, "says " + string(e.Value) + " " + e.Key}
		},
	})
	put(t, b, "/m/b", "2")
	expectLog(t, log, "/m/a ->1 initial", "/one ->1 initial", "/m/b ->2")
	old := m.Snapshot()
	put(t, b, "/m/a", "3")
	del(t, b, "/m/b")
	put(t, b, "/one", "2")
	put(t, b, "/one/not", "ours")
	noError(t, m.Sync(ctxFor(t)))
	rev := put(t, b, "/n/a", "4")
	eventually(t, "the last write is visible", func() bool { _, ok := m.Snapshot().Get("/n/a"); return ok })

	if e, ok := old.Get("/m/a"); !ok || string(e.Value) != "1" || len(old.Range("/m/")) != 2 {
		t.Errorf("an old snapshot changed: %v", old.Range("/m/"))
	}
	if kvs := m.Snapshot().Range("/"); len(kvs) != 3 {
		t.Errorf("the mirror holds %v", kvs)
	}
	var places []string
	for _, e := range m.Snapshot().RangeIndex("a") {
		places = append(places, e.Key+"="+string(e.Value))
	}
	if want := []string{"/m/a=3", "/n/a=4"}; !slices.Equal(places, want) || len(m.Snapshot().RangeIndex("b")) != 0 {
		t.Errorf("by index: %q, expected %q and no b", places, want)
	}
	// A place that the value decided goes with the value.
	for word, want := range map[string]int{"says 1 ": 0, "says 2 ": 1, "says 3 ": 1, "says 4 ": 1} {
		if kvs := m.Snapshot().RangeIndex(word); len(kvs) != want {
			t.Errorf("by index %q: %v, expected %d", word, kvs, want)
		}
	}
	if got := m.Reached("/n/x"); got != rev {
		t.Errorf("reached %d in /n/, expected %d", got, rev)
	}
	if len(log()) != 7 {
		t.Errorf("announced %q", log())
	}
}

// testMirrorProjects: what nobody acts on updates the snapshot and wakes nobody.
func testMirrorProjects(t *testing.T, b Backend) {
	put(t, b, "/m/a", "x1")
	put(t, b, "/m/secret", "hunter2")
	m, log := start(t, b, store.MirrorOptions{
		Name: "test", Prefixes: []string{"/m/"},
		Project: func(e kv.KV) []byte { return e.Value[:min(1, len(e.Value))] },
		Keep: func(e kv.KV) kv.KV {
			if e.Key == "/m/secret" {
				e.Value = nil
			}
			return e
		},
	})
	rev := put(t, b, "/m/a", "x2")
	eventually(t, "the silent write is visible", func() bool {
		e, _ := m.Snapshot().Get("/m/a")
		return string(e.Value) == "x2" && e.ModRevision == rev
	})
	del(t, b, "/m/a")
	put(t, b, "/m/a", "x3")
	put(t, b, "/m/a", "y1")
	expectLog(t, log, "/m/a ->x1 initial", "/m/secret -> initial", "/m/a x2>-", "/m/a ->x3", "/m/a x3>y1")
	if e, ok := m.Snapshot().Get("/m/secret"); !ok || len(e.Value) != 0 {
		t.Errorf("the snapshot keeps the secret: %q, %v", e.Value, ok)
	}
}

// testMirrorSync: after Sync the mirror holds everything written before, also
// what no watch of its own ever mentions, and its proof dates from after the call.
func testMirrorSync(t *testing.T, b Backend) {
	m, _ := start(t, b, store.MirrorOptions{Name: "test", Prefixes: []string{"/m/", "/n/"}, ProbeEvery: time.Hour})
	for range 3 {
		asked := time.Now()
		put(t, b, "/m/a", "1")
		rev := put(t, b, "/elsewhere", "1")
		noError(t, m.Sync(ctxFor(t)))
		at, reached := m.Fresh()
		if at.Before(asked) || reached < rev || m.Snapshot().Revision() < rev {
			t.Errorf("after Sync: proof %s old, revision %d, snapshot at %d; expected a newer one at %d",
				time.Since(at), reached, m.Snapshot().Revision(), rev)
		}
	}
	if m.Divergences() != 0 || m.Relists() != 0 {
		t.Errorf("divergences %d, lists again %d", m.Divergences(), m.Relists())
	}
}

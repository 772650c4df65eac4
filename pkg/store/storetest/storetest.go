// Package storetest is one suite of what pgctrl relies on in etcd and in
// pkg/store. It runs against the in-memory model and against a real etcd, so that
// a test on the model is worth something.
package storetest

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// Backend is one empty etcd and a way to reach it.
type Backend struct {
	KV      clientv3.KV
	Watcher clientv3.Watcher
	Lease   clientv3.Lease
	// Store is another client of the same etcd.
	Store *store.Client
}

// Run runs the suite; open gives each test an etcd of its own.
func Run(t *testing.T, open func(t *testing.T) Backend) {
	for name, test := range map[string]func(*testing.T, Backend){
		"revisions":                      testRevisions,
		"range":                          testRange,
		"refusals":                       testRefusals,
		"compares":                       testCompares,
		"transaction":                    testTransaction,
		"watch from history":             testWatchHistory,
		"watch shows a transaction once": testWatchAtomic,
		"watch of compacted history":     testWatchCompacted,
		"watch progress":                 testWatchProgress,
		"lease ends with its keys":       testLeaseRevoke,
		"lease expires":                  testLeaseExpires,
		"lease leaves a rewritten key":   testLeaseDetach,
		"list is one moment":             testListPages,
		"since a revision":               testSince,
		"hear":                           testHear,
		"prefix ends with a slash":       testPrefix,
		"commit under guards":            testGuards,
		"guard is on ModRevision":        testABA,
		"mirror follows":                 testMirror,
		"mirror projects":                testMirrorProjects,
		"mirror syncs":                   testMirrorSync,
		"history":                        testHistory,
		"history of many":                testHistoryOfMany,
		"history is forgotten":           testHistoryForgotten,
		"presence":                       testPresence,
		"presence is contested":          testPresenceTaken,
		"presence under a lost lease":    testPresenceLeaseLost,
		"election":                       testElection,
		"deposed":                        testDeposed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// patience is how long anything in the suite may take.
const patience = 10 * time.Second

func ctxFor(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls until ok says yes.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatalf("not so after %s: %s", patience, what)
}

// next reads responses until one is not about the watch itself.
func next(t *testing.T, ch clientv3.WatchChan) clientv3.WatchResponse {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case r, ok := <-ch:
			if !ok {
				t.Fatal("watch closed")
			}
			if !r.Created {
				return r
			}
		case <-timeout.C:
			t.Fatal("watch says nothing")
		}
	}
}

func put(t *testing.T, b Backend, key, value string) int64 {
	t.Helper()
	return must[*clientv3.PutResponse](t)(b.KV.Put(t.Context(), key, value)).Header.Revision
}

func del(t *testing.T, b Backend, key string) int64 {
	t.Helper()
	return must[*clientv3.DeleteResponse](t)(b.KV.Delete(t.Context(), key)).Header.Revision
}

func get(t *testing.T, b Backend, key string) (kv.KV, bool) {
	t.Helper()
	e, ok, err := b.Store.Get(t.Context(), key)
	noError(t, err)
	return e, ok
}

package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/store"
)

func testListPages(t *testing.T, b Backend) {
	const n = 1203
	for i := 0; i < n; {
		var ops []clientv3.Op
		for ; len(ops) < 100 && i < n; i++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/p/%05d", i), "old"))
		}
		must[*clientv3.TxnResponse](t)(b.KV.Txn(t.Context()).Then(ops...).Commit())
	}
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		// What is written at both ends while pages are read must show at neither or
		// at both.
		for {
			select {
			case <-stop:
				return
			default:
			}
			_, _ = b.KV.Txn(t.Context()).Then(clientv3.OpPut("/p/00000", "new"), clientv3.OpPut(fmt.Sprintf("/p/%05d", n-1), "new")).Commit()
		}
	})
	for range 5 {
		kvs, rev, err := b.Store.List(t.Context(), "/p/")
		noError(t, err)
		if len(kvs) != n || rev == 0 {
			t.Fatalf("list has %d keys at revision %d, expected %d", len(kvs), rev, n)
		}
		if first, last := kvs[0], kvs[n-1]; first.ModRevision > rev || string(first.Value) == "new" && first.ModRevision != last.ModRevision {
			t.Errorf("list at %d shows its ends at %d and %d", rev, first.ModRevision, last.ModRevision)
		}
		if !slices.IsSortedFunc(kvs, func(a, b kv.KV) int { return slices.Compare([]byte(a.Key), []byte(b.Key)) }) {
			t.Error("list is not sorted")
		}
	}
	close(stop)
	writer.Wait()
}

func testPrefix(t *testing.T, b Backend) {
	put(t, b, "/pg-test/a", "1")
	put(t, b, "/pg-test2/a", "1")
	put(t, b, "/pg-test", "1")
	kvs, _, err := b.Store.List(t.Context(), "/pg-test/")
	noError(t, err)
	if len(kvs) != 1 || kvs[0].Key != "/pg-test/a" {
		t.Errorf("list of /pg-test/ has %v", kvs)
	}
	kvs, _, err = b.Store.List(t.Context(), "/pg-test")
	noError(t, err)
	if len(kvs) != 1 || kvs[0].Key != "/pg-test" {
		t.Errorf("list of the key /pg-test has %v", kvs)
	}
}

func testGuards(t *testing.T, b Backend) {
	ctx := t.Context()
	rev := must[int64](t)(b.Store.Commit(ctx, []store.Guard{store.ModIs("/g", 0)}, []store.Op{store.Put("/g", []byte("1"))}))
	if e, ok := get(t, b, "/g"); !ok || e.ModRevision != rev {
		t.Fatalf("commit said revision %d, the key is at %d", rev, e.ModRevision)
	}
	for name, c := range map[string]struct {
		guards []store.Guard
		culprit,
		want string
	}{
		"mod":             {[]store.Guard{store.ModIs("/g", rev)}, "", ""},
		"mod changed":     {[]store.Guard{store.CreateIs("/g", rev), store.ModIs("/g", rev-1)}, "/g", ""},
		"must not exist":  {[]store.Guard{store.ModIs("/g", 0)}, "/g", ""},
		"create":          {[]store.Guard{store.CreateIs("/g", rev)}, "", ""},
		"create, another": {[]store.Guard{store.ModIs("/g", rev), store.CreateIs("/absent", rev)}, "/absent", ""},
		"value":           {[]store.Guard{store.ValueIs("/g", []byte("1"))}, "", ""},
		"value changed":   {[]store.Guard{store.ValueIs("/g", []byte("2"))}, "/g", ""},
		"value, absent":   {[]store.Guard{store.ValueIs("/absent", nil)}, "/absent", ""},
	} {
		_, err := b.Store.Commit(ctx, c.guards, []store.Op{store.Put("/written/"+name, nil)})
		_, written := get(t, b, "/written/"+name)
		var conflict *store.Conflict
		switch {
		case c.culprit == "" && (err != nil || !written):
			t.Errorf("%s: %v, written %v", name, err, written)
		case c.culprit != "" && (!errors.Is(err, store.ErrConflict) || !errors.As(err, &conflict) || conflict.Key != c.culprit || written):
			t.Errorf("%s: %v, written %v; expected a conflict on %s", name, err, written, c.culprit)
		}
	}
	if _, err := b.Store.Commit(ctx, nil, make([]store.Op, store.MaxOps+1)); !errors.Is(err, store.ErrTooManyOps) {
		t.Errorf("129 operations: %v", err)
	}
}

// testABA: a key deleted and written again looks untouched by Version, and by
// value; a guard must still notice.
func testABA(t *testing.T, b Backend) {
	rev := put(t, b, "/aba", "same")
	del(t, b, "/aba")
	put(t, b, "/aba", "same")
	for name, g := range map[string]store.Guard{"ModIs": store.ModIs("/aba", rev), "CreateIs": store.CreateIs("/aba", rev)} {
		if _, err := b.Store.Commit(t.Context(), []store.Guard{g}, []store.Op{store.Delete("/aba")}); !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s: %v, expected a conflict", name, err)
		}
	}
}

// start runs a mirror until the test ends and returns what it announced.
func start(t *testing.T, b Backend, o store.MirrorOptions) (*store.Mirror, func() []string) {
	t.Helper()
	m := store.NewMirror(b.Store, o)
	var mu sync.Mutex
	var log []string
	last := map[string]int64{}
	m.OnChange(func(rev int64, cs []store.Change) {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range cs {
			prefix := c.Key[:strings.LastIndex(c.Key, "/")+1]
			if rev < last[prefix] {
				t.Errorf("changes at %d announced after %d", rev, last[prefix])
			}
			last[prefix] = rev
			if m.Reached(c.Key) < rev {
				t.Errorf("%s was announced before it was visible", c.Key)
			}
			log = append(log, describe(c))
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-m.Ready():
	case <-time.After(patience):
		t.Fatal("mirror is not ready")
	}
	return m, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(log)
	}
}

func describe(c store.Change) string {
	value := func(e *kv.KV) string {
		if e == nil {
			return "-"
		}
		return string(e.Value)
	}
	s := c.Key + " " + value(c.Old) + ">" + value(c.New)
	if c.Initial {
		s += " initial"
	}
	return s
}

func expectLog(t *testing.T, log func() []string, want ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("announced %q", want), func() bool { return len(log()) >= len(want) })
	if got := log(); !slices.Equal(got, want) {
		t.Errorf("announced %q\nexpected  %q", got, want)
	}
}

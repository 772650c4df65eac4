package storetest

import (
	"errors"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func testRevisions(t *testing.T, b Backend) {
	first := put(t, b, "/a", "1")
	second := put(t, b, "/a", "2")
	if second != first+1 {
		t.Errorf("second put is at revision %d, first at %d; expected one more", second, first)
	}
	e := must[*clientv3.GetResponse](t)(b.KV.Get(t.Context(), "/a")).Kvs[0]
	if e.CreateRevision != first || e.ModRevision != second || e.Version != 2 {
		t.Errorf("after two puts: create %d, mod %d, version %d; expected %d, %d, 2", e.CreateRevision, e.ModRevision, e.Version, first, second)
	}
	if gone := del(t, b, "/a"); gone != second+1 {
		t.Errorf("delete is at revision %d, expected %d", gone, second+1)
	}
	if again := del(t, b, "/a"); again != second+1 {
		t.Errorf("deleting nothing moved the revision to %d", again)
	}
	third := put(t, b, "/a", "3")
	e = must[*clientv3.GetResponse](t)(b.KV.Get(t.Context(), "/a")).Kvs[0]
	if e.CreateRevision != third || e.Version != 1 {
		t.Errorf("after delete and put: create %d, version %d; expected %d, 1", e.CreateRevision, e.Version, third)
	}
}

func testRange(t *testing.T, b Backend) {
	for _, k := range []string{"/r/c", "/r/a", "/r/b", "/s"} {
		put(t, b, k, "old")
	}
	rev := put(t, b, "/r/b", "before")
	put(t, b, "/r/b", "after")
	for name, c := range map[string]struct {
		key  string
		opts []clientv3.OpOption
		want string
		more bool
	}{
		"prefix":         {"/r/", []clientv3.OpOption{clientv3.WithPrefix()}, "/r/a=old /r/b=after /r/c=old", false},
		"at a revision":  {"/r/", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithRev(rev)}, "/r/a=old /r/b=before /r/c=old", false},
		"limit":          {"/r/", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithLimit(2)}, "/r/a=old /r/b=after", true},
		"limit reached":  {"/r/", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithLimit(3)}, "/r/a=old /r/b=after /r/c=old", false},
		"from key":       {"/r/c", []clientv3.OpOption{clientv3.WithFromKey()}, "/r/c=old /s=old", false},
		"keys only":      {"/r/a", []clientv3.OpOption{clientv3.WithKeysOnly()}, "/r/a=", false},
		"one key":        {"/r/b", nil, "/r/b=after", false},
		"key that isn't": {"/r/", nil, "", false},
		"sorted":         {"/r/", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend)}, "/r/a=old /r/b=after /r/c=old", false},
		"half-open":      {"/r/a", []clientv3.OpOption{clientv3.WithRange("/r/c")}, "/r/a=old /r/b=after", false},
	} {
		resp, err := b.KV.Get(t.Context(), c.key, c.opts...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, e := range resp.Kvs {
			got = append(got, string(e.Key)+"="+string(e.Value))
		}
		if s := strings.Join(got, " "); s != c.want || resp.More != c.more {
			t.Errorf("%s: got %q, more %v; expected %q, %v", name, s, resp.More, c.want, c.more)
		}
	}
	n := must[*clientv3.GetResponse](t)(b.KV.Get(t.Context(), "/r/", clientv3.WithPrefix(), clientv3.WithCountOnly()))
	if n.Count != 3 || len(n.Kvs) != 0 {
		t.Errorf("count only: count %d with %d keys; expected 3 with none", n.Count, len(n.Kvs))
	}
	if n.Header.Revision != rev+1 {
		t.Errorf("header says revision %d, expected %d", n.Header.Revision, rev+1)
	}
}

func testRefusals(t *testing.T, b Backend) {
	ctx := t.Context()
	put(t, b, "/a", "1")
	put(t, b, "/a", "2")
	rev := put(t, b, "/a", "3")
	must[*clientv3.CompactResponse](t)(b.KV.Compact(ctx, rev))

	many := make([]clientv3.Op, 129)
	for i := range many {
		many[i] = clientv3.OpGet("/a")
	}
	for name, c := range map[string]struct {
		do   func() error
		want error
	}{
		"read of a compacted revision": {func() error { _, err := b.KV.Get(ctx, "/a", clientv3.WithRev(rev-1)); return err }, rpctypes.ErrCompacted},
		"read of the compact revision": {func() error { _, err := b.KV.Get(ctx, "/a", clientv3.WithRev(rev)); return err }, nil},
		"read of a future revision":    {func() error { _, err := b.KV.Get(ctx, "/a", clientv3.WithRev(rev+9)); return err }, rpctypes.ErrFutureRev},
		"compact twice":                {func() error { _, err := b.KV.Compact(ctx, rev); return err }, rpctypes.ErrCompacted},
		"compact the future":           {func() error { _, err := b.KV.Compact(ctx, rev+9); return err }, rpctypes.ErrFutureRev},
		"put of an empty key":          {func() error { _, err := b.KV.Put(ctx, "", "x"); return err }, rpctypes.ErrEmptyKey},
		"put under no lease": {func() error {
			_, err := b.KV.Put(ctx, "/b", "x", clientv3.WithLease(12345))
			return err
		}, rpctypes.ErrLeaseNotFound},
		"txn under no lease": {func() error {
			_, err := b.KV.Txn(ctx).Then(clientv3.OpPut("/c", "x"), clientv3.OpPut("/b", "x", clientv3.WithLease(12345))).Commit()
			return err
		}, rpctypes.ErrLeaseNotFound},
		"129 operations": {func() error { _, err := b.KV.Txn(ctx).Then(many...).Commit(); return err }, rpctypes.ErrTooManyOps},
		"128 operations": {func() error { _, err := b.KV.Txn(ctx).Then(many[:128]...).Commit(); return err }, nil},
		"one key twice": {func() error {
			_, err := b.KV.Txn(ctx).Then(clientv3.OpPut("/b", "x"), clientv3.OpPut("/b", "y")).Commit()
			return err
		}, rpctypes.ErrDuplicateKey},
		"too large": {func() error { _, err := b.KV.Put(ctx, "/b", strings.Repeat("x", 1600*1024)); return err }, rpctypes.ErrRequestTooLarge},
	} {
		if err := c.do(); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, expected %v", name, err, c.want)
		}
	}
	if r := must[*clientv3.GetResponse](t)(b.KV.Get(ctx, "/a")).Header.Revision; r != rev {
		t.Errorf("refused requests moved the revision from %d to %d", rev, r)
	}
}

func testCompares(t *testing.T, b Backend) {
	create := put(t, b, "/a", "m")
	mod := put(t, b, "/a", "n")
	for name, c := range map[string]struct {
		cmp  clientv3.Cmp
		want bool
	}{
		"mod equal":                {clientv3.Compare(clientv3.ModRevision("/a"), "=", mod), true},
		"mod of the creation":      {clientv3.Compare(clientv3.ModRevision("/a"), "=", create), false},
		"mod greater":              {clientv3.Compare(clientv3.ModRevision("/a"), ">", create), true},
		"mod less":                 {clientv3.Compare(clientv3.ModRevision("/a"), "<", create), false},
		"mod not equal":            {clientv3.Compare(clientv3.ModRevision("/a"), "!=", create), true},
		"create equal":             {clientv3.Compare(clientv3.CreateRevision("/a"), "=", create), true},
		"version":                  {clientv3.Compare(clientv3.Version("/a"), "=", 2), true},
		"value equal":              {clientv3.Compare(clientv3.Value("/a"), "=", "n"), true},
		"value not equal":          {clientv3.Compare(clientv3.Value("/a"), "!=", "m"), true},
		"value less":               {clientv3.Compare(clientv3.Value("/a"), "<", "o"), true},
		"lease":                    {clientv3.Compare(clientv3.LeaseValue("/a"), "=", 0), true},
		"absent mod":               {clientv3.Compare(clientv3.ModRevision("/z"), "=", 0), true},
		"absent create":            {clientv3.Compare(clientv3.CreateRevision("/z"), "=", 0), true},
		"absent value":             {clientv3.Compare(clientv3.Value("/z"), "=", ""), false},
		"absent value, not equal":  {clientv3.Compare(clientv3.Value("/z"), "!=", "x"), false},
		"absent create, not equal": {clientv3.Compare(clientv3.CreateRevision("/z"), "!=", 0), false},
	} {
		resp := must[*clientv3.TxnResponse](t)(b.KV.Txn(t.Context()).If(c.cmp).Commit())
		if resp.Succeeded != c.want {
			t.Errorf("%s: %v, expected %v", name, resp.Succeeded, c.want)
		}
	}
}

func testTransaction(t *testing.T, b Backend) {
	before := put(t, b, "/a", "1")
	put(t, b, "/gone", "1")
	resp := must[*clientv3.TxnResponse](t)(b.KV.Txn(t.Context()).
		If(clientv3.Compare(clientv3.ModRevision("/a"), "=", before)).
		Then(clientv3.OpPut("/a", "2"), clientv3.OpPut("/b", "2"), clientv3.OpDelete("/gone"), clientv3.OpGet("/a")).
		Else(clientv3.OpPut("/never", "1")).Commit())
	if !resp.Succeeded || len(resp.Responses) != 4 {
		t.Fatalf("succeeded %v with %d responses", resp.Succeeded, len(resp.Responses))
	}
	if kvs := resp.Responses[3].GetResponseRange().Kvs; string(kvs[0].Value) != "2" {
		t.Errorf("a read in a transaction does not see its write: %q", kvs[0].Value)
	}
	for _, key := range []string{"/a", "/b"} {
		if e, _ := get(t, b, key); e.ModRevision != before+2 || resp.Header.Revision != before+2 {
			t.Errorf("%s is at revision %d, the transaction at %d; expected %d", key, e.ModRevision, resp.Header.Revision, before+2)
		}
	}
	failed := must[*clientv3.TxnResponse](t)(b.KV.Txn(t.Context()).
		If(clientv3.Compare(clientv3.ModRevision("/a"), "=", before)).
		Then(clientv3.OpPut("/never", "1")).Else(clientv3.OpGet("/a")).Commit())
	if failed.Succeeded || string(failed.Responses[0].GetResponseRange().Kvs[0].Value) != "2" {
		t.Errorf("else branch: %v", failed)
	}
	if failed.Header.Revision != resp.Header.Revision {
		t.Errorf("a transaction without writes moved the revision to %d", failed.Header.Revision)
	}
	if _, ok := get(t, b, "/never"); ok {
		t.Error("the branch not taken was written")
	}
}

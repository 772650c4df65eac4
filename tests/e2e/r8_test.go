package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/keys"
)

// idleFor is how long an idle system is watched. Every agent compares its host once
// in it.
const idleFor = 30 * time.Second

// TestR8QuietWhenIdle: while clients write and nothing else happens, nothing is
// written to etcd but what Patroni writes. Every event is looked at, by a watch on
// all keys; lease keep-alives make none.
func TestR8QuietWhenIdle(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	samplers := sampleAll(ctx, t, 20*time.Millisecond)
	time.Sleep(3 * time.Second) // what the tests before left to report
	now, err := hosts.Etcd.Get(ctx, hosts.Layout.StoreKey())
	ok(t, err)
	first := now.Header.Revision
	wctx, cancel := context.WithTimeout(ctx, idleFor)
	defer cancel()
	ours, patronis := map[string]int{}, 0
	for r := range hosts.Etcd.Watch(wctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(first+1)) {
		ok(t, r.Err())
		for _, e := range r.Events {
			if key := string(e.Kv.Key); strings.HasPrefix(key, hosts.Layout.Prefix(keys.PatroniKey)) {
				patronis++
			} else {
				ours[key]++
			}
		}
	}
	written := 0
	for _, s := range stopAll(samplers) {
		written += len(s)
	}
	now, err = hosts.Etcd.Get(ctx, hosts.Layout.StoreKey())
	ok(t, err)
	t.Logf("%s idle under %d writes: %d revisions, %d of them Patroni's", idleFor, written, now.Header.Revision-first, patronis)
	if patronis == 0 || written < 100 {
		t.Error("nothing happened meanwhile; this proves nothing")
	}
	if len(ours) > 0 {
		t.Errorf("written while idle: %v", ours)
	}
}

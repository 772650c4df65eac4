package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/tests/fleet"
)

// idleFor is how long an idle system is watched. Every agent compares its host four
// times in it, renews its presence forty times and the virtual address, where that is,
// a hundred and twenty times.
const idleFor = 2 * time.Minute

// TestR8QuietWhenIdle: while clients write to a cluster that has a virtual address and
// nothing else happens, nothing is written to etcd but what Patroni writes. Every event
// is looked at, by a watch on all keys; lease keep-alives make none.
func TestR8QuietWhenIdle(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	record := must[string](t)(hosts.Get(ctx, hosts.Layout.VIPKey(cluster)))
	if !strings.Contains(record, `"held"`) || !strings.Contains(record, vip) {
		t.Fatalf("the virtual address is not held, so what holding it costs is not seen: %s", record)
	}
	samplers := sampleAll(ctx, t, 20*time.Millisecond)
	for range 2 { // what is missing makes a backup begin, after which the archive is looked at again
		archivesSettled(ctx, t)
		time.Sleep(3 * time.Second) // what the tests before left to report
		noBackupGoesOn(ctx, t)
	}
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
	if again := must[string](t)(hosts.Get(ctx, hosts.Layout.VIPKey(cluster))); again != record {
		t.Errorf("the virtual address's record became %s", again)
	}
	if patronis == 0 || written < 100 {
		t.Error("nothing happened meanwhile; this proves nothing")
	}
	if len(ours) > 0 {
		t.Errorf("written while idle: %v", ours)
	}
}

// archivesSettled waits until no agent has anything left to say about the archive: WAL that the
// tests before left behind on another host is waited for, for five minutes, before it is said to
// be missing.
func archivesSettled(ctx context.Context, t *testing.T) {
	t.Helper()
	primary := leading(ctx, t)
	began, switched := time.Now(), time.Time{}
	ok(t, fleet.Until(ctx, 10*time.Minute, "archives in which nothing is on its way", func(ctx context.Context) error {
		if time.Since(switched) > 15*time.Second { // behind a segment shows what is missing before it
			switched = time.Now()
			sqlOn(ctx, t, primary, "select pg_switch_wal()")
		}
		for _, h := range hosts.Nodes {
			metrics, err := h.Exec(ctx, "curl", "-sf", "http://127.0.0.1:9641/metrics")
			if err != nil {
				return fmt.Errorf("%s: %w", h.Name, err)
			}
			if !strings.Contains(metrics, "\npgagent_archive_awaits{cluster=\""+cluster+"\"} 0\n") {
				return fmt.Errorf("%s awaits WAL", h.Name)
			}
		}
		return nil
	}))
	t.Logf("archives were settled after %s", time.Since(began).Round(time.Second))
}

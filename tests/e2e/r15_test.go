package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// TestR15OneNodeAtATime: a change that reloads HAProxy everywhere goes from node
// to node. Every plan written and every report is taken from etcd's own history,
// so no moment between two samples is missed.
func TestR15OneNodeAtATime(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	from := must[int64](t)(revision(ctx))
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "services/default", "maxconn=9000"))
	statusReady(ctx, t)
	t.Cleanup(func() {
		_, _ = hosts.Pgctrl(context.Background(), "unset", cluster, "services/default", "maxconn")
	})
	oneAtATime(ctx, t, from, "haproxy")
}

// oneAtATime reads the history from a revision on: a change of the concern reached
// every node, and no two at once.
func oneAtATime(ctx context.Context, t *testing.T, from int64, concern string) {
	t.Helper()
	events := history(ctx, t, from)
	inFlight, most, changed := map[string]int64{}, 0, map[string]bool{}
	for _, e := range events {
		ref, err := hosts.Layout.Parse(string(e.Kv.Key))
		if err != nil || ref.Cluster != cluster || ref.Concern != concern {
			continue
		}
		switch ref.Family {
		case keys.Plan:
			inFlight[ref.Node] = e.Kv.ModRevision
			changed[ref.Node] = true
			most = max(most, len(inFlight))
			if len(inFlight) > 1 {
				t.Errorf("at revision %d the change is in flight on %d nodes: %v", e.Kv.ModRevision, len(inFlight), inFlight)
			}
		case keys.Observed:
			var r observed.Report
			ok(t, json.Unmarshal(e.Kv.Value, &r))
			if rev, waiting := inFlight[ref.Node]; waiting && r.Done(rev) {
				delete(inFlight, ref.Node)
			}
		}
	}
	t.Logf("%d events from revision %d: plans of %d nodes changed, at most %d in flight", len(events), from, len(changed), most)
	if len(changed) != len(hosts.Nodes) {
		t.Errorf("plans of %d nodes changed, want %d; this proves nothing", len(changed), len(hosts.Nodes))
	}
}

// history reads every event under pgctrl's prefix from a revision up to now.
func history(ctx context.Context, t *testing.T, from int64) []*clientv3.Event {
	t.Helper()
	now, err := hosts.Etcd.Get(ctx, hosts.Layout.StoreKey())
	ok(t, err)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var out []*clientv3.Event
	for r := range hosts.Etcd.Watch(ctx, hosts.Layout.RootPrefix(), clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithProgressNotify()) {
		ok(t, r.Err())
		out = append(out, r.Events...)
		if r.Header.Revision >= now.Header.Revision {
			return out
		}
		if err := hosts.Etcd.RequestProgress(ctx); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal(fmt.Errorf("the history from %d ended early: %w", from, ctx.Err()))
	return nil
}

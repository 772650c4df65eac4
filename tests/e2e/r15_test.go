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
	"github.com/pgctrl/pgctrl/tests/fleet"
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

// TestR15RepairsAfterAFreeze: HAProxy was stopped on every node during a freeze. When
// that ends, they are started one after the other, each once the last one is well: by
// etcd's own order of turns and reports.
func TestR15RepairsAfterAFreeze(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	must[string](t)(hosts.Pgctrl(ctx, "freeze", cluster, "haproxy", "--for", "10m", "--reason", "a test"))
	t.Cleanup(func() { _, _ = hosts.Pgctrl(context.Background(), "unfreeze", cluster) })
	for _, h := range hosts.Nodes {
		must[string](t)(h.Exec(ctx, "systemctl", "stop", "haproxy@"+cluster))
	}
	waits := map[string]bool{}
	for _, h := range hosts.Nodes {
		key := hosts.Layout.ObservedKey(h.Name, cluster, "haproxy")
		ok(t, fleet.Until(ctx, 20*time.Second, h.Name+" to say that it leaves its HAProxy stopped", func(ctx context.Context) error {
			var r observed.Report
			text := must[string](t)(hosts.Get(ctx, key))
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				return err
			}
			if c, _ := r.Condition(observed.Applied); c.Reason != observed.Frozen {
				return fmt.Errorf("it says %v", c)
			}
			waits[h.Name] = true
			return nil
		}))
	}
	now := must[*clientv3.GetResponse](t)(hosts.Etcd.Get(ctx, hosts.Layout.StoreKey()))
	began := time.Now()
	_, _ = hosts.Pgctrl(ctx, "unfreeze", cluster)
	statusReady(ctx, t)
	t.Logf("all is well %s after the end of the freeze", time.Since(began).Round(10*time.Millisecond))
	turn, order := "", []string{}
	for _, e := range history(ctx, t, now.Header.Revision+1) {
		ref, err := hosts.Layout.Parse(string(e.Kv.Key))
		switch {
		case err != nil || ref.Cluster != cluster:
		case ref.Family == keys.Turn && e.Type == clientv3.EventTypePut:
			var who observed.Turn
			ok(t, json.Unmarshal(e.Kv.Value, &who))
			turn = who.Node
		case ref.Family == keys.Turn:
			if waits[turn] {
				t.Errorf("%s gave its turn back before it was well", turn)
			}
			turn = ""
		case ref.Family == keys.Observed && ref.Concern == "haproxy" && e.Type == clientv3.EventTypePut:
			var r observed.Report
			ok(t, json.Unmarshal(e.Kv.Value, &r))
			if !waits[ref.Node] || !r.Done(r.Plan) {
				continue
			}
			if turn != ref.Node {
				t.Errorf("%s was repaired in the turn of %q", ref.Node, turn)
			}
			delete(waits, ref.Node)
			order = append(order, ref.Node)
		}
	}
	t.Logf("repaired in this order: %v", order)
	if len(order) != len(hosts.Nodes) {
		t.Errorf("%d nodes were repaired, want %d; this proves nothing", len(order), len(hosts.Nodes))
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

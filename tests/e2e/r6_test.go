package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/probe"
)

// under reads every key below a prefix.
func under(ctx context.Context, t *testing.T, prefix string) []*mvccpb.KeyValue {
	t.Helper()
	r, err := hosts.Etcd.Get(ctx, prefix, withPrefix()...)
	ok(t, err)
	return r.Kvs
}

// wipe deletes everything below a prefix under a cluster that is written to on every
// node, and sees that no write fails and nothing on any host changes.
func wipe(ctx context.Context, t *testing.T, prefix string) {
	t.Helper()
	before := fingerprint(ctx, t)
	samplers := sampleAll(ctx, t, 50*time.Millisecond)
	sleep(ctx, time.Second)
	r, err := hosts.Etcd.Delete(ctx, prefix, withPrefix()...)
	ok(t, err)
	t.Logf("deleted %d keys under %s", r.Deleted, prefix)
	sleep(ctx, 12*time.Second) // past the presence lease and two looks for drift
	for i, samples := range stopAll(samplers) {
		if n := probe.Count(samples); n[probe.Written] != len(samples) || len(samples) < 100 {
			t.Errorf("through %s: %v of %d", hosts.Nodes[i].Name, n, len(samples))
		}
	}
	if after := fingerprint(ctx, t); after != before {
		t.Errorf("the hosts changed.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// putBack writes keys again, those of programs that are alive left out: they have
// leases that are not ours to give.
func putBack(ctx context.Context, t *testing.T, es []*mvccpb.KeyValue, only func(key string) bool) {
	t.Helper()
	n := 0
	for _, e := range es {
		if e.Lease == 0 && only(string(e.Key)) {
			ok(t, hosts.Put(ctx, string(e.Key), string(e.Value)))
			n++
		}
	}
	if n == 0 {
		t.Fatal("nothing was put back; this proves nothing")
	}
}

// crash kills the primary's Patroni and PostgreSQL, waits for another leader and for
// routes to follow it, and brings the old one back.
func crash(ctx context.Context, t *testing.T) {
	t.Helper()
	// A primary that dies before its replicas have its timeline leaves them to make
	// another one of the same number, and can't follow it.
	ok(t, hosts.Whole(ctx, cluster, 2*time.Minute))
	leader := must[string](t)(hosts.Leader(ctx, cluster))
	host := hosts.Node(leader)
	_, err := host.Exec(ctx, "sh", "-c", "systemctl kill -s KILL patroni@"+cluster+"; pkill -9 -u postgres -x postgres; true")
	ok(t, err)
	next := ""
	ok(t, fleet.Until(ctx, time.Minute, "another leader", func(ctx context.Context) error {
		next, err = hosts.Leader(ctx, cluster)
		if err == nil && (next == "" || next == leader) {
			err = fmt.Errorf("it is %q", next)
		}
		return err
	}))
	writesEverywhere(ctx, t, next, 15*time.Second)
	_, err = host.Exec(ctx, "systemctl", "start", "patroni@"+cluster)
	ok(t, err)
}

// settled waits until the hosts stay as they are: Patroni starts a former primary's
// PostgreSQL more than once, to recover it, to rewind it and to let it follow.
func settled(ctx context.Context, t *testing.T) string {
	t.Helper()
	last, since := "", time.Now()
	ok(t, fleet.Until(ctx, 2*time.Minute, "the hosts to stay as they are", func(ctx context.Context) error {
		if now := fingerprint(ctx, t); now != last {
			last, since = now, time.Now()
		}
		if quiet := time.Since(since); quiet < 15*time.Second {
			return fmt.Errorf("for %s so far", quiet.Round(time.Second))
		}
		return nil
	}))
	return last
}

// TestR6EverythingGone: all that pgctrl has in etcd is deleted under a live cluster.
// No write fails, nothing stops; a crash of the primary is followed. Documents alone
// form nothing anew; with the record put back it is as before.
func TestR6EverythingGone(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	was := under(ctx, t, hosts.Layout.RootPrefix())
	desired := hosts.Layout.DesiredPrefix()
	is := func(prefixes ...string) func(string) bool {
		return func(key string) bool {
			for _, p := range prefixes {
				if strings.HasPrefix(key, p) {
					return true
				}
			}
			return false
		}
	}
	record := is(hosts.Layout.FormedKey(cluster), hosts.Layout.ClusterSecrets(cluster))
	restored := false
	t.Cleanup(func() {
		if !restored {
			putBack(context.Background(), t, was, is(desired, hosts.Layout.StoreKey(), hosts.Layout.FormedKey(cluster), hosts.Layout.ClusterSecrets(cluster)))
		}
	})
	wipe(ctx, t, hosts.Layout.RootPrefix())
	crash(ctx, t)

	before := settled(ctx, t)
	putBack(ctx, t, was, is(desired, hosts.Layout.StoreKey()))
	statusSays(ctx, t, "RecordLost", "record of how it formed is gone")
	sleep(ctx, 5*time.Second)
	for _, e := range under(ctx, t, hosts.Layout.RootPrefix()) {
		if record(string(e.Key)) || is(hosts.Layout.RootPrefix()+"plan/")(string(e.Key)) {
			t.Errorf("made up: %s", e.Key)
		}
	}
	if after := fingerprint(ctx, t); after != before {
		t.Errorf("documents without their record changed the hosts.\nbefore:\n%s\nafter:\n%s", before, after)
	}
	putBack(ctx, t, was, record)
	restored = true
	mend(ctx, t)
	statusReady(ctx, t)
	leader := must[string](t)(hosts.Leader(ctx, cluster))
	writesEverywhere(ctx, t, leader, 15*time.Second)
	ok(t, hosts.Put(ctx, hosts.Layout.ClusterDoc(cluster, "services/spare"), "port: 5470\nrole: primary\n"))
	ok(t, fleet.Until(ctx, 30*time.Second, "documents to have effect again", func(ctx context.Context) error {
		_, err := hosts.Nodes[0].Exec(ctx, "grep", "-q", ":5470", "/etc/haproxy/"+cluster+".cfg")
		return err
	}))
	ok(t, hosts.Put(ctx, hosts.Layout.ClusterDoc(cluster, "services/spare"), "port: 5470\nrole: primary\nenabled: false\n"))
	ok(t, fleet.Until(ctx, 30*time.Second, "a service switched off to go", func(ctx context.Context) error {
		_, err := hosts.Nodes[0].Exec(ctx, "sh", "-c", "! ss -ltn | grep -q :5470")
		return err
	}))
	_, err := hosts.Etcd.Delete(ctx, hosts.Layout.ClusterDoc(cluster, "services/spare"))
	ok(t, err)
	statusReady(ctx, t)
}

// TestR6DocumentsGone: the same with the documents alone, which is what people delete.
func TestR6DocumentsGone(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	was := under(ctx, t, hosts.Layout.DesiredPrefix())
	t.Cleanup(func() {
		putBack(context.Background(), t, was, func(string) bool { return true })
		statusReady(context.Background(), t)
	})
	wipe(ctx, t, hosts.Layout.DesiredPrefix())
	statusSays(ctx, t, "Unmanaged", "has no document; it is left as it is", "pgctrl remove "+cluster)
	from, to := leaderAndNext(ctx, t)
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	writesEverywhere(ctx, t, to, 15*time.Second)
	crash(ctx, t)
	mend(ctx, t)
}

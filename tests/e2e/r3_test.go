package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/probe"
)

func primary(t *testing.T, record string) observed.Primary {
	t.Helper()
	var p observed.Primary
	if err := json.Unmarshal([]byte(record), &p); err != nil {
		t.Fatalf("parse confirmed primary %q: %v", record, err)
	}
	return p
}

// leakLimit is R3's bound on connections to a server in recovery in any move.
const leakLimit = time.Second

// checkLeaks fails when connections reached a server in recovery for longer than
// R3 allows, or at all after the new primary was confirmed.
func checkLeaks(t *testing.T, all [][]probe.Sample, confirmed time.Time) {
	t.Helper()
	attempts := 0
	for i, samples := range all {
		attempts += len(samples)
		window, n := leakWindow(samples)
		if n > 0 {
			t.Logf("through %s: %d of %d attempts reached a server in recovery, within %s", hosts.Nodes[i].Name, n, len(samples), window)
		}
		if window > leakLimit {
			t.Errorf("through %s: connections reached a server in recovery for %s, more than %s", hosts.Nodes[i].Name, window, leakLimit)
		}
		for _, s := range samples {
			// An attempt that began before the confirmation may end after it.
			if s.Outcome == probe.Replica && !confirmed.IsZero() && s.Start.After(confirmed.Add(settle)) {
				t.Errorf("through %s: a connection opened %s after the confirmation reached a server in recovery", hosts.Nodes[i].Name, s.Start.Sub(confirmed))
			}
		}
	}
	if attempts < 50 {
		t.Errorf("only %d attempts were sampled; this proves nothing", attempts)
	}
}

// settle is how long the event of a confirmation may take to every node's
// HAProxy. It is a bound on a rule about order, not a measurement; the bench
// measures.
const settle = 250 * time.Millisecond

// confirmation waits for the confirmed primary to be member and returns when this
// process learned of it, by a watch.
func confirmation(ctx context.Context, t *testing.T, member string) <-chan time.Time {
	t.Helper()
	at := make(chan time.Time, 1)
	watch := hosts.Etcd.Watch(ctx, hosts.Layout.PrimaryKey(cluster))
	go func() {
		for r := range watch {
			for _, e := range r.Events {
				var p observed.Primary
				if json.Unmarshal(e.Kv.Value, &p) == nil && p.Member == member && p.Writable {
					at <- time.Now()
					return
				}
			}
		}
	}()
	return at
}

func wait(ctx context.Context, t *testing.T, at <-chan time.Time, limit time.Duration) time.Time {
	t.Helper()
	select {
	case x := <-at:
		return x
	case <-time.After(limit):
		t.Fatalf("no confirmation within %s", limit)
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
	return time.Time{}
}

// TestR3SamplerCatchesAPlantedReplica: the sampler proves itself on connections
// that do reach a server in recovery.
func TestR3SamplerCatchesAPlantedReplica(t *testing.T) {
	ctx := begin(t)
	_, replica := leaderAndNext(ctx, t)
	target := must[probe.Target](t)(hosts.Target(ctx, cluster, hosts.Node(replica), 5432))
	s := probe.Start(ctx, target, 20*time.Millisecond, 20, nil)
	ok(t, fleet.Until(ctx, 10*time.Second, "20 samples", func(context.Context) error {
		if n := len(s.Samples()); n < 20 {
			return fmt.Errorf("%d samples", n)
		}
		return nil
	}))
	samples := s.Stop()
	if n := probe.Count(samples)[probe.Replica]; n != len(samples) {
		t.Errorf("%d of %d attempts on a replica were recognised: %v", n, len(samples), probe.Count(samples))
	}
}

// TestR3PlannedMoves: switchovers under writes through every node.
func TestR3PlannedMoves(t *testing.T) {
	ctx := begin(t)
	for range 3 {
		from, to := leaderAndNext(ctx, t)
		at := confirmation(ctx, t, to)
		samplers := sampleAll(ctx, t, 20*time.Millisecond)
		ok(t, hosts.Switchover(ctx, cluster, from, to))
		confirmed := wait(ctx, t, at, 20*time.Second)
		writesEverywhere(ctx, t, to, 10*time.Second)
		ok(t, hosts.Whole(ctx, cluster, time.Minute)) // the old primary is back as a replica: the time of leaks
		checkLeaks(t, stopAll(samplers), confirmed)
	}
}

// TestR3SlowPromotion: a pre_promote of 8 s, during which Patroni's /primary says
// 200 while PostgreSQL is in recovery, and HAProxy is reloaded on every node.
func TestR3SlowPromotion(t *testing.T) {
	ctx := begin(t)
	from, to := leaderAndNext(ctx, t)
	node := hosts.Node(to)
	ok(t, node.WriteFile(ctx, "/usr/local/bin/slow-promote", 0o755, []byte("#!/bin/sh\nsleep 8\n")))
	prePromote(ctx, t, `"/usr/local/bin/slow-promote"`)
	t.Cleanup(func() { prePromote(context.Background(), t, "null") })

	at := confirmation(ctx, t, to)
	samplers := sampleAll(ctx, t, 20*time.Millisecond)
	done := make(chan error, 1)
	go func() { done <- hosts.Switchover(ctx, cluster, from, to) }()
	ok(t, fleet.Until(ctx, 30*time.Second, "the leader key to name "+to, func(ctx context.Context) error {
		if l, err := hosts.Leader(ctx, cluster); err != nil || l != to {
			return fmt.Errorf("leader is %s (%v)", l, err)
		}
		return nil
	}))
	for _, h := range hosts.Nodes {
		must[string](t)(h.Exec(ctx, "systemctl", "reload", "haproxy@"+cluster))
	}
	confirmed := wait(ctx, t, at, 30*time.Second)
	if err := <-done; err != nil {
		t.Log(err) // Patroni may give up waiting for its own slow promotion
	}
	writesEverywhere(ctx, t, to, 15*time.Second)
	checkLeaks(t, stopAll(samplers), confirmed)
}

// prePromote sets Patroni's pre_promote hook in its dynamic configuration, as an
// operator with a site-specific check would.
func prePromote(ctx context.Context, t *testing.T, value string) {
	t.Helper()
	pw, err := hosts.Get(ctx, hosts.Layout.Secret(cluster, "patroni"))
	ok(t, err)
	_, err = hosts.Nodes[0].Exec(ctx, "curl", "-sS", "--fail-with-body", "-m", "5", "-u", "patroni:"+pw, "-X", "PATCH",
		"-d", `{"postgresql":{"pre_promote":`+value+`}}`, "http://127.0.0.1:8008/config")
	ok(t, err)
	want := value != "null"
	ok(t, fleet.Until(ctx, 30*time.Second, "pre_promote to reach every member", func(ctx context.Context) error {
		for _, h := range hosts.Nodes {
			out, err := h.Exec(ctx, "curl", "-sS", "-m", "5", "http://127.0.0.1:8008/config")
			if err != nil {
				return err
			}
			var c struct {
				PostgreSQL map[string]any `json:"postgresql"`
			}
			if err := json.Unmarshal([]byte(out), &c); err != nil {
				return err
			}
			if _, has := c.PostgreSQL["pre_promote"]; has != want {
				return fmt.Errorf("%s has pre_promote %t", h.Name, has)
			}
		}
		return nil
	}))
}

// TestR3PatroniStoppedPastItsTTL: Patroni on the primary is stopped past its ttl
// and continued. Its PostgreSQL goes on taking writes meanwhile, a replica is
// promoted, and Patroni 3.0.2 overwrites the leader key on return.
func TestR3PatroniStoppedPastItsTTL(t *testing.T) {
	ctx := begin(t)
	from, _ := leaderAndNext(ctx, t)
	samplers := sampleAll(ctx, t, 50*time.Millisecond)
	ok(t, hosts.Node(from).KillMain(ctx, "patroni@"+cluster, "STOP"))
	t.Cleanup(func() { _ = hosts.Node(from).KillMain(context.Background(), "patroni@"+cluster, "CONT") })
	var next string
	ok(t, fleet.Until(ctx, 90*time.Second, "another member to be confirmed", func(ctx context.Context) error {
		record, err := hosts.Get(ctx, hosts.Layout.PrimaryKey(cluster))
		if err != nil {
			return err
		}
		if next = primary(t, record).Member; next == from {
			return fmt.Errorf("still %s", from)
		}
		return nil
	}))
	writesEverywhere(ctx, t, next, 15*time.Second)
	ok(t, hosts.Node(from).KillMain(ctx, "patroni@"+cluster, "CONT"))
	mend(ctx, t)
	leader, _ := leaderAndNext(ctx, t)
	writesEverywhere(ctx, t, leader, 15*time.Second)
	checkLeaks(t, stopAll(samplers), time.Time{})
}

// mend does what the status says until the cluster is whole. Members that followed
// the leader whose key was overwritten have WAL that nobody else has. pg_rewind of
// PostgreSQL 15 looks at the last checkpoint only, finds "no rewind required" when
// there was none since the promotion, and Patroni leaves such a replica running
// without ever streaming; the status has the command that copies it anew.
func mend(ctx context.Context, t *testing.T) {
	t.Helper()
	done := map[string]bool{}
	ok(t, fleet.Until(ctx, 3*time.Minute, "the cluster to be whole again", func(ctx context.Context) error {
		whole := hosts.Whole(ctx, cluster, 5*time.Second)
		if whole == nil {
			return nil
		}
		out, _ := hosts.Pgctrl(ctx, "status", cluster, "-o", "json") // exit 2: not converged
		var st status.ClusterStatus
		if err := json.Unmarshal([]byte(out), &st); err != nil {
			return fmt.Errorf("%w; read the status: %w", whole, err)
		}
		for _, c := range st.Conditions {
			if c.Reason != observed.NotStreaming && c.Reason != observed.Forked || done[c.Next] {
				continue
			}
			t.Logf("the status says: %s", c)
			if err := copyAnew(ctx, c.Next); err != nil {
				return err // as when the leader changed meanwhile; status tells again
			}
			done[c.Next] = true
		}
		return whole
	}))
}

// copyAnew does what a status says of a member that can't follow the leader.
func copyAnew(ctx context.Context, next string) error {
	argv := strings.Fields(next)
	if len(argv) != 4 || argv[0] != "pgctrl" || argv[1] != "reinit" || argv[2] != cluster {
		return fmt.Errorf("the next command is %q, want pgctrl reinit", next)
	}
	_, err := hosts.Pgctrl(ctx, append(argv[1:], "--confirm", argv[3], "--wait", "2m")...)
	return err
}

// TestR3ReloadsAndColdStarts: HAProxy starts every server UP; the state file keeps
// new connections away from replicas from the first millisecond.
func TestR3ReloadsAndColdStarts(t *testing.T) {
	ctx := begin(t)
	for i, verb := range []string{"reload", "reload", "reload", "reload", "reload", "restart", "restart"} {
		node := hosts.Nodes[i%len(hosts.Nodes)]
		s := probe.Start(ctx, service(ctx, t, i%len(hosts.Nodes), 5436), 10*time.Millisecond, 60, nil)
		must[string](t)(node.Exec(ctx, "systemctl", verb, "haproxy@"+cluster))
		after := time.Now()
		ok(t, fleet.Until(ctx, time.Minute, "3 s and 100 writes after the "+verb, func(context.Context) error {
			written := probe.Count(s.Samples())[probe.Written]
			if time.Since(after) < 3*time.Second || written < 100 {
				return fmt.Errorf("%s and %d writes so far", time.Since(after), written)
			}
			return nil
		}))
		samples := s.Stop()
		n := probe.Count(samples)
		t.Logf("%s on %s: %v", verb, node.Name, n)
		if n[probe.Replica] > 0 {
			t.Errorf("%s on %s: %d of %d connections reached a replica", verb, node.Name, n[probe.Replica], len(samples))
		}
	}
}

// Package e2e proves the rules on real hosts: real PostgreSQL, Patroni, HAProxy
// and etcd under real systemd, deployed by the same commands that people use.
//
// One lab and one cluster serve all tests; each leaves the cluster whole. A part
// that can't start is a failure, never a skip.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/pgctrl/pgctrl/tests/probe"
)

const cluster = "pg-test"

// vip is the cluster's virtual address; set with hosts.
var vip string

var (
	keep = flag.Bool("keep", false, "leave the lab running after the tests, and use a running one")
	bin  = flag.String("bin", "../../bin", "folder with pgctrl and pgagent")
)

// hosts is the one fleet; set before any test runs.
var hosts *fleet.Fleet

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run()) // names need no hosts
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx := context.Background()
	l, err := lab.Up(ctx, lab.Options{Fresh: !*keep, Log: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer l.Close()
	if !*keep {
		defer func() {
			if err := l.Down(ctx); err != nil {
				fmt.Fprintln(os.Stderr, "e2e: remove the lab:", err)
			}
		}()
	}
	if err := deploy(ctx, l); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		l.Diagnose(ctx, os.Stderr)
		return 1
	}
	defer hosts.Close()
	return m.Run()
}

func deploy(ctx context.Context, l *lab.Lab) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	var err error
	if !*keep {
		notePristine(ctx, l)
	}
	if hosts, err = fleet.Deploy(ctx, l, *bin, say); err != nil {
		return err
	}
	// What comes by itself at night must not come into the middle of a test. A full backup is due in
	// leap years, and not never: a dashboard shows when.
	if _, err := hosts.Pgctrl(ctx, "set", "defaults", "backup", "schedules.full=0 0 29 2 *", "schedules.incremental=none", "verify.schedule=none", "--wait", "0"); err != nil {
		return err
	}
	vip = l.Address(9)
	hosts.VIP = vip + "/24"
	if err := hosts.Create(ctx, cluster); err != nil {
		return err
	}
	leader, err := hosts.Leader(ctx, cluster)
	if err != nil {
		return err
	}
	t, err := hosts.Target(ctx, cluster, hosts.Node(leader), 5432)
	if err != nil {
		return err
	}
	return t.Prepare(ctx)
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

// begin gives a test its context, and shows every host's journals when it fails.
func begin(t *testing.T) context.Context {
	t.Helper()
	ctx := t.Context()
	if err := hosts.Whole(ctx, cluster, 2*time.Minute); err != nil {
		t.Fatalf("the cluster is not whole before the test: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			hosts.Lab.Diagnose(context.Background(), os.Stderr)
		}
	})
	return ctx
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// leaderAndNext are the leader and the member after it.
func leaderAndNext(ctx context.Context, t *testing.T) (from, to string) {
	t.Helper()
	from = must[string](t)(hosts.Leader(ctx, cluster))
	for i, h := range hosts.Nodes {
		if hosts.Node(from) == h {
			return from, fmt.Sprintf("%s-%d", cluster, (i+1)%len(hosts.Nodes)+1)
		}
	}
	t.Fatalf("leader %q is on no node", from)
	return "", ""
}

// service is a read-write port on a node.
func service(ctx context.Context, t *testing.T, node int, port int) probe.Target {
	t.Helper()
	return must[probe.Target](t)(hosts.Target(ctx, cluster, hosts.Nodes[node], port))
}

// sampleAll writes through port 5436 of every node at once, each on a new
// connection every interval.
func sampleAll(ctx context.Context, t *testing.T, interval time.Duration) []*probe.Sampler {
	t.Helper()
	var out []*probe.Sampler
	for i := range hosts.Nodes {
		out = append(out, probe.Start(ctx, service(ctx, t, i, 5436), interval, 25, nil))
	}
	return out
}

func stopAll(ss []*probe.Sampler) [][]probe.Sample {
	var out [][]probe.Sample
	for _, s := range ss {
		out = append(out, s.Stop())
	}
	return out
}

// writesEverywhere waits until a write through every node's 5436 lands on member.
func writesEverywhere(ctx context.Context, t *testing.T, member string, limit time.Duration) {
	t.Helper()
	ok(t, fleet.Until(ctx, limit, "writes through every node to land on "+member, func(ctx context.Context) error {
		for i, h := range hosts.Nodes {
			one := service(ctx, t, i, 5436).Once(ctx)
			if one.Outcome != probe.Written || one.Server != hosts.Node(member).IP {
				return fmt.Errorf("through %s: %s on %q: %v", h.Name, one.Outcome, one.Server, one.Err)
			}
		}
		return nil
	}))
}

// leakWindow is the time between the first and the last connection that reached
// a server in recovery, and how many did.
func leakWindow(samples []probe.Sample) (time.Duration, int) {
	var first, last time.Time
	n := 0
	for _, s := range samples {
		if s.Outcome != probe.Replica {
			continue
		}
		n++
		if first.IsZero() || s.End.Before(first) {
			first = s.End
		}
		if s.End.After(last) {
			last = s.End
		}
	}
	return last.Sub(first), n
}

func withPrefix() []clientv3.OpOption { return []clientv3.OpOption{clientv3.WithPrefix()} }

// stopEtcd stops it between two turns of the leader's Patroni. One that is caught while
// it renews its lock says "failed to update leader lock" and demotes itself, failsafe
// mode or not (seen with Patroni 3.0.2); that is not what is tested.
func stopEtcd(ctx context.Context, t *testing.T) {
	t.Helper()
	renewed(ctx, t)
	hold(ctx, time.Second)
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "stop", "pgctrl-etcd"))
	t.Cleanup(func() { _, _ = hosts.Infra.Exec(context.Background(), "systemctl", "start", "pgctrl-etcd") })
}

// renewed waits until the leader's Patroni has just renewed the leader key's lease.
func renewed(ctx context.Context, t *testing.T) {
	t.Helper()
	left := int64(-1)
	ok(t, fleet.Until(ctx, 30*time.Second, "Patroni to renew the leader key's lease", func(ctx context.Context) error {
		r, err := hosts.Etcd.Get(ctx, hosts.Layout.Leader(cluster))
		if err != nil || len(r.Kvs) == 0 {
			return fmt.Errorf("leader key: %v, %w", r, err)
		}
		lease, err := hosts.Etcd.TimeToLive(ctx, clientv3.LeaseID(r.Kvs[0].Lease))
		if err != nil {
			return err
		}
		before := left
		if left = lease.TTL; before < 0 || left <= before {
			return fmt.Errorf("%d s are left", left)
		}
		return nil
	}))
}

// Package fleet puts pgctrl on a lab's hosts the way an operator would, for the
// demo, the tests on real hosts and the benchmarks: etcd and the server on
// infra1, an agent on every node, nothing that the commands themselves don't do.
package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/pgctrl/pgctrl/tests/probe"
)

// Fleet is a lab with pgctrl on it.
type Fleet struct {
	Lab    *lab.Lab
	Infra  *lab.Host
	Nodes  []*lab.Host // pg1 .. pgN
	Layout keys.Layout
	Etcd   *clientv3.Client
	// VIP is the virtual address that Create asks for, as in 10.10.10.9/24; empty: none.
	VIP string
	say func(format string, args ...any)
	// passwords are the superusers', as last read.
	passwords sync.Map
}

// Endpoint is etcd's client URL as the hosts see it.
func (f *Fleet) Endpoint() string { return "http://" + f.Infra.IP + ":2379" }

// Deploy installs the programs in bin on every host and starts them. It is
// idempotent: programs are replaced and restarted.
func Deploy(ctx context.Context, l *lab.Lab, bin string, say func(string, ...any)) (*Fleet, error) {
	f := &Fleet{Lab: l, Infra: l.Host("infra1"), Layout: keys.Default, say: say}
	for _, h := range l.Hosts() {
		if strings.HasPrefix(h.Name, "pg") {
			f.Nodes = append(f.Nodes, h)
		}
	}
	if f.Infra == nil || len(f.Nodes) == 0 {
		return nil, errors.New("deploy: the lab needs infra1 and pg1..pgN")
	}
	if err := f.install(ctx, bin); err != nil {
		return nil, err
	}
	say("pgctrl init on %s", f.Infra.Name)
	if out, err := f.Pgctrl(ctx, "init", "--advertise", f.Infra.IP); err != nil {
		return nil, fmt.Errorf("pgctrl init: %w\n%s", err, out)
	}
	var err error
	f.Etcd, err = clientv3.New(clientv3.Config{Endpoints: []string{f.Endpoint()}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return nil, fmt.Errorf("connect to the lab's etcd: %w", err)
	}
	say("pgagent join on %d nodes", len(f.Nodes))
	g, gctx := errgroup.WithContext(ctx)
	for _, h := range f.Nodes {
		g.Go(func() error {
			if _, err := h.Exec(gctx, "pgagent", "join", "--endpoints", f.Endpoint()); err != nil {
				return fmt.Errorf("pgagent join on %s: %w", h.Name, err)
			}
			return nil
		})
	}
	return f, g.Wait()
}

func (f *Fleet) install(ctx context.Context, bin string) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, h := range f.Lab.Hosts() {
		g.Go(func() error {
			for _, p := range []string{"pgctrl", "pgagent"} {
				if err := h.CopyFile(gctx, filepath.Join(bin, p), "/usr/local/bin/"+p, 0o755); err != nil {
					return fmt.Errorf("install %s on %s: %w", p, h.Name, err)
				}
			}
			// What runs already is an earlier build; etcd stays, Patroni elects on it.
			for _, unit := range []string{"pgctrl-server.service", "pgagent.service"} {
				if _, err := h.Exec(gctx, "systemctl", "is-active", "--quiet", unit); err != nil {
					continue
				}
				if _, err := h.Exec(gctx, "systemctl", "restart", unit); err != nil {
					return fmt.Errorf("restart %s on %s: %w", unit, h.Name, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// Close ends the connections this process holds; the hosts go on.
func (f *Fleet) Close() {
	if f.Etcd != nil {
		f.Etcd.Close()
	}
}

// Pgctrl runs the command line on infra1 and returns its standard output. Its
// standard error is in the error, or lost when there is none.
func (f *Fleet) Pgctrl(ctx context.Context, args ...string) (string, error) {
	return f.Infra.Exec(ctx, append([]string{"pgctrl"}, args...)...)
}

// Put writes a key the way etcdctl does, past every check of pgctrl's.
func (f *Fleet) Put(ctx context.Context, key, value string) error {
	if _, err := f.Etcd.Put(ctx, key, value); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

// Get reads one key; empty when it does not exist.
func (f *Fleet) Get(ctx context.Context, key string) (string, error) {
	r, err := f.Etcd.Get(ctx, key)
	if err != nil {
		return "", fmt.Errorf("get %s: %w", key, err)
	}
	if len(r.Kvs) == 0 {
		return "", nil
	}
	return string(r.Kvs[0].Value), nil
}

// Leader is the member Patroni's leader key names.
func (f *Fleet) Leader(ctx context.Context, cluster string) (string, error) {
	return f.Get(ctx, f.Layout.Leader(cluster))
}

// Node returns the host of member "<cluster>-<n>": pg<n>.
func (f *Fleet) Node(member string) *lab.Host {
	return f.Lab.Host("pg" + member[strings.LastIndex(member, "-")+1:])
}

// Target is a port of a host, with the cluster's superuser password.
func (f *Fleet) Target(ctx context.Context, cluster string, h *lab.Host, port int) (probe.Target, error) {
	pw, err := f.Get(ctx, f.Layout.Secret(cluster, "postgres"))
	if known, ok := f.passwords.Load(cluster); ok && err == nil && pw == "" {
		pw = known.(string) // a test took it from etcd; the cluster still has it
	}
	f.passwords.Store(cluster, pw)
	if err != nil || pw == "" {
		return probe.Target{}, fmt.Errorf("password of %s: missing (%v)", cluster, err)
	}
	return probe.Target{Host: h.IP, Port: port, Password: pw}, nil
}

// Until calls check until it returns nil, at most for the given time, and
// returns its last error then. One that only says that the time is over gives way
// to the one before it.
func Until(ctx context.Context, limit time.Duration, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait %s for %s: %w", limit, what, last)
		case <-tick.C:
		}
	}
}

// Members lists a cluster from Patroni's own REST API on any node that answers.
func (f *Fleet) Members(ctx context.Context, cluster string) (map[string]Member, error) {
	var out struct {
		Members []Member `json:"members"`
	}
	var last error
	for _, h := range f.Nodes {
		s, err := h.Exec(ctx, "curl", "-sf", "-m", "2", "http://127.0.0.1:8008/cluster")
		if err != nil {
			last = err
			continue
		}
		if err := json.Unmarshal([]byte(s), &out); err != nil {
			return nil, fmt.Errorf("parse /cluster of %s: %w", h.Name, err)
		}
		byName := map[string]Member{}
		for _, m := range out.Members {
			byName[m.Name] = m
		}
		return byName, nil
	}
	return nil, fmt.Errorf("no Patroni of %s answers: %w", cluster, last)
}

// Member is a line of Patroni's own view of its cluster.
type Member struct {
	Name     string `json:"name"`
	Role     string `json:"role"`
	State    string `json:"state"`
	Host     string `json:"host"`
	Timeline int64  `json:"timeline"`
	Lag      any    `json:"lag"`
}

// Whole waits until every member runs, and every replica follows the leader's
// timeline and gets its WAL. Patroni's own word is not enough for the last: 3.0.2
// says "running" of a replica whose WAL receiver is refused for ever.
func (f *Fleet) Whole(ctx context.Context, cluster string, limit time.Duration) error {
	return Until(ctx, limit, "every member of "+cluster+" to run on one timeline", func(ctx context.Context) error {
		ms, err := f.Members(ctx, cluster)
		if err != nil {
			return err
		}
		if len(ms) < len(f.Nodes) {
			return fmt.Errorf("%d of %d members", len(ms), len(f.Nodes))
		}
		leader, err := f.Leader(ctx, cluster)
		if err != nil {
			return err
		}
		for _, m := range ms {
			if m.State != "running" && m.State != "streaming" {
				return fmt.Errorf("%s is %s", m.Name, m.State)
			}
			if m.Timeline != ms[leader].Timeline {
				return fmt.Errorf("%s is on timeline %d, the leader %s on %d", m.Name, m.Timeline, leader, ms[leader].Timeline)
			}
		}
		return f.streams(ctx, cluster, leader, len(ms)-1)
	})
}

// streams fails unless the leader sends its WAL to as many replicas.
func (f *Fleet) streams(ctx context.Context, cluster, leader string, replicas int) error {
	t, err := f.Target(ctx, cluster, f.Node(leader), 5432)
	if err != nil {
		return err
	}
	conn, err := t.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var n int
	if err := conn.QueryRow(ctx, "select count(*) from pg_stat_replication where state = 'streaming'").Scan(&n); err != nil {
		return err
	}
	if n != replicas {
		return fmt.Errorf("%d of %d replicas stream from %s", n, replicas, leader)
	}
	return nil
}

// Switchover asks Patroni itself to move the leader to the given member, as
// patronictl does, and returns when Patroni says it is done.
func (f *Fleet) Switchover(ctx context.Context, cluster, from, to string) error {
	body := fmt.Sprintf(`{"leader":%q,"candidate":%q}`, from, to)
	pw, err := f.Get(ctx, f.Layout.Secret(cluster, "patroni"))
	if err != nil {
		return err
	}
	_, err = f.Node(from).Exec(ctx, "curl", "-sS", "--fail-with-body", "-m", "60", "-u", "patroni:"+pw, "-X", "POST", "-d", body, "http://127.0.0.1:8008/switchover")
	if err == nil {
		return nil
	}
	// Patroni says 503 when nobody took the key in its own time, and the move goes on. Its
	// replicas do that late when etcd was away a moment ago: 3.0.2 goes by what it
	// remembers of the leader key for up to two loops more (seen: 20 s).
	late := Until(ctx, 30*time.Second, to+" to lead all the same", func(ctx context.Context) error {
		if now, err := f.Leader(ctx, cluster); err != nil || now != to {
			return fmt.Errorf("leader %q: %w", now, err)
		}
		return nil
	})
	if late != nil {
		return fmt.Errorf("switchover %s from %s to %s: %w; %w", cluster, from, to, err, late)
	}
	return nil
}

// Create makes the cluster on all nodes unless it exists, and waits until it is whole.
func (f *Fleet) Create(ctx context.Context, cluster string) error {
	if leader, err := f.Leader(ctx, cluster); err != nil || leader != "" {
		return err
	}
	var on []string
	for _, h := range f.Nodes {
		on = append(on, h.Name)
	}
	f.say("pgctrl create %s --on %s", cluster, strings.Join(on, ","))
	args := []string{"pgctrl", "create", cluster, "--on", strings.Join(on, ","), "--wait", "3m"}
	if f.VIP != "" {
		args = append(args, "--vip", f.VIP)
	}
	cmd := f.Infra.Command(ctx, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("pgctrl create %s: %w\n%s", cluster, err, out)
	}
	for _, line := range strings.Split(strings.TrimRight(string(out), "\n"), "\n") {
		f.say("  %s", line)
	}
	return f.Whole(ctx, cluster, 2*time.Minute)
}

// Command demo is the whole tour on real hosts: four machines under systemd, one
// cluster, writes and reads through its services, one switchover with the gap that a
// client saw, and names, metrics and logs. It leaves everything running.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/pgctrl/pgctrl/tests/probe"
)

const cluster = "pg-test"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		fmt.Fprintln(os.Stderr, "the hosts are left as they are; look: go run ./tests/lab status; remove them: make demo-stop")
		os.Exit(1)
	}
}

var started = time.Now()

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1f s  %s\n", time.Since(started).Seconds(), fmt.Sprintf(format, args...))
}

func heading(s string) {
	if term.IsTerminal(int(os.Stderr.Fd())) {
		s = "\033[1m" + s + "\033[0m"
	}
	fmt.Fprintf(os.Stderr, "\n%s\n", s)
}

func run(ctx context.Context) error {
	heading("Four hosts: infra1, pg1, pg2, pg3")
	l, err := lab.Up(ctx, lab.Options{Log: os.Stderr})
	if err != nil {
		return err
	}
	defer l.Close()
	f, err := fleet.Deploy(ctx, l, "bin", say)
	if err != nil {
		return err
	}
	defer f.Close()

	heading("A cluster on three of them")
	if err := f.Create(ctx, cluster); err != nil {
		return err
	}
	ready := func(ctx context.Context) error { // programs may have been replaced just now
		_, err := f.Pgctrl(ctx, "status", cluster)
		return err
	}
	if err := fleet.Until(ctx, time.Minute, cluster+" to be Ready", ready); err != nil {
		return err
	}
	if err := show(ctx, f, "status", cluster); err != nil {
		return err
	}
	heading("Writes and reads through the services")
	if err := services(ctx, f); err != nil {
		return err
	}
	heading("One switchover, as a client of port 5436 saw it")
	if err := switchover(ctx, f); err != nil {
		return err
	}
	if err := fleet.Until(ctx, time.Minute, cluster+" to be Ready", ready); err != nil {
		return err
	}
	if err := show(ctx, f, "status", cluster); err != nil {
		return err
	}
	heading("Names and metrics: infra1 gets the role infra")
	if err := infra(ctx, f); err != nil {
		return err
	}
	heading("Logs: Loki and promtail, built from source once, which takes about ten minutes (Ctrl-C leaves everything else running)")
	if err := logs(ctx, f); err != nil {
		return err
	}
	if err := show(ctx, f, "node", "list"); err != nil {
		return err
	}
	heading("It keeps running. Look around:")
	fmt.Fprintf(os.Stderr, `  go run ./tests/lab exec infra1                        a shell with pgctrl: status, get, set, explain
  go run ./tests/lab exec infra1 pgctrl status %[1]s --watch
  go run ./tests/lab exec infra1 pgctrl set %[1]s postgres parameters.work_mem=8MB
  go run ./tests/lab exec pg1 pgagent status
  http://%[2]s:9101/                                   HAProxy's page on pg1
  http://%[3]s:9090/alerts                             Prometheus on infra1, with its rules
  dig @%[3]s %[1]s                              who is primary, by name
  make demo-stop                                        remove everything

`, cluster, f.Nodes[0].IP, f.Infra.IP)
	return nil
}

func show(ctx context.Context, f *fleet.Fleet, args ...string) error {
	heading("# pgctrl " + strings.Join(args, " "))
	cmd := f.Infra.Command(ctx, append([]string{"pgctrl"}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("pgctrl %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// services writes through each node's read-write port and reads through each
// node's replica port, and shows which member answered.
func services(ctx context.Context, f *fleet.Fleet) error {
	base, err := f.Target(ctx, cluster, f.Nodes[0], 5436)
	if err != nil {
		return err
	}
	if err := base.Prepare(ctx); err != nil {
		return err
	}
	// Behind a pooler PostgreSQL is on a socket and tells no address; when it started does.
	started := map[string]string{}
	for _, h := range f.Nodes {
		t := base
		t.Host, t.Port = h.IP, 5432
		at, _, err := read(ctx, t)
		if err != nil {
			return fmt.Errorf("read on %s:5432: %w", h.Name, err)
		}
		started[at] = h.Name
	}
	for _, h := range f.Nodes {
		t := base
		t.Host = h.IP
		w := t.Once(ctx)
		if w.Outcome != probe.Written {
			return fmt.Errorf("write through %s:5436: %s: %w", h.Name, w.Outcome, w.Err)
		}
		t.Port = 5434
		at, recovery, err := read(ctx, t)
		if err != nil {
			return fmt.Errorf("read through %s:5434: %w", h.Name, err)
		}
		say("through %s: 5436 wrote on %s, 5434 read from %s, through its pooler (in recovery: %t)", h.Name, w.Server, started[at], recovery)
	}
	return nil
}

// read is when the PostgreSQL that answers started, and whether it is in recovery.
func read(ctx context.Context, t probe.Target) (started string, recovery bool, err error) {
	conn, err := t.Connect(ctx)
	if err != nil {
		return "", false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, "select pg_postmaster_start_time()::text, pg_is_in_recovery()").Scan(&started, &recovery)
	return started, recovery, err
}

func switchover(ctx context.Context, f *fleet.Fleet) error {
	from, err := f.Leader(ctx, cluster)
	if err != nil {
		return err
	}
	to := cluster + "-1"
	if from == to {
		to = cluster + "-2"
	}
	third, err := f.Target(ctx, cluster, f.Nodes[2], 5436)
	if err != nil {
		return err
	}
	direct := third
	direct.Host, direct.Port = f.Node(to).IP, 5432
	d := probe.Watch(ctx, direct, 2*time.Millisecond)
	s := probe.Start(ctx, third, 5*time.Millisecond, 60, nil)
	defer func() { s.Stop(); d.Stop() }()
	say("%s -> %s, writes every 5 ms on new connections through pg3", from, to)
	begin := time.Now()
	if err := f.Switchover(ctx, cluster, from, to); err != nil {
		return err
	}
	var first probe.Sample
	err = fleet.Until(ctx, 30*time.Second, "a write on "+to, func(context.Context) error {
		var ok bool
		if first, ok = probe.FirstWritten(s.Samples(), direct.Host, begin); !ok {
			return fmt.Errorf("no write yet")
		}
		return nil
	})
	if err != nil {
		return err
	}
	samples := s.Stop()
	last := begin
	for _, x := range samples {
		if x.Outcome == probe.Written && x.Server != direct.Host && x.End.After(last) {
			last = x.End
		}
	}
	n := probe.Count(samples)
	say("writable again after %d ms, of which routing took %.1f ms; %d attempts reached a replica",
		first.End.Sub(last).Milliseconds(), float64(first.End.Sub(d.FirstAfter(begin)))/1e6, n[probe.Replica])
	return f.Whole(ctx, cluster, time.Minute)
}

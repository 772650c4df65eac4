package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/pgctrl/pgctrl/tests/probe"
)

// idle is what pgctrl costs a cluster with a virtual address in which nothing
// happens but that clients write.
type idle struct {
	For time.Duration
	// Writes are the clients' rows; each came over a connection of its own.
	Writes int
	// Ours and Patronis are the revisions of etcd that came meanwhile.
	Ours, Patronis int
	Programs       []usage
}

// usage is one process, over the time that was measured.
type usage struct {
	Unit, Host string
	// Leads: the host of the leader, whose agent has the virtual address as well.
	Leads bool
	// CPU is in percent of one core, Wakes how often its threads went to sleep in a
	// second.
	CPU, Wakes float64
	// RSS and its anonymous part are in KiB, at the end.
	RSS, Anonymous int
	Threads        int
}

// settleFor is how long nothing is measured after the cluster is ready: what came
// before is still being reported.
const settleFor = 15 * time.Second

func measureIdle(ctx context.Context, f *fleet.Fleet, o options) (*idle, error) {
	leader, err := f.Leader(ctx, cluster)
	if err != nil {
		return nil, err
	}
	var samplers []*probe.Sampler
	defer func() {
		for _, s := range samplers {
			s.Stop()
		}
	}()
	for _, h := range f.Nodes {
		t, err := f.Target(ctx, cluster, h, 5436)
		if err != nil {
			return nil, err
		}
		if err := t.Prepare(ctx); err != nil {
			return nil, err
		}
		samplers = append(samplers, probe.Start(ctx, t, 200*time.Millisecond, 5, nil))
	}
	say("idle under writes: %s, after %s", o.idle, settleFor)
	if err := pause(ctx, settleFor); err != nil {
		return nil, err
	}
	of := []usage{{Unit: "pgctrl-server", Host: f.Infra.Name}, {Unit: "pgctrl-etcd", Host: f.Infra.Name}}
	for _, h := range f.Nodes {
		of = append(of, usage{Unit: "pgagent", Host: h.Name, Leads: h == f.Node(leader)})
	}
	before, err := spentAll(ctx, f.Lab, of)
	if err != nil {
		return nil, err
	}
	begun, written := time.Now(), count(samplers)
	profiles := profile(ctx, f, o)
	r := &idle{}
	if r.Ours, r.Patronis, err = revisions(ctx, f, o.idle); err != nil {
		return nil, err
	}
	after, err := spentAll(ctx, f.Lab, of)
	if err != nil {
		return nil, err
	}
	r.For, r.Writes = time.Since(begun), count(samplers)-written
	if err := <-profiles; err != nil {
		return nil, err
	}
	for i, u := range of {
		if before[i].pid != after[i].pid {
			return nil, fmt.Errorf("%s on %s was restarted while it was measured", u.Unit, u.Host)
		}
		u.CPU = 100 * (after[i].cpu - before[i].cpu).Seconds() / r.For.Seconds()
		u.Wakes = float64(after[i].sleeps-before[i].sleeps) / r.For.Seconds()
		u.RSS, u.Anonymous, u.Threads = after[i].rss, after[i].anonymous, after[i].threads
		r.Programs = append(r.Programs, u)
	}
	return r, nil
}

func count(samplers []*probe.Sampler) (n int) {
	for _, s := range samplers {
		n += len(s.Samples())
	}
	return n
}

// revisions counts what is written to etcd, by whom.
func revisions(ctx context.Context, f *fleet.Fleet, d time.Duration) (ours, patronis int, err error) {
	now, err := f.Etcd.Get(ctx, f.Layout.StoreKey())
	if err != nil {
		return 0, 0, fmt.Errorf("ask etcd for its revision: %w", err)
	}
	wctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for r := range f.Etcd.Watch(wctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(now.Header.Revision+1)) {
		if err := r.Err(); err != nil {
			return 0, 0, fmt.Errorf("watch etcd: %w", err)
		}
		for _, e := range r.Events {
			if strings.HasPrefix(string(e.Kv.Key), f.Layout.Prefix(keys.PatroniKey)) {
				patronis++
			} else {
				ours++
				say("written while idle: %s", e.Kv.Key)
			}
		}
	}
	return ours, patronis, ctx.Err()
}

// spent is a process at one moment.
type spent struct {
	pid, rss, anonymous, threads, sleeps int
	cpu                                  time.Duration
}

func spentAll(ctx context.Context, l *lab.Lab, of []usage) ([]spent, error) {
	var out []spent
	for _, u := range of {
		s, err := spentBy(ctx, l.Host(u.Host), u.Unit)
		if err != nil {
			return nil, fmt.Errorf("measure %s on %s: %w", u.Unit, u.Host, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// spentBy asks the kernel: the unit's cgroup for the time (to the microsecond, where
// /proc counts hundredths), /proc for the rest.
func spentBy(ctx context.Context, h *lab.Host, unit string) (spent, error) {
	text, err := h.Exec(ctx, "sh", "-c", `systemctl show -p MainPID -p CPUUsageNSec `+unit+`
		p=$(systemctl show -p MainPID --value `+unit+`)
		awk '/^(VmRSS|RssAnon|Threads):/ {sub(":", "", $1); print $1 "=" $2}' /proc/$p/status
		cat /proc/$p/task/*/status | awk '/^voluntary_ctxt/ {n += $2} END {print "sleeps=" n}'`)
	if err != nil {
		return spent{}, err
	}
	n := map[string]int{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if n[name], err = strconv.Atoi(value); err != nil {
			return spent{}, fmt.Errorf("read %q: %w", line, err)
		}
	}
	return spent{pid: n["MainPID"], cpu: time.Duration(n["CPUUsageNSec"]), rss: n["VmRSS"], anonymous: n["RssAnon"], threads: n["Threads"], sleeps: n["sleeps"]}, nil
}

// profile takes CPU and heap profiles of every agent meanwhile, if they were asked for.
func profile(ctx context.Context, f *fleet.Fleet, o options) <-chan error {
	done := make(chan error, 1)
	if o.profiles == "" {
		done <- nil
		return done
	}
	go func() {
		done <- func() error {
			if err := os.MkdirAll(o.profiles, 0o755); err != nil {
				return err
			}
			errs := make(chan error)
			for _, h := range f.Nodes {
				go func() { errs <- profileOne(ctx, h, o) }()
			}
			var first error
			for range f.Nodes {
				if err := <-errs; err != nil && first == nil {
					first = err
				}
			}
			return first
		}()
	}()
	return done
}

func profileOne(ctx context.Context, h *lab.Host, o options) error {
	for _, what := range []string{fmt.Sprintf("profile?seconds=%d", int(o.idle.Seconds())-2), "allocs", "heap", "goroutine"} {
		name, _, _ := strings.Cut(what, "?")
		out, err := h.Exec(ctx, "curl", "-sf", "--unix-socket", "/run/pgctrl/agent.sock", "http://agent/debug/pprof/"+what)
		if err != nil {
			return fmt.Errorf("take profile %s on %s: %w", name, h.Name, err)
		}
		if err := os.WriteFile(filepath.Join(o.profiles, h.Name+"."+name), []byte(out), 0o644); err != nil {
			return fmt.Errorf("save profile: %w", err)
		}
	}
	return nil
}

func (r *idle) print(w io.Writer) {
	fmt.Fprintf(w, "\nidle for %s under %d writes: %d revisions of etcd by Patroni, %d by pgctrl\n\n", r.For.Round(time.Second), r.Writes, r.Patronis, r.Ours)
	fmt.Fprintf(w, "%-16s %-8s %-8s %14s %10s %10s %10s %8s\n", "program", "host", "", "CPU of a core", "wakes/s", "RSS", "anonymous", "threads")
	for _, u := range r.Programs {
		leads := ""
		if u.Leads {
			leads = "leader"
		}
		fmt.Fprintf(w, "%-16s %-8s %-8s %12.2f %% %10.0f %7.1f MB %7.1f MB %8d\n", u.Unit, u.Host, leads, u.CPU, u.Wakes, float64(u.RSS)/1024, float64(u.Anonymous)/1024, u.Threads)
	}
}

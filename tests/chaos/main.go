// Command chaos moves the leader, kills agents and servers and reboots hosts, while
// it watches the virtual address through the kernels of all hosts and writes through
// it. It fails when the address was on two hosts at any moment, or changed its host
// without a move that was asked for.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/pgctrl/pgctrl/tests/probe"
	"github.com/pgctrl/pgctrl/tests/probe/holders"
)

const cluster = "pg-test"

func main() {
	var p plan
	flag.IntVar(&p.moves, "moves", 50, "planned moves of the leader")
	flag.IntVar(&p.kills, "kills", 50, "kill -9 of an agent or the server")
	flag.IntVar(&p.reboots, "reboots", 10, "reboots of a node")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "the order of the acts")
	bin := flag.String("bin", "bin", "folder with pgctrl and pgagent")
	logs := flag.String("logs", os.TempDir(), "folder for the hosts' logs when something was found")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	say("seed %d: %d moves, %d kills, %d reboots", *seed, p.moves, p.kills, p.reboots)
	if err := run(ctx, *bin, *logs, p.order(rand.New(rand.NewPCG(*seed, 0)))); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

var started = time.Now()

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1f s  %s\n", time.Since(started).Seconds(), fmt.Sprintf(format, args...))
}

// plan is how often each act is done.
type plan struct{ moves, kills, reboots int }

// order is the acts in an order that the seed decides.
func (p plan) order(r *rand.Rand) []act {
	var out []act
	add := func(n int, do func(*chaos, context.Context, *rand.Rand) error, what string) {
		for range n {
			out = append(out, act{what, func(c *chaos, ctx context.Context) error { return do(c, ctx, r) }})
		}
	}
	add(p.moves, (*chaos).move, "move")
	add(p.kills, (*chaos).kill, "kill")
	add(p.reboots, (*chaos).reboot, "reboot")
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

type act struct {
	what string
	do   func(*chaos, context.Context) error
}

// chaos is a cluster and what was done to it.
type chaos struct {
	*fleet.Fleet
	address  string
	observer *holders.Observer
	asked    []holders.Move
	act      int
	logs     string
}

// did tells what is done, so that a finding can be read beside it.
func (c *chaos) did(format string, args ...any) {
	say("act %d: %s", c.act, fmt.Sprintf(format, args...))
}

func run(ctx context.Context, bin, logs string, acts []act) error {
	l, err := lab.Up(ctx, lab.Options{Fresh: true, Log: os.Stderr})
	if err != nil {
		return err
	}
	defer l.Close()
	defer func() { _ = l.Down(context.WithoutCancel(ctx)) }()
	f, err := fleet.Deploy(ctx, l, bin, say)
	if err != nil {
		return err
	}
	defer f.Close()
	address := l.Address(9)
	f.VIP = address + "/24"
	if err := f.Create(ctx, cluster); err != nil {
		return err
	}
	c := &chaos{Fleet: f, address: address, logs: logs}
	writes, err := c.begin(ctx)
	if err != nil {
		return err
	}
	for i, a := range acts {
		c.act = i + 1
		if err := a.do(c, ctx); err != nil {
			l.Diagnose(context.WithoutCancel(ctx), os.Stderr)
			return errors.Join(fmt.Errorf("%s, act %d of %d: %w", a.what, i+1, len(acts), err), c.end(writes))
		}
		if (i+1)%10 == 0 {
			say("%d of %d acts; %d writes", i+1, len(acts), probe.Count(writes.Samples())[probe.Written])
		}
	}
	return c.end(writes)
}

// begin watches the address and writes through it.
func (c *chaos) begin(ctx context.Context) (*probe.Sampler, error) {
	leader, err := c.Leader(ctx, cluster)
	if err != nil {
		return nil, err
	}
	t, err := c.Target(ctx, cluster, c.Node(leader), 5432)
	if err != nil {
		return nil, err
	}
	if err := t.Prepare(ctx); err != nil {
		return nil, err
	}
	if err := c.holds(ctx, leader); err != nil {
		return nil, err
	}
	if err := c.proof(ctx, leader); err != nil {
		return nil, err
	}
	if c.observer, err = c.observe(); err != nil {
		return nil, err
	}
	t.Host, t.Port, t.Patience = c.address, 5436, 3*time.Second
	return probe.Start(ctx, t, 50*time.Millisecond, 25, nil), nil
}

func (c *chaos) observe() (*holders.Observer, error) {
	var hosts []holders.Host
	for _, h := range c.Nodes {
		hosts = append(hosts, holders.Host{Name: h.Name, Namespace: h.Namespace()})
	}
	return holders.Observe(netip.MustParseAddr(c.address), hosts...)
}

// proof plants a second holder for 20 ms on a host that does not lead: an observer
// that does not see it can't find anything.
func (c *chaos) proof(ctx context.Context, leader string) error {
	observer, err := c.observe()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(c.Nodes, func(h *lab.Host) bool { return h != c.Node(leader) })
	// The host's agent may be the first to remove it.
	_, err = c.Nodes[i].Exec(ctx, "sh", "-ec",
		fmt.Sprintf("ip address add %[1]s/32 dev eth0; sleep 0.02; ip address del %[1]s/32 dev eth0 || ! ip -o address | grep -qw %[1]s", c.address))
	r := observer.Stop().Judge()
	if err != nil {
		return fmt.Errorf("plant a second holder: %w", err)
	}
	if len(r.Doubles) != 1 || len(r.Flaps) != 0 || len(r.Blind) != 0 {
		return fmt.Errorf("a second holder planted on %s for 20 ms was not seen as such: %s", c.Nodes[i].Name, r)
	}
	say("a second holder planted on %s for 20 ms was seen for %s", c.Nodes[i].Name, r.Doubles[0].To.Sub(r.Doubles[0].From).Round(time.Millisecond/10))
	return nil
}

// end judges what was seen.
func (c *chaos) end(writes *probe.Sampler) error {
	n := probe.Count(writes.Stop())
	r := c.observer.Stop().Judge(c.asked...)
	fmt.Printf("%s\nwrites through the address: %v\n", r, n)
	var err error
	switch {
	case !r.Clean():
		err = errors.New("the address was not where it belongs")
	case n[probe.Replica] > 0:
		err = fmt.Errorf("%d writes through the address reached a server in recovery", n[probe.Replica])
	default:
		return nil
	}
	c.keepLogs()
	return err
}

// keepLogs saves what agents and Patroni wrote; the hosts are removed afterwards.
func (c *chaos) keepLogs() {
	for _, h := range c.Nodes {
		out, err := h.Exec(context.Background(), "journalctl", "-o", "short-precise", "--no-pager", "-u", "pgagent", "-u", "patroni@"+cluster, "-u", "systemd-logind", "-t", "systemd")
		if err == nil {
			err = os.WriteFile(filepath.Join(c.logs, "chaos-"+h.Name+".log"), []byte(out), 0o644)
		}
		if err != nil {
			say("logs of %s are lost: %v", h.Name, err)
		}
	}
	say("what agents and Patroni wrote: %s", filepath.Join(c.logs, "chaos-*.log"))
}

// holds waits until a write through the address lands on the member.
func (c *chaos) holds(ctx context.Context, member string) error {
	t, err := c.Target(ctx, cluster, c.Node(member), 5436)
	if err != nil {
		return err
	}
	t.Host = c.address
	return fleet.Until(ctx, 30*time.Second, "a write through the address to land on "+member, func(ctx context.Context) error {
		if one := t.Once(ctx); one.Outcome != probe.Written || one.Server != c.Node(member).IP {
			return fmt.Errorf("%s on %q: %v", one.Outcome, one.Server, one.Err)
		}
		return nil
	})
}

// move is a planned switchover to another member.
func (c *chaos) move(ctx context.Context, r *rand.Rand) error {
	if err := c.Whole(ctx, cluster, 2*time.Minute); err != nil {
		return err
	}
	from, err := c.Leader(ctx, cluster)
	if err != nil {
		return err
	}
	var others []string
	for i := range c.Nodes {
		if m := fmt.Sprintf("%s-%d", cluster, i+1); m != from {
			others = append(others, m)
		}
	}
	to := others[r.IntN(len(others))]
	asked := holders.Move{After: time.Now(), Host: c.Node(to).Name}
	c.did("move from %s to %s", from, to)
	if err := c.Switchover(ctx, cluster, from, to); err != nil {
		return err
	}
	if err := c.holds(ctx, to); err != nil {
		return err
	}
	asked.Before = time.Now()
	c.asked = append(c.asked, asked)
	return nil
}

// kill ends an agent or the server at any instant; systemd starts it again.
func (c *chaos) kill(ctx context.Context, r *rand.Rand) error {
	host, unit := c.Infra, "pgctrl-server.service"
	if n := r.IntN(len(c.Nodes) + 1); n < len(c.Nodes) {
		host, unit = c.Nodes[n], "pgagent.service"
	}
	c.did("kill -9 %s on %s", unit, host.Name)
	if err := host.KillMain(ctx, unit, "KILL"); err != nil {
		return err
	}
	return fleet.Until(ctx, 30*time.Second, unit+" to be started again", func(ctx context.Context) error {
		_, err := host.Exec(ctx, "systemctl", "is-active", "--quiet", unit)
		return err
	})
}

// reboot restarts a node in order. One that leads may lead again afterwards.
func (c *chaos) reboot(ctx context.Context, r *rand.Rand) error {
	if err := c.Whole(ctx, cluster, 2*time.Minute); err != nil {
		return err
	}
	leader, err := c.Leader(ctx, cluster)
	if err != nil {
		return err
	}
	h := c.Nodes[r.IntN(len(c.Nodes))]
	c.did("reboot %s; %s leads", h.Name, leader)
	after := time.Now()
	if err := h.Reboot(ctx); err != nil {
		return err
	}
	if err := c.Whole(ctx, cluster, 3*time.Minute); err != nil {
		return err
	}
	now, err := c.Leader(ctx, cluster)
	if err != nil {
		return err
	}
	if err := c.holds(ctx, now); err != nil {
		return err
	}
	if h == c.Node(leader) {
		c.asked = append(c.asked, holders.Move{After: after, Before: time.Now(), Host: c.Node(now).Name})
	}
	return nil
}

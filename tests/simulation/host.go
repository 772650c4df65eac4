package simulation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pgctrl/pgctrl/internal/beat"
	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// host is one machine: its programs, its disk and its network.
type host struct {
	w       *World
	n       int
	node    string
	member  string
	address string
	pat     *patroni
	proxy   *proxy
	kernel  *kernel
	units   map[string]string // unit -> hash in force
	config  string            // Patroni's dynamic configuration as this agent last set it
	sql     string            // what was made inside PostgreSQL last

	agents  []*process // every run, the last is the present one
	agent   *agent.Agent
	rig     *rig
	running bool
	dir     string // the present agent's state directory
	oldDir  string // what it was when the faults began
	on      bool   // powered

	isolated bool // from every other host
	noEtcd   bool // Patroni's way to etcd is cut

	// trouble counts faults at work on this host's agent or its way to etcd; well is
	// when the last one had been over for long enough that the agent must be itself.
	trouble int
	well    time.Time
}

func newHost(w *World, n int) *host {
	h := &host{
		w: w, n: n, node: fmt.Sprintf("pg%d", n), member: fmt.Sprintf("%s-%d", cluster, n),
		address: fmt.Sprintf("10.0.0.%d", n), units: map[string]string{}, on: true,
	}
	h.pat, h.proxy = newPatroni(h), newProxy(h)
	h.kernel = &kernel{h: h, watchers: map[chan struct{}]bool{}}
	return h
}

// reaches reports whether packets go from one host to another.
func (h *host) reaches(o *host) bool { return h == o || o.on && !h.isolated && !o.isolated }

// settleTime is how long after the end of a fault an agent may take to be itself
// again: a muted watch is given up after 5 s, dialling pauses up to 5 s.
const settleTime = 12 * time.Second

// inTouch reports whether the host's agent works and knows what etcd knows: then
// the protocol's own bounds hold, otherwise those of HAProxy's checks.
func (h *host) inTouch() bool {
	return h.running && h.trouble == 0 && !time.Now().Before(h.well)
}

func (h *host) troubled() { h.trouble++ }

func (h *host) relieved() {
	h.trouble--
	h.well = time.Now().Add(settleTime)
}

func (h *host) process() *process {
	if len(h.agents) == 0 {
		return nil
	}
	return h.agents[len(h.agents)-1]
}

// startAgent runs the agent with what is on its disk. The caller holds mu.
func (h *host) startAgent() {
	w, p := h.w, newProcess(h.node)
	ctx, cancel := context.WithCancel(w.ctx)
	p.stop = cancel
	rig := &rig{h: h, p: p, bug: w.o.Bug}
	h.rig = rig
	// As on hosts, where processes begin at instants of their own, no two agents do
	// things at one instant: the order of that would be another one in every run.
	own := time.Duration(len(h.agents)*len(w.hosts)+slices.Index(w.hosts, h)+1) * 1_000_003 * time.Nanosecond
	a, err := agent.New(agent.Options{
		Beat: beat.New(time.Now().Add(own)),
		Node: h.node, Address: func() string { return h.address }, Version: "simulated", StateDir: h.dir,
		Host: rig.wire(), Log: w.log, FreezeFile: filepath.Join(h.dir, "freeze"),
		Connect: func(ctx context.Context) (*store.Client, error) {
			if err := p.pass(); err != nil {
				return nil, err
			}
			if w.isCut(h.node) {
				t := time.NewTimer(3 * time.Second)
				defer t.Stop()
				select {
				case <-t.C:
				case <-ctx.Done():
				}
				return nil, errors.New("simulation: no route to etcd")
			}
			return w.client(p, h.node, agentBug(w.o.Bug, h)), nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	h.agents, h.agent, h.running = append(h.agents, p), a, true
	w.say(h.node, "agent starts")
	rig.first()
	go func() { _ = a.Run(ctx) }()
}

// killAgent is SIGKILL. The next run gets a copy of the disk, because what the
// killed one still writes in memory is no longer of this world.
func (h *host) killAgent() {
	if !h.running {
		return
	}
	h.process().kill()
	h.running = false
	h.dir = h.copyOfDisk()
	h.w.say(h.node, "agent killed")
}

// stopAgent is SIGTERM: Run ends by itself and everything stays as it is.
func (h *host) stopAgent() {
	if !h.running {
		return
	}
	h.process().stop()
	h.running = false
	h.w.say(h.node, "agent told to stop")
}

// copyOfDisk is the disk as the agent left it. One that was killed may be in the
// middle of a write, whose temporary file is listed and gone when it is to be read.
func (h *host) copyOfDisk() string {
	for {
		to := h.w.dir(h.node)
		err := os.CopyFS(to, os.DirFS(h.dir))
		if err == nil {
			return to
		}
		if !errors.Is(err, fs.ErrNotExist) {
			h.w.t.Fatal(err)
		}
	}
}

// Package agenttest is a host in memory: fakes of everything the agent asks of a
// machine, each a few lines, each recording what was asked of it.
package agenttest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Host is a fake machine. Its fields may be set before the agent runs, and read
// and changed through its methods at any time.
type Host struct {
	Machine string
	// OnAssert, when set, is called with each assertion instead of recording it.
	OnAssert func(Assert)

	mu       sync.Mutex
	local    agent.PostgresState // what it would answer now; At is zero
	last     agent.PostgresState // its last answer
	fast     bool
	changed  chan struct{}
	peers    map[string]patroni.Status
	answers  map[string]bool // whose PostgreSQL answers on its port
	silent   bool            // HAProxy gets no answer about the server that is held up
	asserts  []Assert
	composed []plan.Unit
	events   []string
	units    map[string]string   // unit -> hash in force
	differs  map[string][]string // unit -> how it was changed by hand
	proving  time.Duration       // how long an Apply takes after the unit is so
	configs  map[string]any
	sql      SQL
	slowSQL  time.Duration
	fail     map[string]error // resource ID or "assert" -> error
	patroni  func() (bool, error)
	addrs    *Addresses
	pooler   *Pooler
	watches  map[string]map[*func()]bool
	hands    []agent.Repair
	// slowInventory is how long it takes to ask programs for their versions.
	slowInventory time.Duration
	expires       time.Time
	rooms         []agent.Room
	streams       []bool
	clock         time.Duration
	diffs         int
	pending       bool              // a value waits for a restart
	applied       func(unit string) // after each Apply of a unit; may be nil
	files         map[string]string // what files by themselves say
	backups       *Backups
	inplace       *InPlace
	scratch       *Scratch
	hooks         *Hooks
}

// Assert is one call of Router.Assert.
type Assert struct {
	Unit    string
	Targets plan.Targets
	Edge    bool
	// HandsOff as the unit had it.
	HandsOff bool
	At       time.Time
}

// New returns a machine with nothing on it and PostgreSQL unreachable.
func New(machine string) *Host {
	s := newScratch()
	return &Host{
		Machine: machine, changed: make(chan struct{}, 1), peers: map[string]patroni.Status{}, answers: map[string]bool{},
		units: map[string]string{}, differs: map[string][]string{}, configs: map[string]any{}, fail: map[string]error{}, addrs: newAddresses(),
		pooler: newPooler(), files: map[string]string{}, backups: newBackups(), scratch: s, inplace: newInPlace(s), hooks: newHooks(),
	}
}

// Wire returns the machine as the agent wants it.
func (h *Host) Wire() agent.Host {
	return agent.Host{
		Drivers: func(cluster string, secret func(string) ([]byte, bool)) agent.Drivers {
			return agent.Drivers{Unit: unitDriver{h, secret}, Patroni: patroniDriver{h}, SQL: sqlObjects{h, secret}, File: fileDriver{h}}
		},
		Router: router{h}, Postgres: func(string, plan.Member) agent.PostgresWatcher { return watcher{h} },
		Pooler: func(string) agent.PoolerWatcher { return poolerWatcher{h.pooler} },
		Peers:  peers{h}, Inventory: inventory{h}, Takeover: takeover{h}, Watcher: events{h}, Repairs: h.repairs, Contested: h.contested,
		Expires: func(plan.Unit) (time.Time, string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.expires, "/etc/ssl/db.crt"
		},
		Clock: func(context.Context) (time.Duration, string, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.clock, "http://etcd:2379", nil
		},
		Rooms: func(string, plan.Unit) []agent.Room {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.rooms
		},
		SetAside: func(_ context.Context, data, uid string) (string, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.event("set aside %s", data)
			return data + ".removed-" + uid, h.fail["set aside"]
		},
		Addresses: h.addrs, Patroni: loopback{h}, Acts: acts{h}, InPlace: h.inplace, Hooks: h.hooks,
		Backups: h.backups, BackupRuns: h.backups, Scratch: h.scratch, ArchiveWords: func(string) string { return "[049] no route to host" },
		ArchiveDropped: func(string) string { return h.backups.droppedNow() },
		Streams: func(_ string, yes bool) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.streams = append(h.streams, yes)
			return h.fail["streams"]
		},
	}
}

// Streams are the words so far about whether the member streams.
func (h *Host) Streams() []bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]bool(nil), h.streams...)
}

// SetExpires sets until when the certificate is good that PostgreSQL shows.
func (h *Host) SetExpires(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expires = at
}

// SetClock sets how far the host's clock is ahead of etcd's.
func (h *Host) SetClock(ahead time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock = ahead
}

// SetRooms sets what the file systems of the member's folders have left.
func (h *Host) SetRooms(rs ...agent.Room) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rooms = rs
}

// SetPostgres sets what the local PostgreSQL answers from now on.
func (h *Host) SetPostgres(s agent.PostgresState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.local = s
}

// SetPeer sets what GET /patroni of a member answers.
func (h *Host) SetPeer(member string, s patroni.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.peers[member] = s
}

// SetAnswers sets whether a member's PostgreSQL answers on its port.
func (h *Host) SetAnswers(member string, answers bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers[member] = answers
}

// SetSilent sets whether this host's HAProxy gets no answer from the Patroni of whom
// it holds up.
func (h *Host) SetSilent(silent bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.silent = silent
}

func (h *Host) contested(string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.silent
}

// Fail makes acts on a resource fail; nil ends it. "assert" is the router.
func (h *Host) Fail(id string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail[id] = err
}

// Drift makes a unit differ from what was applied, in the ways that Diff is to name.
func (h *Host) Drift(unit string, how ...string) {
	if how == nil {
		how = []string{"files differ"}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.units[unit], h.differs[unit] = "changed by hand", how
}

// SlowInventory makes programs take that long to say which version they are.
func (h *Host) SlowInventory(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.slowInventory = d
}

// Fast reports whether the agent polls PostgreSQL every 2 ms.
func (h *Host) Fast() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fast
}

// Asserts returns every assertion so far.
func (h *Host) Asserts() []Assert {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Assert(nil), h.asserts...)
}

// Targets returns what a backend is held at; nil before the first assertion.
func (h *Host) Targets(backend string) map[string]plan.Target {
	as := h.Asserts()
	if len(as) == 0 {
		return nil
	}
	return as[len(as)-1].Targets[backend]
}

// Composed returns the units whose state file was written.
func (h *Host) Composed() []plan.Unit {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]plan.Unit(nil), h.composed...)
}

// Events returns what was done, in order: "prepare U", "apply U", "config S".
func (h *Host) Events() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.events...)
}

func (h *Host) event(format string, args ...any) {
	h.events = append(h.events, fmt.Sprintf(format, args...))
}

type router struct{ h *Host }

func (r router) Assert(ctx context.Context, u plan.Unit, edge bool) (int, error) {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	if err := r.h.fail["assert"]; err != nil {
		return 0, err
	}
	if r.h.OnAssert != nil {
		r.h.OnAssert(Assert{Unit: u.Unit, Targets: u.Targets, Edge: edge, At: time.Now()})
		return 0, nil
	}
	moves := 0
	if n := len(r.h.asserts); n == 0 || !reflect.DeepEqual(r.h.asserts[n-1].Targets, u.Targets) {
		moves = 1
	}
	r.h.asserts = append(r.h.asserts, Assert{Unit: u.Unit, Targets: u.Targets, Edge: edge, HandsOff: u.HandsOff, At: time.Now()})
	return moves, nil
}

func (r router) ComposeState(ctx context.Context, u plan.Unit) error {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	r.h.composed = append(r.h.composed, u)
	return nil
}

type watcher struct{ h *Host }

func (w watcher) Fast(on bool) {
	w.h.mu.Lock()
	was := w.h.fast
	w.h.fast = on
	w.h.mu.Unlock()
	if on && !was {
		select {
		case w.h.changed <- struct{}{}:
		default:
		}
	}
}

func (w watcher) Last() agent.PostgresState {
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	return w.h.last
}

func (w watcher) Run(ctx context.Context, changed func()) {
	for first := true; ; first = false {
		w.h.mu.Lock()
		before, every := w.h.last, 250*time.Millisecond
		if w.h.fast {
			every = 2 * time.Millisecond
		}
		w.h.last = w.h.local
		before.At = time.Time{}
		news := first || before != w.h.last
		w.h.last.At = time.Now()
		w.h.mu.Unlock()
		if news {
			changed()
		}
		t := time.NewTimer(every)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		case <-w.h.changed:
			t.Stop()
		}
	}
}

type peers struct{ h *Host }

func (p peers) Status(ctx context.Context, m plan.Member) (patroni.Status, error) {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	s, ok := p.h.peers[m.Name]
	if !ok {
		return s, errors.New("connection refused")
	}
	return s, nil
}

func (p peers) Answers(_ context.Context, m plan.Member) error {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	if !p.h.answers[m.Name] {
		return errors.New("connection refused")
	}
	return nil
}

type inventory struct{ h *Host }

func (i inventory) MachineID() (string, error) { return i.h.Machine, nil }

func (i inventory) Programs(context.Context) (map[string]string, []int, error) {
	i.h.mu.Lock()
	slow := i.h.slowInventory
	i.h.mu.Unlock()
	time.Sleep(slow)
	return map[string]string{"patroni": "3.0.2", "haproxy": "2.6.12"}, []int{15}, nil
}

type takeover struct{ h *Host }

func (t takeover) Prepare(ctx context.Context, cluster string, own plan.Member, u plan.Unit) ([]string, error) {
	t.h.mu.Lock()
	defer t.h.mu.Unlock()
	t.h.event("prepare %s", u.Unit)
	return nil, t.h.fail["prepare "+u.Unit]
}

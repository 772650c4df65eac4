package plan_test

import (
	"fmt"
	"math/rand"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// A world of nodes with a kernel, a PostgreSQL, a Patroni and an agent each, around
// one etcd, in steps of tick. Patroni is as simple as R2 allows: what it promises
// (ttl, when it gives up, what it answers) is kept to, and no more.
const (
	tick     = 50 * time.Millisecond
	ttl      = 30 * time.Second
	loopWait = 10 * time.Second
	givesUp  = 20 * time.Second // loop_wait + retry_timeout without etcd: it demotes
	presence = 10 * time.Second
)

type world struct {
	r        *rand.Rand
	now      time.Time
	failsafe bool
	nodes    []*host
	// etcd
	rev       int64
	leader    string
	leaderMod int64
	lease     int64
	leaseEnds time.Time
	record    *observed.VIP
	recordMod int64
	primary   *observed.Primary
	later     []event
	story     []string
}

type event struct {
	at time.Time
	do func()
}

// host is a node; its member has the same name.
type host struct {
	w    *world
	name string
	// kernel
	addressEnds time.Time
	cutEtcd     bool
	cutPeers    bool
	wall        time.Duration // how far its wall clock is off
	// PostgreSQL
	up, recovery bool
	// Patroni
	stopped   bool
	thinks    bool      // that it leads
	leaseID   int64     // of its session
	renewed   time.Time // its last renewal, by its wall clock
	renewedAt time.Time // the same, really
	nextLoop  time.Time
	barred    time.Time // promised not to race until then (failsafe)
	// agent
	paused       time.Time // until then
	presentUntil time.Time
	agent        plan.Holding
	goneAt       map[string]time.Time
	recordMod    int64
	nextSync     time.Time
	nextAsk      time.Time
	nextReading  time.Time
	writing      bool
	lastWall     time.Duration
}

func newWorld(seed int64, nodes int, failsafe bool) *world {
	w := &world{r: rand.New(rand.NewSource(seed)), now: t0, failsafe: failsafe, rev: 10}
	for i := range nodes {
		h := &host{w: w, name: string(rune('a' + i)), up: true, recovery: true, leaseID: int64(100 + i), goneAt: map[string]time.Time{}}
		w.nodes = append(w.nodes, h)
		h.startAgent()
	}
	return w
}

func (w *world) note(format string, args ...any) {
	w.story = append(w.story, fmt.Sprintf("%7.2f  ", w.now.Sub(t0).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) in(d time.Duration, do func()) { w.later = append(w.later, event{w.now.Add(d), do}) }

// step is one tick for everybody; the order of hosts is another one each time.
func (w *world) step() {
	w.now = w.now.Add(tick)
	due := w.later
	w.later = nil
	for _, e := range due {
		if e.at.After(w.now) {
			w.later = append(w.later, e)
		} else {
			e.do()
		}
	}
	if w.leader != "" && w.now.After(w.leaseEnds) {
		w.setLeader("", 0)
	}
	for _, i := range w.r.Perm(len(w.nodes)) {
		w.nodes[i].patroni()
		w.nodes[i].runAgent()
	}
}

func (w *world) holders() (out []string) {
	for _, h := range w.nodes {
		if h.addressEnds.After(w.now) {
			out = append(out, h.name)
		}
	}
	return out
}

func (w *world) setLeader(name string, lease int64) {
	w.rev++
	w.leader, w.leaderMod, w.lease = name, w.rev, lease
	if name != "" {
		w.leaseEnds = w.now.Add(ttl)
	}
	w.note("leader key: %q", name)
}

func (h *host) wallNow() time.Time { return h.w.now.Add(h.wall) }

// patroni is its HA loop, and what it does at once.
func (h *host) patroni() {
	w := h.w
	if h.stopped {
		return
	}
	switch {
	case h.thinks && !h.cutEtcd && w.leader != "" && w.leader != h.name:
		h.demote("another leads")
	case h.thinks && w.now.After(h.nextLoop):
		h.nextLoop = w.now.Add(loopWait)
		switch {
		case !h.cutEtcd && w.leader == h.name:
			w.leaseEnds = w.now.Add(ttl)
			h.renewed, h.renewedAt = h.wallNow(), w.now
		case !h.cutEtcd && w.leader == "":
			h.lead(false)
		case w.failsafe && h.askPeers():
			h.renewed, h.renewedAt = h.wallNow(), w.now
		case w.now.Sub(h.renewedAt) >= givesUp-loopWait:
			h.demote("no etcd")
		default:
			h.nextLoop = w.now.Add(time.Second)
		}
	case !h.thinks && !h.cutEtcd && w.leader == "" && h.up && w.now.After(h.barred) && w.r.Intn(4) == 0:
		h.lead(true)
	}
}

// askPeers is failsafe mode: all members must answer, and then do not race for a ttl.
func (h *host) askPeers() bool {
	for _, o := range h.w.nodes {
		if o != h && (h.cutPeers || o.cutPeers || o.stopped) {
			return false
		}
	}
	for _, o := range h.w.nodes {
		o.barred = h.w.now.Add(ttl)
	}
	return true
}

func (h *host) lead(promote bool) {
	w := h.w
	w.setLeader(h.name, h.leaseID)
	h.thinks, h.renewed, h.renewedAt, h.nextLoop = true, h.wallNow(), w.now, w.now.Add(loopWait)
	if promote && h.recovery {
		w.in(time.Duration(100+w.r.Intn(700))*time.Millisecond, func() {
			if h.thinks {
				h.recovery = false
				w.note("%s takes writes", h.name)
			}
		})
	}
}

func (h *host) demote(why string) {
	h.w.note("%s demotes: %s", h.name, why)
	h.thinks, h.up, h.recovery = false, false, true
	h.w.in(time.Duration(500+h.w.r.Intn(2000))*time.Millisecond, func() { h.up = true })
}

// says is GET /primary: 200, 503, or no answer.
func (h *host) says() int {
	switch {
	case h.stopped:
		return 0
	case h.thinks && h.wallNow().Before(h.renewed.Add(ttl)):
		return 200
	}
	return 503
}

// switchover is a planned move as Patroni makes it.
func (w *world) switchover(to *host) {
	for _, h := range w.nodes {
		if h.name != w.leader || h == to || h.cutEtcd || h.stopped || to.cutEtcd || to.stopped || !to.up || !to.recovery {
			continue
		}
		w.note("switchover %s to %s", h.name, to.name)
		h.thinks, h.up, h.recovery = false, false, true
		w.in(1400*time.Millisecond, func() {
			if w.leader == h.name {
				w.setLeader("", 0)
				if !to.stopped && !to.cutEtcd {
					to.lead(true)
				}
			}
		})
		w.in(3*time.Second, func() { h.up = true })
	}
}

func (h *host) startAgent() {
	h.agent = plan.Holding{Node: h.name, Member: h.name, Address: "v", Began: h.w.now}
	h.nextSync, h.nextAsk, h.nextReading, h.writing, h.lastWall = h.w.now, h.w.now, h.w.now, false, h.wall
	h.goneAt = map[string]time.Time{}
}

// runAgent gathers what an agent knows, decides, and acts at once or a moment later.
func (h *host) runAgent() {
	w, a := h.w, &h.agent
	if w.now.Before(h.paused) {
		return
	}
	if h.wall != h.lastWall {
		h.lastWall, a.SteppedAt = h.wall, w.now
	}
	if !h.cutEtcd {
		if h.presentUntil.Sub(w.now) < presence*3/4 {
			h.presentUntil = w.now.Add(presence)
		}
		if w.now.After(h.nextSync) {
			h.sync()
		}
	}
	h.ask()
	a.OnHost = h.addressEnds.After(w.now)
	d := plan.Hold(*a, w.now)
	if d.Drop || d.Keep || d.Acquire {
		act := func() {
			if d.Drop {
				h.addressEnds = time.Time{}
			} else {
				h.addressEnds = w.now.Add(plan.AddressLifetime)
			}
		}
		if !d.Keep {
			w.note("%s: drop %v keep %v acquire %v: %s", h.name, d.Drop, d.Keep, d.Acquire, d.Because)
		}
		if w.r.Intn(20) == 0 { // the machine is busy, or the agent was stopped in between
			h.paused = w.now.Add(time.Duration(w.r.Intn(200)) * time.Millisecond)
			w.in(h.paused.Sub(w.now), act)
			return
		}
		act()
	}
	if (d.WriteHeld || d.WriteReleased) && !h.writing {
		h.write(d)
	}
}

// sync reads etcd: at once as a rule, now and then late.
func (h *host) sync() {
	w, a := h.w, &h.agent
	h.nextSync = w.now.Add(time.Duration(w.r.Intn(100)) * time.Millisecond)
	if w.r.Intn(60) == 0 {
		h.nextSync = w.now.Add(time.Duration(w.r.Intn(5000)) * time.Millisecond)
	}
	a.View.Known, a.View.FreshAt = true, w.now
	if a.View.Observe(w.leader, plan.Epoch(w.leaderMod), w.lease, w.now) {
		a.LeaderAt = w.now
	}
	if w.primary != nil {
		a.View.ObservePrimary(*w.primary)
	}
	if w.recordMod != h.recordMod {
		a.Record, h.recordMod = w.record, w.recordMod
	}
	for _, o := range w.nodes {
		if !w.now.Before(o.presentUntil) {
			if h.goneAt[o.name].IsZero() {
				h.goneAt[o.name] = w.now
			}
		} else {
			delete(h.goneAt, o.name)
		}
	}
	a.HolderGoneAt = time.Time{}
	if a.Record != nil {
		a.HolderGoneAt = h.goneAt[a.Record.Node]
	}
	if w.leader == h.name && h.up && !h.recovery && a.View.Leader.Member == h.name && !a.View.Confirmed() {
		p := observed.Primary{Member: h.name, Node: h.name, Epoch: w.leaderMod, Sequence: 1, Writable: true}
		w.primary = &p
		a.View.ObservePrimary(p)
	}
}

func (h *host) ask() {
	w, a := h.w, &h.agent
	a.Local.At, a.Local.Writable, a.Local.InRecovery = w.now, h.up && !h.recovery, h.up && h.recovery
	if a.Local.Writable {
		a.Local.WritableAt = w.now
	}
	if w.now.After(h.nextAsk) {
		h.nextAsk = w.now.Add(plan.PatroniEvery)
		switch h.says() {
		case 200:
			a.Patroni = plan.PatroniReading{YesAt: w.now}
		case 503:
			h.nextAsk = w.now
			if a.Patroni.NoAt.IsZero() {
				a.Patroni = plan.PatroniReading{NoAt: w.now}
			}
		}
	}
	if !h.cutEtcd && w.now.After(h.nextReading) && w.leader == h.name {
		h.nextReading = w.now.Add(time.Second)
		left := w.leaseEnds.Sub(w.now).Truncate(time.Second)
		a.Lease = plan.LeaseReading{Lease: w.lease, AskedAt: w.now, Left: left}
	}
}

// write is a transaction under its guards, which arrives when it arrives.
func (h *host) write(d plan.HoldDecision) {
	w, a := h.w, &h.agent
	epoch, guard := int64(a.View.Leader.Epoch), h.recordMod
	state := observed.VIPReleased
	if d.WriteHeld {
		state = observed.VIPHeld
	}
	h.writing = true
	if d.WriteReleased {
		// Whether the write arrives or not: from here on the agent has given it up.
		given := *a.Record
		given.State = state
		a.Record = &given
	}
	delay := time.Duration(w.r.Intn(50)) * time.Millisecond
	if w.r.Intn(10) == 0 {
		delay = time.Duration(w.r.Intn(8000)) * time.Millisecond
	}
	began := a.Began
	w.in(delay, func() {
		if a.Began.Equal(began) {
			h.writing = false
		}
		if h.cutEtcd || w.recordMod != guard {
			return
		}
		if d.WriteHeld && (w.leader != h.name || w.leaderMod != epoch) {
			return
		}
		w.rev++
		w.record, w.recordMod = &observed.VIP{Address: "v", Node: h.name, Member: h.name, Epoch: epoch, State: state}, w.rev
		w.note("record: %s by %s", state, h.name)
	})
}

package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/store/model"
)

// Patroni's timing, its defaults.
const (
	ttl          = 30 * time.Second
	loopWait     = 10 * time.Second
	retryTimeout = 10 * time.Second
	wakeDelay    = 5 * time.Millisecond // from etcd to Patroni's watch
)

type patState int

const (
	patAbsent  patState = iota // never installed
	patRunning                 // as is
	patPaused                  // SIGSTOP
	patDown                    // killed; systemd starts it again
)

type pgState int

const (
	pgOff      pgState = iota // refuses connections
	pgStarting                // refuses connections
	pgRecovery                // a replica: accepts, refuses writes
	pgPromoting
	pgPrimary // takes writes
)

func (s pgState) String() string {
	return [...]string{"off", "starting", "in recovery", "promoting", "primary"}[s]
}

// patroni is a host's Patroni and PostgreSQL: the leader race on a leased key, with
// the delays and faults that matter to whoever follows. The driver runs it.
type patroni struct {
	h     *host
	etcd  model.Parts
	state patState
	// reckless is Patroni 3.0.2: continued past its ttl it overwrites the leader key.
	reckless bool

	pg        pgState
	data      bool // PostgreSQL has a data directory
	timeline  int64
	streaming string // the member it streams from
	standby   bool   // demoted in place: leads, and PostgreSQL is in recovery
	change    int    // makes scheduled changes of PostgreSQL void

	lease   clientv3.LeaseID
	lock    bool // believes to hold the leader key
	renewed time.Time
	beats   int64 // WAL position, moves with every loop
	loop    int   // makes scheduled loops void
	touched time.Time
	// writable is when PostgreSQL was last known to take writes; see check.go.
	writable time.Time
	back     time.Time // when it last began to take writes, or Patroni to answer
}

func newPatroni(h *host) *patroni {
	return &patroni{h: h, etcd: h.w.etcd.Connect("patroni-" + h.node), timeline: 1}
}

func (p *patroni) say(format string, args ...any) { p.h.w.say(p.h.member, format, args...) }

// install is the first start by the agent; later it is a reload, which changes nothing here.
func (p *patroni) install() {
	if p.state == patAbsent {
		p.state = patRunning
		p.wake(time.Second)
	}
}

// wake runs the loop after d, and every loopWait from then on.
func (p *patroni) wake(d time.Duration) {
	p.loop++
	n := p.loop
	p.h.w.after(d, "patroni "+p.h.node, func() {
		if p.loop != n {
			return
		}
		p.wake(loopWait)
		if p.state == patRunning && p.h.on {
			p.turn()
		}
	})
}

// setPG is PostgreSQL's change of state; what was scheduled before is void.
func (p *patroni) setPG(s pgState) {
	if s != p.pg {
		p.say("PostgreSQL is %s", s)
	}
	if p.pg == pgPrimary && s != pgPrimary || s == pgPrimary {
		p.writable = time.Now()
	}
	if s == pgPrimary && p.pg != s {
		p.back = time.Now()
	}
	p.pg = s
	p.change++
	p.h.w.check.step()
}

// then makes PostgreSQL's next change after d.
func (p *patroni) then(d time.Duration, do func()) {
	n := p.change
	p.h.w.after(d, "postgres "+p.h.node, func() {
		if p.change == n && p.h.on {
			do()
		}
	})
}

// etcdReachable: Patroni's own way to etcd.
func (p *patroni) etcdReachable() bool { return p.h.on && !p.h.noEtcd && !p.h.isolated }

// turn is one run of Patroni's loop.
func (p *patroni) turn() {
	if !p.etcdReachable() {
		p.blind()
		return
	}
	ctx := context.Background()
	p.touched = time.Now()
	if p.lease != 0 {
		if r, err := p.etcd.Lease.KeepAliveOnce(ctx, p.lease); err != nil || r.TTL <= 0 {
			p.lease = 0
		}
	}
	if p.lease == 0 {
		r, err := p.etcd.Lease.Grant(ctx, int64(ttl/time.Second))
		if err != nil {
			return
		}
		p.lease = r.ID
	}
	p.beats++
	p.publish(ctx)
	leader, rev, lease := p.h.w.leaderKey()
	p.decide(ctx, leader, rev, lease)
}

func (p *patroni) decide(ctx context.Context, leader string, rev int64, lease int64) {
	if lock := p.lock; leader != p.h.member && leader != "" && lock {
		p.lock = false
	}
	switch {
	case !p.data:
		p.bootstrap(ctx, leader)
	case p.pg == pgPrimary || p.pg == pgPromoting || p.standby:
		switch leader {
		case p.h.member:
			if lease != int64(p.lease) { // the session was lost and the key is still there
				p.takeKey(ctx, rev)
			}
			p.lock, p.renewed = true, time.Now()
		case "":
			if p.takeKey(ctx, 0) {
				p.lock, p.renewed = true, time.Now()
			}
		default:
			p.demote()
		}
	case p.pg == pgOff && leader == p.h.member && (p.lock || lease == int64(p.lease)):
		p.lock, p.renewed = true, time.Now()
		p.restart(pgPrimary)
	case p.pg == pgOff:
		p.restart(pgRecovery)
	case p.pg == pgRecovery && leader == p.h.member:
		if lease != int64(p.lease) { // it was restarted: the lock is its own by name
			p.takeKey(ctx, rev)
		}
		p.lock, p.renewed = true, time.Now()
		p.promote()
	case p.pg == pgRecovery && leader == "":
		p.race(ctx)
	case p.pg == pgRecovery:
		p.follow(leader)
	}
}

// publish writes the member key, as Patroni does with every loop.
func (p *patroni) publish(ctx context.Context) {
	role, state := "replica", "running"
	switch p.pg {
	case pgPrimary, pgPromoting:
		role = "master"
	case pgOff:
		state = "stopped"
	case pgStarting:
		state = "starting"
	}
	if !p.data {
		state, role = "creating replica", "uninitialized"
	}
	v, _ := json.Marshal(map[string]any{
		"conn_url": fmt.Sprintf("postgres://%s:5432/postgres", p.h.address), "api_url": fmt.Sprintf("http://%s:8008/patroni", p.h.address),
		"state": state, "role": role, "version": p.version(), "xlog_location": p.beats, "timeline": p.timeline,
	})
	_, _ = p.etcd.KV.Put(ctx, layout.Members(cluster)+p.h.member, string(v), clientv3.WithLease(p.lease))
}

func (p *patroni) version() string {
	if p.reckless {
		return "3.0.2"
	}
	return "3.0.4"
}

// takeKey makes the leader key ours under our lease, if it is still at rev.
func (p *patroni) takeKey(ctx context.Context, rev int64) bool {
	key := layout.Leader(cluster)
	r, err := p.etcd.KV.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", rev)).
		Then(clientv3.OpPut(key, p.h.member, clientv3.WithLease(p.lease))).Commit()
	return err == nil && r.Succeeded
}

// bootstrap initialises the cluster, or copies from the leader.
func (p *patroni) bootstrap(ctx context.Context, leader string) {
	w := p.h.w
	_, _, initialized := w.etcd.Get(layout.Scope(cluster) + "initialize")
	switch {
	case !initialized:
		_, _ = p.etcd.KV.Put(ctx, layout.Scope(cluster)+"initialize", system)
		_, _ = p.etcd.KV.Put(ctx, layout.Scope(cluster)+"config", `{"ttl":30,"loop_wait":10}`)
		p.data = true
		p.setPG(pgStarting)
		p.then(2*time.Second, func() {
			p.setPG(pgPrimary)
			p.wake(0)
		})
	case leader != "" && w.member(leader).pat.pg == pgPrimary && p.pg == pgOff:
		p.setPG(pgStarting)
		p.then(3*time.Second, func() {
			p.data, p.timeline = true, w.member(leader).pat.timeline
			p.setPG(pgRecovery)
			p.wake(0)
		})
	}
}

// blind is the loop without etcd: replicas wait, a leader gives up after a while
// unless every other member agrees that it stays (failsafe_mode).
func (p *patroni) blind() {
	if !p.lock || time.Since(p.renewed) < retryTimeout {
		return
	}
	for _, o := range p.h.w.hosts {
		if o != p.h && (!p.h.reaches(o) || o.pat.state != patRunning || !o.pat.data) {
			p.lock = false
			if p.pg != pgOff {
				p.demote()
			}
			return
		}
	}
}

// demote stops PostgreSQL and starts it as a replica.
func (p *patroni) demote() {
	p.say("demotes")
	p.lock, p.standby, p.streaming = false, false, ""
	p.setPG(pgOff)
	p.then(p.h.w.between(500*time.Millisecond, 2*time.Second), func() { p.restart(pgRecovery) })
}

func (p *patroni) restart(as pgState) {
	p.setPG(pgStarting)
	p.then(p.h.w.between(300*time.Millisecond, 1500*time.Millisecond), func() {
		p.setPG(as)
		p.wake(0)
	})
}

func (p *patroni) promote() {
	if p.standby {
		return
	}
	p.streaming = ""
	p.setPG(pgPromoting)
	p.then(p.h.w.promotion(), func() {
		for _, o := range p.h.w.hosts {
			p.timeline = max(p.timeline, o.pat.timeline)
		}
		p.timeline++
		p.setPG(pgPrimary)
		p.wake(0)
	})
}

// race takes a free leader key, unless somebody answers who takes writes still.
func (p *patroni) race(ctx context.Context) {
	w := p.h.w
	if w.switchTo != "" && w.switchTo != p.h.member {
		return
	}
	for _, o := range w.hosts {
		if o != p.h && p.h.reaches(o) && o.pat.state == patRunning && (o.pat.pg == pgPrimary || o.pat.pg == pgPromoting) {
			return // "is still alive"
		}
	}
	if !p.takeKey(ctx, 0) {
		return
	}
	w.switchTo = ""
	p.lock, p.renewed = true, time.Now()
	p.promote()
}

func (p *patroni) follow(leader string) {
	o := p.h.w.member(leader)
	if o == nil {
		return
	}
	if p.streaming == leader && o.pat.pg == pgPrimary && p.h.reaches(o) {
		p.timeline = o.pat.timeline // WAL brings it along
		return
	}
	p.streaming = ""
	p.then(time.Second, func() {
		if o.pat.pg == pgPrimary && p.h.reaches(o) && p.pg == pgRecovery {
			p.streaming, p.timeline = leader, o.pat.timeline
		} else {
			p.wake(time.Second)
		}
	})
}

func (p *patroni) giveUpKey(rev int64) {
	key := layout.Leader(cluster)
	_, _ = p.etcd.KV.Txn(context.Background()).If(clientv3.Compare(clientv3.ModRevision(key), "=", rev)).Then(clientv3.OpDelete(key)).Commit()
}

// overwriteKey is what Patroni 3.0.2 does past its ttl: a new session, and the key
// is written without a look at it.
func (p *patroni) overwriteKey() {
	ctx := context.Background()
	if r, err := p.etcd.Lease.KeepAliveOnce(ctx, p.lease); err == nil && r.TTL > 0 {
		return // not past its ttl
	}
	r, err := p.etcd.Lease.Grant(ctx, int64(ttl/time.Second))
	if err != nil {
		return
	}
	p.lease = r.ID
	p.publish(ctx)
	p.say("writes the leader key without looking")
	_, _ = p.etcd.KV.Put(ctx, layout.Leader(cluster), p.h.member, clientv3.WithLease(p.lease))
}

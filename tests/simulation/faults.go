package simulation

import (
	"math/rand/v2"
	"time"
)

// profile is which faults a run has.
type profile struct {
	name   string
	length time.Duration
	count  int // faults at most; at least half of them
	still  bool
	faults []fault
}

// fault does something and returns what undoes it, nil when it ends by itself. mu is
// held for both.
type fault struct {
	name   string
	weight int
	do     func(w *World) (undo func())
}

func profileOf(name string, rng *rand.Rand) profile {
	all := []profile{
		{name: "mixed", length: 70 * time.Second, count: 12, faults: join(moves, network, programs, documentFaults, machines, hands)},
		{name: "moves", length: 60 * time.Second, count: 8, faults: join(moves, programs, hands)},
		{name: "network", length: 60 * time.Second, count: 8, faults: join(network, moves, hands)},
		{name: "documents", length: 50 * time.Second, count: 10, faults: join(documentFaults, programs, moves)},
		{name: "fencing", length: 80 * time.Second, count: 6, faults: fencing},
		{name: "restarts", length: 50 * time.Second, count: 10, still: true, faults: join(programs, documentFaults, ourNetwork)},
	}
	for _, p := range all {
		if p.name == name {
			return p
		}
	}
	return all[rng.IntN(len(all))]
}

func join(fs ...[]fault) []fault {
	var out []fault
	for _, f := range fs {
		out = append(out, f...)
	}
	return out
}

// schedule draws the faults of a run. The caller holds mu.
func (w *World) schedule(p profile) {
	total := 0
	for _, f := range p.faults {
		total += f.weight
	}
	for range p.count/2 + w.rng.IntN(p.count/2+1) {
		pick := w.rng.IntN(total)
		for _, f := range p.faults {
			if pick -= f.weight; pick >= 0 {
				continue
			}
			at := w.between(0, p.length-15*time.Second)
			long := w.between(500*time.Millisecond, min(40*time.Second, p.length-at))
			if w.rng.IntN(2) == 0 {
				long = min(long, w.between(200*time.Millisecond, 6*time.Second))
			}
			w.after(at, "fault "+f.name, func() { w.strike(f, long) })
			break
		}
	}
}

func (w *World) strike(f fault, long time.Duration) {
	w.check.stats.Faults++
	undo := f.do(w)
	if undo == nil {
		return
	}
	w.after(long, "end of "+f.name, undo)
}

func (w *World) host() *host     { return w.hosts[w.rng.IntN(len(w.hosts))] }
func (w *World) server() *server { return w.servers[w.rng.IntN(len(w.servers))] }

func (w *World) leading() *host {
	if h := w.member(w.audit.leader); h != nil {
		return h
	}
	return w.host()
}

// promotion is how long PostgreSQL takes to leave recovery: mostly little.
func (w *World) promotion() time.Duration {
	if w.rng.IntN(4) == 0 {
		return w.between(time.Second, 6*time.Second)
	}
	return w.between(80*time.Millisecond, 300*time.Millisecond)
}

// restore ends every fault that is still at work.
func (w *World) restore() {
	w.queue.drop("end of ", "fault ")
	w.check.still = false
	for i, h := range w.hosts {
		h.isolated, h.noEtcd = false, false
		w.connect(h.node, i+1)
		if !h.on {
			h.powerOn()
		}
		if h.pat.state == patPaused {
			h.pat.goOn()
		}
		if h.pat.state == patDown {
			h.pat.state = patRunning
			h.pat.wake(0)
		}
		h.pat.standby = false
		switch {
		case !h.running:
			h.startAgent()
		case h.process().paused():
			h.process().resume()
		}
		if !h.proxy.running && h.units["haproxy@"+cluster+".service"] != "" {
			h.startProxy("restored")
		}
		h.trouble, h.well = 0, time.Now().Add(settleTime)
		h.handsOff()
	}
	for i, s := range w.servers {
		w.connect(s.name, nodes+i+1)
		if !s.running {
			s.start()
		} else if s.process().paused() {
			s.process().resume()
		}
	}
	w.unsteady()
}

// connect makes a link as it is without faults.
func (w *World) connect(name string, i int) {
	l := w.links[name]
	if l.cut || l.slow {
		l.healed = time.Now()
	}
	l.cut, l.slow, l.duplicate, l.spread = false, false, false, 0
	w.etcd.Heal(name)
	w.etcd.Delay(name, w.usualDelay(i))
}

// moves are what makes leaders change.
var moves = []fault{
	{"switchover", 5, func(w *World) func() {
		from, to := w.leading(), w.host()
		if from == to || from.pat.pg != pgPrimary || from.pat.state != patRunning || to.pat.pg != pgRecovery || to.pat.state != patRunning {
			return nil
		}
		w.say("world", "switchover from %s to %s", from.member, to.member)
		w.switchTo = to.member
		w.after(10*time.Second, "switchover over", func() { w.switchTo = "" })
		from.pat.handOver()
		return nil
	}},
	{"demotion in place", 3, func(w *World) func() {
		h := w.leading()
		if h.pat.pg != pgPrimary || h.pat.state != patRunning {
			return nil
		}
		w.say("world", "%s is demoted in place", h.member)
		h.pat.standby = true
		h.pat.setPG(pgOff)
		h.pat.then(300*time.Millisecond, func() { h.pat.setPG(pgRecovery) })
		return func() {
			w.say("world", "%s is promoted in place", h.member)
			h.pat.standby = false
			h.pat.wake(0)
		}
	}},
	{"PostgreSQL crashes", 3, func(w *World) func() {
		h := w.leading()
		w.say("world", "PostgreSQL of %s crashes", h.member)
		h.pat.standby, h.pat.streaming = false, ""
		h.pat.setPG(pgOff)
		return nil
	}},
	{"Patroni stopped", 5, func(w *World) func() {
		h := w.leading()
		if h.pat.state != patRunning {
			return nil
		}
		w.say("world", "SIGSTOP for Patroni of %s", h.member)
		h.pat.state = patPaused
		w.unsteady()
		return h.pat.goOn
	}},
	{"Patroni stopped past its ttl", 4, func(w *World) func() {
		h := w.leading()
		if h.pat.state != patRunning {
			return nil
		}
		w.say("world", "SIGSTOP for Patroni of %s, for longer than its ttl", h.member)
		h.pat.state = patPaused
		w.unsteady()
		w.after(w.between(31*time.Second, 45*time.Second), "end of Patroni stopped", h.pat.goOn)
		return nil
	}},
	{"Patroni killed", 3, func(w *World) func() {
		h := w.host()
		if h.pat.state != patRunning {
			return nil
		}
		w.say("world", "Patroni of %s killed", h.member)
		h.pat.state = patDown
		w.unsteady()
		return func() {
			if h.pat.state == patDown {
				w.say("world", "Patroni of %s starts", h.member)
				h.pat.state, h.pat.lease, h.pat.lock = patRunning, 0, false
				h.pat.back = time.Now()
				h.pat.wake(0)
			}
		}
	}},
	{"lease of the leader lost", 3, func(w *World) func() {
		if _, _, lease := w.leaderKey(); lease != 0 {
			w.say("world", "etcd loses the lease of %s", w.audit.leader)
			w.etcd.ExpireLease(lease)
		}
		return nil
	}},
}

// fencing is what makes two members take writes: a leader that nobody can demote, and
// agents that do not hear of the next one.
var fencing = []fault{named(moves, "Patroni stopped past its ttl"), named(ourNetwork, "agent cut off"), named(programs, "agent stopped")}

func named(fs []fault, name string) fault {
	for _, f := range fs {
		if f.name == name {
			return f
		}
	}
	panic("no fault " + name)
}

// machines are faults of whole hosts.
var machines = []fault{
	{"power cut", 4, func(w *World) func() {
		h := w.host()
		if !h.on {
			return nil
		}
		h.powerOff()
		return h.powerOn
	}},
	{"host isolated", 4, func(w *World) func() {
		h := w.host()
		if h.isolated {
			return nil
		}
		w.say("world", "%s is cut off from everybody", h.node)
		h.isolated = true
		heal := h.cutAgent()
		w.unsteady()
		return func() {
			w.say("world", "%s is back on the network", h.node)
			h.isolated = false
			heal()
			w.unsteady()
		}
	}},
	{"HAProxy killed", 3, func(w *World) func() {
		h := w.host()
		if !h.proxy.running || !h.on {
			return nil
		}
		h.proxy.crash()
		w.after(200*time.Millisecond, "systemd starts HAProxy", func() {
			if h.on {
				h.startProxy("started by systemd")
			}
		})
		w.unsteady()
		return nil
	}},
}

func (q *events) drop(labels ...string) {
	kept := (*q)[:0]
	for _, e := range *q {
		gone := false
		for _, l := range labels {
			gone = gone || len(e.label) >= len(l) && e.label[:len(l)] == l
		}
		if !gone {
			kept = append(kept, e)
		}
	}
	*q = kept
	q.init()
}

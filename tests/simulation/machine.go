package simulation

import (
	"encoding/json"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// powerOff takes everything on the host down at once.
func (h *host) powerOff() {
	w := h.w
	w.say("world", "%s loses its power", h.node)
	h.troubled()
	h.on = false
	h.killAgent()
	h.proxy.crash()
	h.kernel.set(false, "no power")
	h.pat.loop++ // nothing of it is due any more
	h.pat.setPG(pgOff)
	h.pat.streaming, h.pat.standby, h.pat.lock, h.pat.lease = "", false, false, 0
	if h.pat.state != patAbsent {
		h.pat.state = patDown
	}
	w.unsteady()
}

// powerOn boots the host: systemd starts what was enabled.
func (h *host) powerOn() {
	if h.on {
		return
	}
	w := h.w
	w.say("world", "%s boots", h.node)
	h.on = true
	if h.pat.state == patDown {
		h.pat.state = patRunning
		h.pat.wake(2 * time.Second)
	}
	if h.units["haproxy@"+cluster+".service"] != "" {
		h.startProxy("boot")
	}
	w.after(300*time.Millisecond, "boot "+h.node, func() {
		if h.on {
			h.agentBack()
		}
	})
	w.unsteady()
}

// handOver is a planned switchover on the old leader: PostgreSQL stops, the key is
// given up, and the node comes back as a replica.
func (p *patroni) handOver() {
	p.lock = false
	p.setPG(pgOff)
	p.loop++ // no turn until it is done
	p.then(p.h.w.between(100*time.Millisecond, 800*time.Millisecond), func() {
		if p.state == patRunning && p.etcdReachable() {
			if leader, rev, _ := p.h.w.leaderKey(); leader == p.h.member {
				p.say("gives up the leader key")
				p.giveUpKey(rev)
			}
		}
		p.then(p.h.w.between(300*time.Millisecond, 2*time.Second), func() {
			p.restart(pgRecovery)
			p.wake(2 * time.Second)
		})
	})
}

// goOn is SIGCONT. A reckless Patroni that led goes on with what it was about to do:
// it writes the leader key, whoever has it by now.
func (p *patroni) goOn() {
	if p.state != patPaused {
		return
	}
	p.say("Patroni goes on")
	p.state = patRunning
	p.back = time.Now()
	p.h.w.unsteady()
	if p.reckless && p.lock && p.pg == pgPrimary && p.etcdReachable() {
		p.overwriteKey()
	}
	p.wake(wakeDelay)
}

func decodeReport(v string) (observed.Report, error) {
	var r observed.Report
	return r, json.Unmarshal([]byte(v), &r)
}

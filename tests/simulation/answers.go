package simulation

import (
	"github.com/pgctrl/pgctrl/pkg/agent"
	pat "github.com/pgctrl/pgctrl/pkg/patroni"
)

// status is the answer of GET /patroni.
func (p *patroni) status() pat.Status {
	s := pat.Status{State: "running", Role: pat.Replica, Timeline: p.timeline, System: system}
	s.Patroni.Name, s.Patroni.Version = p.h.member, p.version()
	switch p.pg {
	case pgPrimary:
		s.Role = pat.Primary
	case pgOff, pgStarting:
		s.State = "starting"
	}
	return s
}

// answer is what PostgreSQL says to the agent's question.
func (p *patroni) answer() agent.PostgresState {
	switch p.pg {
	case pgPrimary:
		return agent.PostgresState{Reachable: true, System: system, Timeline: p.timeline}
	case pgRecovery, pgPromoting:
		streams := p.streaming != "" && p.pg == pgRecovery && p.h.w.member(p.streaming).pat.pg == pgPrimary
		return agent.PostgresState{Reachable: true, InRecovery: true, System: system, Timeline: p.timeline, Streaming: streams}
	}
	return agent.PostgresState{}
}

// says is the answer to one of HAProxy's checks; ok is status 200.
func (p *patroni) says(path string) (ok, answered bool) {
	switch {
	case p.state == patPaused:
		return false, false
	case p.state != patRunning:
		return false, true
	case path == "/primary": // the lock decides, before PostgreSQL left recovery
		return p.lock && !p.standby && (p.pg == pgPrimary || p.pg == pgPromoting), true
	}
	return p.pg == pgRecovery && !p.lock, true
}

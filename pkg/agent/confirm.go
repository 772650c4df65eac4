package agent

import (
	"fmt"
	"sort"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Pauses of the fallback (ROLES section 2). They are short against UnconfirmedFor
// and long against one GET, so that with the leader's agent dead one agent
// confirms and the others find it done.
const (
	staggerStep = 150 * time.Millisecond
	probeEvery  = 250 * time.Millisecond
	// lookEvery is the pace at which PostgreSQL is asked while it is about to be
	// confirmed: an answer that is news only because it came after the leader event
	// is not announced by the watcher.
	lookEvery = 2 * time.Millisecond
)

// proofs are what the machines themselves showed, as opposed to etcd.
type proofs struct {
	// Local is the last answer of this node's own PostgreSQL.
	Local PostgresState
	// Remote is the last answer of RemoteMember's Patroni, asked at RemoteAt.
	Remote       patroni.Status
	RemoteMember string
	RemoteAt     time.Time
	RemoteErr    error
}

// action is what decideConfirm wants done; zero is nothing.
type action struct {
	// Write is the primary record to write, guarded by the leader key's value
	// (LeaderIs) and mod revision (Epoch) and the primary key's (PrimaryRev).
	Write      *observed.Primary
	LeaderIs   string
	Epoch      plan.Epoch
	PrimaryRev int64
	// Leaderless: the guard is instead that the leader key does not exist.
	Leaderless bool
	// Probe asks this member's Patroni.
	Probe *plan.Member
	// Fast asks the local PostgreSQL every 2 ms.
	Fast bool
	// After decides again then, even if nothing happens; 0 waits for an event.
	After time.Duration
	// Why says what stands in the way, when something does.
	Why *observed.Condition
}

// decideConfirm says whether this node confirms or withdraws a primary now. It is
// pure: the cluster's keys, the proofs and the time are all it knows.
func decideConfirm(node string, c plan.Cluster, s state, p proofs, now time.Time) action {
	v := s.view
	own, member := c.Own()
	switch {
	case !v.Known || !member || s.back:
		// A node without a member has no right to write the key (R10).
		return action{}
	case v.Leader.Member == "":
		return decideLeaderless(node, own, s, p.Local, now)
	case s.stored != nil && plan.Epoch(s.stored.Epoch) > v.Leader.Epoch:
		return action{Why: unconfirmed(observed.StoreChanged, fmt.Sprintf(
			"the confirmation of %s is from epoch %d, the leader key from %d: this etcd went back in time or the key was written by hand",
			s.stored.Member, s.stored.Epoch, v.Leader.Epoch))}
	case v.Leader.Member == own.Name:
		return decideOwn(node, own, s, p.Local, now)
	default:
		return decideOther(node, c, own, s, p, now)
	}
}

// decideOwn is the leader's own agent.
func decideOwn(node string, own plan.Member, s state, local PostgresState, now time.Time) action {
	v := s.view
	if who := impostor(v, own, true); who != "" {
		a := action{Why: unconfirmed(observed.DuplicateMember, who)}
		if lag := identityGrace - now.Sub(s.leaderAt); lag >= 0 && restamped(v, own) {
			a = action{After: lag + time.Millisecond} // nothing is wrong yet, and nothing is confirmed either
		}
		if answers(local, s, now) && local.InRecovery {
			return withdraw(a, node, own, s, local) // what is no longer true needs no identity
		}
		return a
	}
	done := s.stored != nil && s.stored.Of(v.UID, s.initialize) && s.stored.Member == own.Name && plan.Epoch(s.stored.Epoch) == v.Leader.Epoch && s.stored.Writable
	idle := action{Fast: !done && now.Sub(s.leaderAt) < FastFor}
	if idle.Fast {
		idle.After = lookEvery
	}
	if !answers(local, s, now) {
		// No answer to a question asked under this leadership. Silence withdraws
		// nothing: it is not a statement that writes are refused, and while PostgreSQL
		// restarts HAProxy holds new connections.
		return idle
	}
	switch {
	case s.initialize == "":
		idle.Why = unconfirmed(observed.WrongSystem, "Patroni's initialize key is absent, so whose PostgreSQL answers can't be told")
		return idle
	case local.System != s.initialize:
		idle.Why = unconfirmed(observed.WrongSystem, fmt.Sprintf(
			"PostgreSQL on port %d has system identifier %s, the cluster has %s", own.Port, local.System, s.initialize))
		return withdraw(idle, node, own, s, local)
	case local.InRecovery:
		return withdraw(idle, node, own, s, local)
	case done:
		return idle
	}
	return write(idle, own, s, observed.Primary{Writable: true, Timeline: local.Timeline, System: local.System, By: node})
}

// answers reports whether PostgreSQL answered a question asked under this leadership,
// and not too long ago.
func answers(local PostgresState, s state, now time.Time) bool {
	return local.Reachable && !local.At.Before(s.leaderAt) && now.Sub(local.At) <= ProofFor
}

// withdraw takes back a confirmation of this member, of this epoch or an earlier
// one: an agent that started since can't know that another leadership came between.
func withdraw(a action, node string, own plan.Member, s state, local PostgresState) action {
	if s.stored == nil || s.stored.Member != own.Name || !s.stored.Writable {
		return a
	}
	return write(a, own, s, observed.Primary{Timeline: local.Timeline, System: s.stored.System, By: node})
}

// decideOther is any other agent of the cluster: it steps in when the leader's
// agent has not confirmed for UnconfirmedFor.
func decideOther(node string, c plan.Cluster, own plan.Member, s state, p proofs, now time.Time) action {
	v := s.view
	withdrawn := s.stored != nil && s.stored.Of(v.UID, s.initialize) && s.stored.Member == v.Leader.Member && !s.stored.Writable && plan.Epoch(s.stored.Epoch) > v.OtherEpoch
	if v.Confirmed() || withdrawn || v.StandbyCluster {
		return action{}
	}
	order := rank(c, own.Name, v.Leader.Member)
	wait := plan.UnconfirmedFor + time.Duration(order)*staggerStep - now.Sub(v.Leader.Since)
	if wait > 0 {
		return action{After: wait}
	}
	leader, ok := c.Find(v.Leader.Member)
	if !ok {
		return action{Why: unconfirmed(observed.NotConfirmed, v.Leader.Member+" leads and is no member that the plan knows")}
	}
	if who := impostor(v, leader, false); who != "" {
		return action{Why: unconfirmed(observed.DuplicateMember, who), After: probeEvery}
	}
	st := p.Remote
	switch asked := p.RemoteMember == leader.Name && !p.RemoteAt.Before(s.leaderAt); {
	case !asked || now.Sub(p.RemoteAt) >= probeEvery:
		return action{Probe: &leader}
	case p.RemoteErr != nil:
		return action{After: probeEvery, Why: unconfirmed(observed.NotConfirmed, fmt.Sprintf(
			"%s leads; its Patroni can't be asked: %v", leader.Name, p.RemoteErr))}
	case st.Patroni.Name != "" && st.Patroni.Name != leader.Name, s.initialize == "", st.System != s.initialize:
		return action{After: probeEvery, Why: unconfirmed(observed.WrongSystem, fmt.Sprintf(
			"the Patroni at %s is %q of system %q, expected %q of system %q",
			restAddress(leader), st.Patroni.Name, st.System, leader.Name, s.initialize))}
	case !st.TakesWrites():
		return action{After: probeEvery, Why: unconfirmed(observed.NotConfirmed, fmt.Sprintf(
			"%s leads; its Patroni says role %q, state %q", leader.Name, st.Role, st.State))}
	}
	return write(action{}, leader, s, observed.Primary{Writable: true, Timeline: st.Timeline, System: st.System, By: node})
}

// write completes a record about m under the present leadership: of a later epoch
// than what is stored, or the next in sequence under the same one.
func write(a action, m plan.Member, s state, r observed.Primary) action {
	r.UID = s.view.UID
	r.Member, r.Node, r.Address, r.Port = m.Name, m.Node, m.Address, m.Port
	r.Epoch, r.Sequence = int64(s.view.Leader.Epoch), 1
	r.Store, r.UID = s.store, s.view.UID
	for _, old := range []*observed.Primary{s.stored, s.view.Primary} {
		if old != nil && old.Epoch == r.Epoch {
			r.Sequence = max(r.Sequence, old.Sequence+1)
		}
	}
	a.Write, a.LeaderIs, a.Epoch, a.PrimaryRev = &r, m.Name, s.view.Leader.Epoch, s.storedRev
	return a
}

func unconfirmed(r observed.Reason, msg string) *observed.Condition {
	return &observed.Condition{Type: observed.HasPrimary, Status: observed.False, Reason: r, Message: msg}
}

// rank is this member's place among those that are not the leader, by name.
func rank(c plan.Cluster, own, leader string) int {
	var names []string
	for _, m := range c.Members {
		if m.Name != leader {
			names = append(names, m.Name)
		}
	}
	sort.Strings(names)
	return sort.SearchStrings(names, own)
}

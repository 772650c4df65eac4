package agent

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// decideLeaderless is an agent while no leader key exists: in a move whose candidate
// does not take it, or for as long as people like during Patroni's pause. Routes keep
// the member that was confirmed last, so its own agent goes on watching it and withdraws
// the confirmation when its PostgreSQL takes no writes any more. It confirms nobody. Silence is no statement here either: a PostgreSQL that is
// down refuses its clients by itself.
func decideLeaderless(node string, own plan.Member, s state, local PostgresState, now time.Time) action {
	st := s.stored
	switch {
	case st == nil || st.Member != own.Name || !st.Writable || !st.Of(s.view.UID, s.initialize):
		return action{}
	case !answers(local, s, now) || !local.InRecovery && local.System == s.initialize:
		return action{After: ProofFor}
	}
	r := *st
	r.Sequence, r.Writable, r.Timeline, r.By = st.Sequence+1, false, local.Timeline, node
	return action{Write: &r, Leaderless: true, PrimaryRev: s.storedRev, After: ProofFor}
}

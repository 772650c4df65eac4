package agent

import (
	"maps"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// foldVIP takes an event of the virtual address's record in. One that can't be read
// counts as none, which nobody may take for a release.
func (s *state) foldVIP(c store.Change, rev int64, n *news) bool {
	if c.New == nil {
		if rev <= s.vipSeen {
			return false // our own later write was folded already
		}
		s.vip, s.vipRev, s.vipSeen = nil, 0, rev
		return true
	}
	if c.New.ModRevision <= s.vipSeen {
		return false
	}
	s.vipRev, s.vipSeen = c.New.ModRevision, c.New.ModRevision
	r, err := observed.Decode[observed.VIP](*c.New)
	if err != nil {
		s.vip = nil
		n.bad = append(n.bad, err)
		return true
	}
	s.vip = &r
	return true
}

// wroteVIP folds this agent's own record in without waiting for its echo.
func (s *state) wroteVIP(r observed.VIP, rev int64) {
	if rev > s.vipSeen {
		s.vip, s.vipRev, s.vipSeen = &r, rev, rev
	}
}

// foldAlive notes since when a node has been without presence.
func (s *state) foldAlive(node string, present bool, now time.Time) bool {
	if s.present[node] == present {
		return false
	}
	s.present, s.absent = maps.Clone(s.present), maps.Clone(s.absent)
	if s.present == nil {
		s.present, s.absent = map[string]bool{}, map[string]time.Time{}
	}
	if present {
		s.present[node] = true
		delete(s.absent, node)
	} else {
		delete(s.present, node)
		s.absent[node] = now
	}
	return true
}

// goneSince is since when this agent has known the node to be without presence; zero:
// it has one, or nothing was read yet.
func (s *state) goneSince(node string) time.Time {
	if s.present[node] {
		return time.Time{}
	}
	if at, ok := s.absent[node]; ok {
		return at
	}
	return s.knownAt
}

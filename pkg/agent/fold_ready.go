package agent

import (
	"maps"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// foldReady takes in what a member's agent vouches for. A key that ended with its
// lease, or can't be read, says nothing.
func (s *state) foldReady(member string, c store.Change, n *news) bool {
	before, had := s.view.Ready[member]
	rs := maps.Clone(s.view.Ready)
	if rs == nil {
		rs = map[string]observed.Ready{}
	}
	delete(rs, member)
	if c.New != nil {
		r, err := observed.Decode[observed.Ready](*c.New)
		if err != nil {
			n.bad = append(n.bad, err)
		} else {
			rs[member] = r
		}
	}
	s.view.Ready = rs
	after, has := rs[member]
	return had != has || before != after
}

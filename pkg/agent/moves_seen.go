package agent

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// This file stamps what this node saw and did. Each is called after everybody who acts
// on the same was woken.

// dnsConcern is the concern whose plan has the cluster's names.
const dnsConcern = "dns"

// distrustsLocked reports whether what etcd says may be of another store or another
// machine's business: none of its epochs may be claimed then.
func (c *cluster) distrustsLocked() bool {
	return c.state.back || c.foreignLocked() || !c.a.store.trusts(c.generation) || c.a.usurped.Load()
}

// wentByLocked is the epoch that what is done now goes by: that of the leader seen last;
// 0 when the view is too old to say, or not trusted.
func (c *cluster) wentByLocked(now time.Time) int64 {
	s := c.lookLocked()
	if !fresh(s.view, now) || c.foreignLocked() || c.a.usurped.Load() {
		return 0
	}
	return int64(s.view.Last.Epoch)
}

// sawMoves stamps changes of leader and primary.
func (c *cluster) sawMoves(moves []observed.Move, first bool, now time.Time) {
	if len(moves) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.distrustsLocked() {
		return
	}
	for _, mv := range moves {
		c.moves.stampLocked(now, first, mv)
	}
}

// nobodyLocked stamps that nobody leads when the cluster's keys were read first: there is
// no event of what is not there.
func (m *moves) nobodyLocked() {
	if v := m.c.state.view; v.Leader.Member == "" && !m.c.shared() && !m.c.distrustsLocked() {
		m.stampLocked(time.Now(), true, observed.Move{What: observed.MoveLost})
	}
}

// sawWritable stamps this node's own PostgreSQL, once under each leadership. Only
// confirmLoop calls it, with the state that it decided on.
func (c *cluster) sawWritable(s state, info plan.Cluster, local PostgresState, now time.Time) {
	m, leader := c.moves, s.view.Leader
	if leader.Member == "" || leader.Member != info.Member || leader.Epoch == m.writable || s.back ||
		!answers(local, s, now) || local.InRecovery || local.System != s.initialize {
		return
	}
	m.writable = leader.Epoch
	c.mu.Lock()
	defer c.mu.Unlock()
	epoch := int64(leader.Epoch)
	m.stampLocked(now, epoch == m.learnt, observed.Move{What: observed.MoveWritable, To: info.Member, Epoch: epoch})
}

// routesMoved stamps where this node's HAProxy was told to send clients.
func (c *cluster) routesMoved(moved []stamp, epoch int64, now time.Time) {
	if len(moved) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range moved {
		s.Epoch = epoch
		c.moves.stampLocked(now, s.first, s.Move)
	}
}

// addressLocked stamps that the virtual address came or went.
func (m *moves) addressLocked(a plan.Address, here, first bool, at time.Time) {
	mv := observed.Move{What: observed.MoveVIPRemoved, Name: a.Network, Epoch: m.c.wentByLocked(at)}
	if here {
		mv.What = observed.MoveVIPAdded
	}
	m.stampLocked(at, first, mv)
}

// poolerLocked stamps what there is to say of this node's pooler, when that is news.
func (m *moves) poolerLocked(at time.Time) {
	p := &m.c.pool
	said, known := p.said("", "")
	if !known || said.Pooler == p.told {
		return
	}
	m.stampLocked(at, p.told == "", observed.Move{What: observed.MovePooler, From: p.told, To: said.Pooler, Epoch: m.c.wentByLocked(at)})
	p.told = said.Pooler
}

// named stamps whom the cluster's name leads to, once the file that says so is there.
func (c *cluster) named(con *concern, r plan.Resource, s state, at time.Time) {
	w, ok := r.(plan.Watched)
	if !ok || con.name != dnsConcern || !plan.NamesPrimary(con.plan, w.File) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m, to := c.moves, s.view.Named()
	if to == "" || to == m.dns {
		return
	}
	mv := observed.Move{What: observed.MoveDNS, Name: c.name, From: m.dns, To: to}
	if fresh(s.view, at) && !c.distrustsLocked() {
		mv.Epoch = int64(s.view.Last.Epoch)
	}
	m.stampLocked(at, m.dns == "", mv)
	m.dns = to
}

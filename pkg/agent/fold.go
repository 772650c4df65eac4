package agent

import (
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// state is what an agent knows about one cluster from etcd, beside the plans.
// Its maps and slices are replaced, never changed, so a copy of the struct is a
// consistent snapshot. It is folded from changes and does no I/O.
type state struct {
	view plan.View
	// initialize is Patroni's system identifier for the cluster; empty until bootstrap.
	initialize string
	// leaderAt is when the newest leader event arrived. What PostgreSQL answered to
	// a question asked before it proves nothing about this leadership.
	leaderAt time.Time
	// terms are the arrival times of the last leaderships, for LeaderFlapping.
	terms []time.Time
	// stored is the primary record as etcd has it, storedRev its mod revision (0: the
	// key is absent). The view keeps the newest record even when the key is deleted.
	stored    *observed.Primary
	storedRev int64
	// storedSeen is the newest revision that said anything about the primary key.
	storedSeen int64
	// ahead is a confirmation of an epoch whose leader event has not arrived: each
	// key range is ordered by itself, not with the others. It waits here, because a
	// view with the new primary under the old leader has nobody to send clients to.
	ahead *observed.Primary
	// vip is the record of the virtual address as etcd has it, vipRev its mod revision;
	// vipSeen is the newest revision that said anything about the key.
	vip             *observed.VIP
	vipRev, vipSeen int64
	// absent is since when each node has had no presence that was seen before.
	present map[string]bool
	absent  map[string]time.Time
	// knownAt is when the cluster's keys were read first: nodes without presence then
	// count as absent since.
	knownAt time.Time
	// revision is the highest revision folded, revisionAt when; back is set once
	// etcd was seen below it.
	revision   int64
	revisionAt time.Time
	back       bool
	// store is the incarnation that the revisions are of; empty: not known.
	store string
}

// news is what a fold changed, so that only those concerned are woken.
type news struct {
	leader  bool // the leader or primary record moved on
	vip     bool // the virtual address's record, or a node's presence
	ready   bool // what a member's agent vouches for
	cluster bool // anything else of the view
	// moves are the changes of leader and of the confirmed primary, in their order.
	moves []observed.Move
	bad   []error
}

func (n news) any() bool { return n.leader || n.cluster || n.ready }

// follow lists what one cluster's follower reads, and nothing else (R10).
func follow(l keys.Layout, cluster string) []string {
	if cluster == keys.NodeCluster {
		return []string{l.StoreKey()} // any key: that etcd is there and fresh is all
	}
	return []string{l.Scope(cluster), l.PrimaryKey(cluster), l.ReadyPrefix(cluster), l.VIPKey(cluster), l.Prefix(keys.Alive)}
}

// project makes Patroni's heartbeats equal and re-stamped leaderships different:
// the same name at another revision or under another lease is news here, although
// its value did not change. So is a record that agents write, since the next write is
// guarded by its revision: written again with the same bytes, it would refuse them for ever.
func project(l keys.Layout) func(kv.KV) []byte {
	scope, alive := l.Prefix(keys.PatroniKey), l.Prefix(keys.Alive)
	primary, vip := l.Prefix(keys.Primary), l.Prefix(keys.VIP)
	return func(e kv.KV) []byte {
		if strings.HasPrefix(e.Key, alive) {
			return nil // that it exists is all
		}
		if strings.HasPrefix(e.Key, primary) || strings.HasPrefix(e.Key, vip) {
			return strconv.AppendInt(nil, e.ModRevision, 10)
		}
		if !strings.HasPrefix(e.Key, scope) {
			return e.Value
		}
		out := slices.Clone(patroni.Project(e.Key, e.Value))
		if strings.Contains(e.Key, "/members/") {
			return strconv.AppendInt(append(out, '@'), e.Lease, 10)
		}
		if strings.HasSuffix(e.Key, "/leader") {
			out = strconv.AppendInt(append(out, '@'), e.Lease, 10)
			return strconv.AppendInt(append(out, '@'), e.ModRevision, 10)
		}
		return out
	}
}

// fold takes one batch of changes into the state, in the order given.
func (s *state) fold(l keys.Layout, rev int64, cs []store.Change, now time.Time) news {
	var n news
	if rev > s.revision {
		s.revision, s.revisionAt = rev, now
	}
	for _, c := range cs {
		if c.Old != nil && c.New != nil && c.New.ModRevision < c.Old.ModRevision {
			s.back = true // ROLES section 7: keep everything, acquire nothing
		}
		ref, err := l.Parse(c.Key)
		if err != nil {
			continue // Patroni may write more keys than we know
		}
		switch {
		case ref.Family == keys.Primary:
			n.leader = s.foldPrimary(c, rev, &n) || n.leader
		case ref.Family == keys.VIP:
			n.vip = s.foldVIP(c, rev, &n) || n.vip
		case ref.Family == keys.Ready:
			n.ready = s.foldReady(ref.Doc, c, &n) || n.ready
		case ref.Family == keys.Alive:
			n.vip = s.foldAlive(ref.Node, c.New != nil, now) || n.vip
		case ref.Family == keys.PatroniKey && ref.Doc == "leader":
			n.leader = s.foldLeader(c, rev, now, &n) || n.leader
		case ref.Family == keys.PatroniKey:
			n.cluster = s.foldScope(ref, c, &n) || n.cluster
		}
	}
	return n
}

// foldLeader takes a leader event in. A deletion carries no revision of its own,
// only the batch's, which may be later than a PUT in the same batch; one more than
// the key's last revision orders it rightly between the two.
func (s *state) foldLeader(c store.Change, rev int64, now time.Time, n *news) bool {
	was, last := s.view.Leader, s.view.Last
	if c.New == nil {
		epoch := rev
		if c.Old != nil {
			epoch = c.Old.ModRevision + 1
		}
		gone := s.view.Observe("", plan.Epoch(epoch), 0, now)
		if gone && was.Member != "" {
			n.moves = append(n.moves, observed.Move{What: observed.MoveLost, From: was.Member, Epoch: int64(was.Epoch)})
		}
		return gone
	}
	if !s.view.Observe(string(c.New.Value), plan.Epoch(c.New.ModRevision), c.New.Lease, now) {
		return false
	}
	s.leaderAt = now
	n.moves = append(n.moves, observed.Move{What: observed.MoveLeader, From: last.Member, To: s.view.Leader.Member, Epoch: int64(s.view.Leader.Epoch)})
	if s.ahead != nil {
		n.moves = append(n.moves, s.observePrimary(*s.ahead)...)
	}
	s.terms = append(slices.Clone(s.terms), now)
	if extra := len(s.terms) - flapTerms - 1; extra > 0 {
		s.terms = s.terms[extra:]
	}
	return true
}

func (s *state) foldPrimary(c store.Change, rev int64, n *news) bool {
	if c.New == nil {
		if rev <= s.storedSeen {
			return false // our own later write was folded already
		}
		s.stored, s.storedRev, s.storedSeen = nil, 0, rev
		return true
	}
	if c.New.ModRevision <= s.storedSeen {
		return false
	}
	s.storedRev, s.storedSeen = c.New.ModRevision, c.New.ModRevision
	p, err := observed.Decode[observed.Primary](*c.New)
	if err != nil {
		// Unreadable counts as absent: the leader's agent writes it anew.
		s.stored = nil
		n.bad = append(n.bad, err)
		return true
	}
	if p.Store != "" && s.store != "" && p.Store != s.store {
		s.stored = nil // its epoch is of another store's time
		return true
	}
	s.stored = &p
	n.moves = append(n.moves, s.observePrimary(p)...)
	return true
}

// observePrimary takes a record into the view; it returns a move when the leader is
// confirmed by it.
func (s *state) observePrimary(p observed.Primary) []observed.Move {
	s.ahead = nil
	if plan.Epoch(p.Epoch) > s.view.Leader.Epoch {
		s.ahead = &p
		return nil
	}
	if !s.view.ObservePrimary(p) || !s.view.Confirmed() {
		return nil
	}
	return []observed.Move{{What: observed.MoveConfirmed, To: p.Member, Epoch: p.Epoch}}
}

// wrote folds this agent's own record in without waiting for its echo, so that
// its own routes move first.
func (s *state) wrote(p observed.Primary, rev int64) []observed.Move {
	if rev <= s.storedSeen {
		return nil
	}
	s.stored, s.storedRev, s.storedSeen = &p, rev, rev
	return s.observePrimary(p)
}

// proven takes a proof of freshness in and notices an etcd that went back in
// time: a question asked after a revision was seen must be answered with it.
// It reports whether etcd did, now or before.
func (s *state) proven(at time.Time, rev int64) bool {
	if at.After(s.revisionAt) && rev < s.revision {
		s.back = true
	}
	return s.back
}

// foldScope takes Patroni's other keys in. What can't be read keeps its last good
// value (R4).
func (s *state) foldScope(ref keys.Ref, c store.Change, n *news) bool {
	kind, name := ref.Document()
	switch {
	case kind == "members" && name != "":
		return s.foldMember(name, c, n)
	case ref.Doc == "config":
		if c.New == nil {
			s.view.Paused, s.view.StandbyCluster = false, false
			return true
		}
		cfg, err := patroni.ParseConfig(c.New.Value)
		if err != nil {
			n.bad = append(n.bad, err)
			return false
		}
		s.view.Paused, s.view.StandbyCluster = cfg.Pause, len(cfg.StandbyCluster) > 0
		return true
	case ref.Doc == "initialize":
		s.initialize = ""
		if c.New != nil {
			s.initialize = string(c.New.Value)
		}
		s.view.System = s.initialize
		return true
	}
	return false
}

func (s *state) foldMember(name string, c store.Change, n *news) bool {
	ms := maps.Clone(s.view.Members)
	if ms == nil {
		ms = map[string]patroni.Member{}
	}
	if c.New == nil {
		delete(ms, name)
	} else {
		m, err := patroni.ParseMember(name, c.New.Value)
		if err != nil {
			n.bad = append(n.bad, err)
			return false
		}
		m.Lease = c.New.Lease
		ms[name] = m
	}
	s.view.Members = ms
	return true
}

// hostOf is the host:port of a Patroni URL; empty when it is none.
func hostOf(apiURL string) string {
	u, err := url.Parse(apiURL)
	if err != nil {
		return ""
	}
	return u.Host
}

func restAddress(m plan.Member) string {
	return net.JoinHostPort(m.Address, strconv.Itoa(m.RESTPort))
}

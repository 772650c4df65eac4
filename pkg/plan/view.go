package plan

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
)

// Epoch orders leaderships within one store incarnation: the mod revision of
// Patroni's leader key. The create revision does not: Patroni 3.0.2 overwrote
// the key and two leaders shared one (measured).
type Epoch int64

// View is what an agent knows about a cluster at one moment, as plain values.
type View struct {
	// Store is the incarnation of the etcd the agent is connected to.
	Store string
	// UID is the cluster's uid as the agent last accepted it; empty accepts any.
	UID string
	// System is the cluster's system identifier by Patroni's initialize key; empty
	// before the cluster is initialised.
	System string
	// Known is false until the first complete read of the cluster's keys.
	Known bool
	// FreshAt is when etcd was last *asked* a question whose answer the view
	// reflects. Monotonic.
	FreshAt time.Time
	Leader  Leader
	Primary *observed.Primary
	Members map[string]patroni.Member
	// Ready is what members' own agents vouch for, by member. Only an explicit "down"
	// counts; nothing said is unknown.
	Ready map[string]observed.Ready
	// Last is the leadership seen last, which outlives the key: the leader itself
	// while there is one.
	Last Leader
	// OtherEpoch is the highest epoch at which a member other than Last was seen to
	// lead. A confirmation at or below it is void, even when it names the present
	// leader: that one lost leadership in between.
	OtherEpoch Epoch
	Paused     bool
	// StandbyCluster: the cluster follows another one and takes no writes.
	StandbyCluster bool
	// Attended: the leader's own agent has its presence, so it would say that its
	// PostgreSQL takes no writes any more.
	Attended bool
	// Proof is what was found out while the leader's Patroni does not answer.
	Proof Proof
}

// Leader is Patroni's leader key; Member is empty when the key is absent.
type Leader struct {
	Member string
	Epoch  Epoch
	Lease  int64
	// Since is when this agent first saw this member lead without a break by
	// another one. Monotonic. Re-stamping the same leadership does not reset it.
	Since time.Time
}

func (v View) fresh(now time.Time) bool {
	return v.Known && now.Sub(v.FreshAt) <= FreshFor
}

// pooler is what the member's own agent says of its pooler, of this cluster and at this
// time; empty: nothing.
func (v View) pooler(member string, now time.Time) string {
	r, said := v.Ready[member]
	if !said || !v.fresh(now) || r.UID != "" && v.UID != "" && r.UID != v.UID {
		return ""
	}
	return r.Pooler
}

// Confirmed reports whether the present leader is the confirmed primary.
func (v View) Confirmed() bool {
	return v.Leader.Member != "" && v.believed() && v.Primary.Writable &&
		v.Primary.Member == v.Leader.Member && Epoch(v.Primary.Epoch) > v.OtherEpoch
}

// believed reports whether there is a confirmation, and of this cluster: a record of
// an earlier cluster of the same name says nothing about this one.
func (v View) believed() bool { return v.Primary != nil && v.Primary.Of(v.UID, v.System) }

// withdrawn reports whether the present leader was confirmed and then withdrew:
// its PostgreSQL is known not to take writes, so there is nothing to wait for.
func (v View) withdrawn() bool {
	return v.believed() && !v.Primary.Writable && v.Primary.Member == v.Leader.Member &&
		Epoch(v.Primary.Epoch) > v.OtherEpoch
}

// kept is the member that may be kept, though not acquired, while nobody is
// confirmed: the one confirmed last, as long as no other leadership has come
// between. Empty when there is none.
func (v View) kept() string {
	switch {
	case !v.believed() || !v.Primary.Writable:
		return ""
	case v.Leader.Member == "" && v.Primary.Member == v.Last.Member:
		return v.Primary.Member
	case v.Leader.Member != "" && v.Primary.Member != v.Leader.Member:
		return v.Primary.Member
	}
	return ""
}

// Observe takes a leader event into the view and reports whether it was news.
// member is empty when the key was deleted; epoch is the event's mod revision.
// Events are ordered by mod revision, not by arrival: an older one is ignored (R7).
func (v *View) Observe(member string, epoch Epoch, lease int64, now time.Time) bool {
	if epoch <= v.Leader.Epoch {
		return false
	}
	if member == "" {
		v.Leader = Leader{Epoch: epoch, Since: now}
		return true
	}
	next := Leader{Member: member, Epoch: epoch, Lease: lease, Since: now}
	switch v.Last.Member {
	case member: // the same leadership re-stamped: nothing starts anew
		next.Since = v.Last.Since
	case "":
	default:
		v.OtherEpoch = v.Last.Epoch
	}
	v.Leader, v.Last = next, next
	return true
}

// ObservePrimary takes a confirmation into the view and reports whether it was
// news. An older one is ignored (R7).
func (v *View) ObservePrimary(p observed.Primary) bool {
	if v.Primary != nil && !p.Replaces(*v.Primary) {
		return false
	}
	v.Primary = &p
	return true
}

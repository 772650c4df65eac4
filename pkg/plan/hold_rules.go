package plan

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// mustGo says why the address must not be on this host, proof or not.
func (h Holding) mustGo(now time.Time) string {
	v := h.View
	switch {
	case h.Usurped:
		return "another machine has the name of this node"
	case h.Hand.Act == HandDrop:
		return "dropped by hand"
	case h.named() && v.Leader.Member != h.Member:
		return v.Leader.Member + " leads"
	case h.Local.InRecovery:
		return "PostgreSQL is in recovery"
	case now.Sub(latest(h.Local.WritableAt, h.Began)) > StoppedFor:
		return "PostgreSQL has stopped"
	case v.Known && v.Paused:
		// People hold Patroni still: a leader key that is missing and a Patroni that is
		// silent, or has lost its lock, take nothing away while PostgreSQL takes writes.
		return ""
	case !h.Patroni.NoAt.IsZero() && now.Sub(h.Patroni.NoAt) >= RefusedFor:
		return "Patroni says that it does not lead"
	case h.OnHost && now.Sub(latest(h.proven(), h.Began)) > SilentFor:
		return "nothing proves that " + h.Member + " still leads"
	}
	return ""
}

// elsewhere: the record gives the address to another node.
func (h Holding) elsewhere() bool {
	r := h.Record
	return h.View.Known && !h.Back && r != nil && !h.foreignRecord() && r.State == observed.VIPHeld && r.Node != h.Node
}

// named reports whether etcd, as far as it can be believed, names a leader.
func (h Holding) named() bool { return h.View.Known && !h.Back && h.View.Leader.Member != "" }

func (h Holding) leads() bool { return h.named() && h.View.Leader.Member == h.Member }

// proven is until when it is proven that this member leads.
func (h Holding) proven() time.Time {
	if h.stepped() {
		return h.SteppedAt
	}
	return latest(h.leased(), h.Patroni.answered(h.SteppedAt))
}

// stepped: the clock stepped and etcd has not been read since.
func (h Holding) stepped() bool {
	return !h.SteppedAt.IsZero() && !h.View.FreshAt.After(h.SteppedAt) && !h.Lease.AskedAt.After(h.SteppedAt)
}

// leased is until when a reading of the leader key's lease proves it; zero: none does.
// Patroni has one lease for its life: a reading from an earlier leadership, with another
// one in between, names the same.
func (h Holding) leased() time.Time {
	r := h.Lease
	if !h.leads() || r.Lease == 0 || r.Lease != h.View.Leader.Lease || r.AskedAt.Before(h.SteppedAt) || r.AskedAt.Before(h.LeaderAt) {
		return time.Time{}
	}
	return r.AskedAt.Add(r.Left - leaseMargin)
}

func (p PatroniReading) answered(since time.Time) time.Time {
	if p.YesAt.IsZero() || !p.NoAt.IsZero() || p.YesAt.Before(since) {
		return time.Time{}
	}
	return p.YesAt.Add(PatroniEvery)
}

// keep refreshes an address that is here, for as long as there is one proof.
func (h Holding) keep(d *HoldDecision, now time.Time) {
	v := h.View
	until := h.proven()
	switch {
	case h.taken(now):
		d.Keep, d.Because = true, "taken by hand"
	case v.Known && v.Paused:
		d.Keep, d.Because = true, "Patroni is paused and PostgreSQL takes writes"
	case !h.stepped() && now.Before(h.leased()):
		d.Keep, d.Because = true, h.Member+" leads"
	case !h.stepped() && now.Before(until):
		d.Keep, d.Because = true, "the local Patroni says that it leads"
	default:
		// For a second neither refreshed nor dropped: an answer may be on its way.
		d.Because = "waits for proof that " + h.Member + " leads"
		d.After = min(d.After, latest(until, h.Began).Add(SilentFor).Sub(now)+time.Millisecond)
	}
}

// acquire adds the address when everything says so.
func (h Holding) acquire(d *HoldDecision, now time.Time) {
	reason, msg := h.lacks(now)
	if reason == "" {
		d.Acquire, d.Because = true, h.Member+" leads and takes writes"
		return
	}
	if h.taken(now) {
		if reason, msg = h.lacksByHand(now); reason == "" {
			d.Acquire, d.Because = true, "taken by hand"
			return
		}
	}
	d.Because = msg
	if h.leads() && h.View.Confirmed() {
		d.Why = notHeld(reason, msg)
	}
}

func notHeld(r observed.Reason, msg string) *observed.Condition {
	return &observed.Condition{Type: observed.Healthy, Status: observed.False, Reason: r, Message: msg}
}

// lacks is the first thing that stands in the way of adding the address.
func (h Holding) lacks(now time.Time) (observed.Reason, string) {
	v := h.View
	switch {
	case h.Back:
		return observed.StoreChanged, observed.Meaning[observed.StoreChanged]
	case !v.fresh(now):
		return observed.StaleView, "the view of etcd is too old to take the address"
	case !h.leads():
		return observed.NoLeader, observed.Meaning[observed.NoLeader]
	case h.Impostor != "":
		return observed.DuplicateMember, h.Impostor
	case v.StandbyCluster:
		return observed.StandbyCluster, observed.Meaning[observed.StandbyCluster]
	case !v.Confirmed():
		return observed.NotConfirmed, h.Member + " leads and is not confirmed yet"
	case !h.Record.HeldBy(h.Node) || h.foreignRecord():
		return observed.AddressNotHeld, h.waitsFor()
	case !h.writable(now) || h.Local.At.Before(h.LeaderAt):
		return observed.NotConfirmed, "PostgreSQL has not been seen to take writes at this moment"
	case !h.Patroni.NoAt.IsZero():
		return observed.NotConfirmed, "the local Patroni says that it does not lead"
	case h.stepped() || !now.Before(h.leased()):
		// The view alone is up to 3 s old, which is enough for another to lead whose
		// predecessor's Patroni was stopped and whose PostgreSQL still takes writes.
		return observed.StaleView, "the leader key's lease has not been seen to last"
	}
	return "", ""
}

func (h Holding) waitsFor() string {
	if h.Record == nil || h.Record.State != observed.VIPHeld {
		return "the claim to the address is not written yet"
	}
	return "node " + h.Record.Node + " has not released the address, and may have it for some seconds more"
}

// foreignRecord: it was written for another etcd or an earlier cluster of this name.
func (h Holding) foreignRecord() bool {
	r := h.Record
	return r != nil && (h.View.Store != "" && r.Store != h.View.Store || h.View.UID != "" && r.UID != h.View.UID)
}

// record decides what is written. gone is why the address must not be here.
func (h Holding) record(d *HoldDecision, gone string, now time.Time) {
	v := h.View
	if !v.Known || h.Back || h.Usurped {
		return
	}
	mine := h.Record.HeldBy(h.Node) && !h.foreignRecord()
	// While it is promoted, PostgreSQL is in recovery and the address is claimed all
	// the same; that it is not here yet is no reason to give it up.
	promoting := h.leads() && !v.Confirmed() && !v.withdrawn() && !h.OnHost && h.Hand.Act != HandDrop
	if gone != "" && !promoting {
		d.WriteReleased = mine
		return
	}
	if h.taken(now) {
		h.claimByHand(d, now)
	}
	if !h.leads() || !v.fresh(now) || h.Impostor != "" || v.StandbyCluster {
		return
	}
	if mine {
		d.WriteHeld = h.Record.Epoch != int64(v.Leader.Epoch) || h.Record.Address != h.Address
		return
	}
	if h.stepped() || !now.Before(h.leased()) {
		return // it would be given up again: this leadership is about to end
	}
	wait := h.claimable(now)
	d.WriteHeld = wait <= 0
	if wait > 0 {
		d.After = min(d.After, wait)
	}
}

// claimable says how long it takes until nobody else can have the address; 0 or less:
// now.
func (h Holding) claimable(now time.Time) time.Duration {
	r := h.Record
	if r != nil && !h.foreignRecord() && (r.State != observed.VIPHeld || r.Node == h.Node) {
		return 0
	}
	// Without a record nobody knows of a holder, which is not that there is none: keys
	// are deleted by hand.
	wait := h.View.Leader.Since.Add(handover).Sub(now)
	if r != nil && !h.HolderGoneAt.IsZero() {
		// An agent that only lost etcd is absent too, and keeps the address for as long as
		// its own Patroni says that it leads: it must have had the time to be told.
		gone := latest(h.HolderGoneAt.Add(AddressLifetime+time.Millisecond), h.View.Leader.Since.Add(letGo))
		wait = min(wait, gone.Sub(now))
	}
	return wait
}

func (h Holding) announce(d *HoldDecision, now time.Time) {
	if d.Drop || !d.Keep || h.AddedAt.IsZero() || h.Announced >= len(announceAt) {
		return
	}
	next := h.AddedAt.Add(announceAt[h.Announced]).Sub(now)
	d.Announce = next <= 0
	if d.Announce && h.Announced+1 < len(announceAt) {
		next = h.AddedAt.Add(announceAt[h.Announced+1]).Sub(now)
	}
	if next > 0 {
		d.After = min(d.After, next)
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

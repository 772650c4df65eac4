package plan

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// The clockwork of virtual addresses.
const (
	// AddressLifetime is how long the kernel keeps an address that nobody refreshes:
	// it is the watchdog of an agent that died or hangs.
	AddressLifetime = 5 * time.Second
	// RefreshEvery is how often a kept address is refreshed: a package upgrade restarts
	// the agent well within the four refreshes that may be missed.
	RefreshEvery = time.Second
	// leaseMargin is what a lease reading is worth less than it says. Refreshed for the
	// last time then, the address is gone when the lease is, and the lease's end is the
	// earliest moment at which another member can lead.
	leaseMargin = AddressLifetime
	// handover is how long after a change of leader nobody can have the address any
	// more who did not hear of it. The second is for the kernel, which takes up to 0.2
	// s to drop an address (measured), and for clocks.
	handover = AddressLifetime + time.Second
	// PatroniEvery is how often the local Patroni is asked; an answer counts that long.
	PatroniEvery = time.Second
	// SilentFor is how long all proof may be silent, and how old PostgreSQL's word may be
	// on which the address is taken.
	SilentFor = time.Second
	// StoppedFor is how long PostgreSQL gives no answer before it counts as stopped. One
	// that is busy is silent too, and one that Patroni restarts is back by then. Nobody
	// waits for it: in a planned move the leader key says the same 1.5 s after the stop
	// (measured), and while Patroni demotes it answers 503.
	StoppedFor = 3 * time.Second
	// RefusedFor is how long Patroni says that it does not lead before it is believed.
	// On the thaw of an etcd that was away, a leader that never ceased to lead said so
	// for 0.14 s (measured).
	RefusedFor = 250 * time.Millisecond
)

// announceAt is when an address is announced after it was added: a single gratuitous
// ARP is easily lost, and a switch that learns late sends clients to the old host.
var announceAt = []time.Duration{0, 100 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}

// Holding is everything that Hold may know. All times are monotonic.
type Holding struct {
	// Node and Member are this agent's; Address is the address with its network, as the
	// record has it.
	Node, Member, Address string
	View                  View
	// LeaderAt is when the newest leader event arrived: what PostgreSQL answered to an
	// earlier question proves nothing about this leadership.
	LeaderAt time.Time
	// Back: this etcd went back in time or is another one. Nothing it says can be
	// ordered, so everything is kept by local proof and nothing acquired (ROLES section 7).
	Back bool
	// Usurped: another machine has this node's name, so the record speaks of that one.
	Usurped bool
	// Impostor says why the leader key was not written by this node's Patroni.
	Impostor string
	// Record says who may have the address; nil: there is none.
	Record *observed.VIP
	// HolderGoneAt is since when the node in Record has had no presence; zero: it has.
	HolderGoneAt time.Time
	Local        LocalProof
	Lease        LeaseReading
	Patroni      PatroniReading
	// SteppedAt is when the wall clock was last seen to step away from the monotonic
	// one; zero: never. What was proven before it is void until etcd was read again:
	// whichever clock was wrong, remaining seconds can't be counted with it.
	SteppedAt time.Time
	// Began is when this agent began to look; silence is not counted from before.
	Began time.Time
	// OnHost: the address is on this host now.
	OnHost bool
	// AddedAt is when this agent added it, and Announced how often it was announced since.
	AddedAt   time.Time
	Announced int
}

// LocalProof is what this node's own PostgreSQL shows, of the right system.
type LocalProof struct {
	// At is when it was asked last, WritableAt when it last answered that it takes writes.
	At, WritableAt time.Time
	// Writable is the last answer; InRecovery the opposite one. Neither: no answer.
	Writable, InRecovery bool
}

// LeaseReading is how long the leader key's lease still had to live.
type LeaseReading struct {
	Lease   int64
	AskedAt time.Time
	Left    time.Duration
}

// PatroniReading is what GET /primary on loopback said.
type PatroniReading struct {
	// YesAt is when the last question was asked that was answered 200.
	YesAt time.Time
	// NoAt is when the first of the present row of 503 was asked; zero: the last answer
	// was another one.
	NoAt time.Time
}

// HoldDecision says what to do about the address now. At most one of Keep, Acquire
// and Drop is set; none leaves the address to the kernel.
type HoldDecision struct {
	// Keep refreshes the address, Acquire adds it, Drop removes it.
	Keep, Acquire, Drop bool
	// Announce tells the network once more.
	Announce bool
	// WriteHeld gives the address to this node, WriteReleased gives it up; after Drop.
	WriteHeld, WriteReleased bool
	// After decides again then, although nothing happened.
	After time.Duration
	// Because says why, in a few words, for people.
	Because string
	// Why is set when the address should be here and is not.
	Why *observed.Condition
}

// Hold decides about a virtual address (R2). Who may have it is decided twice, by
// the record and by proof:
//
// The record. A leader claims the address in etcd before its agent adds it, under the
// guard of the leader key, and while it is still being promoted, so nobody waits for
// that write. It may claim what is released, or what no holder can have any more.
// What the record gives to another node is not added.
//
// Proof. Acquire needs fresh proof from etcd and the local instant check; keep needs
// one proof; drop needs none.
func Hold(h Holding, now time.Time) HoldDecision {
	d := HoldDecision{After: RefreshEvery}
	why := h.mustGo(now)
	switch {
	case why != "":
		d.Drop, d.Because = h.OnHost, why
	case h.elsewhere():
		// Somebody put it here by hand, or our claim was taken over while we were away.
		h.acquire(&d, now)
		d.Drop = h.OnHost
	case h.OnHost:
		h.keep(&d, now)
	default:
		h.acquire(&d, now)
	}
	h.record(&d, why, now)
	h.announce(&d, now)
	if d.After < 0 {
		d.After = 0
	}
	return d
}

// mustGo says why the address must not be on this host, proof or not.
func (h Holding) mustGo(now time.Time) string {
	v := h.View
	switch {
	case h.Usurped:
		return "another machine has the name of this node"
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
func (h Holding) leased() time.Time {
	r := h.Lease
	if !h.leads() || r.Lease == 0 || r.Lease != h.View.Leader.Lease || r.AskedAt.Before(h.SteppedAt) {
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
	case !h.Local.Writable || h.Local.At.Before(h.LeaderAt) || now.Sub(h.Local.At) > SilentFor:
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
	promoting := h.leads() && !v.Confirmed() && !v.withdrawn() && !h.OnHost
	if gone != "" && !promoting {
		d.WriteReleased = mine
		return
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
		wait = min(wait, h.HolderGoneAt.Add(AddressLifetime+time.Millisecond).Sub(now))
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

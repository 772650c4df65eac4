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
	// letGo is how long after another leads an agent without etcd has the address at
	// most: a Patroni that does not answer is believed for 1 s, asked 4 times in it.
	letGo = 2 * time.Second
	// PatroniEvery is how often the local Patroni is asked; an answer counts that long.
	PatroniEvery = time.Second
	// restFor is how long a node rests that neither leads nor has the address.
	restFor = 5 * time.Second
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
	// Hand is what a person wants of the address here, Others what the network last
	// said, which counts for that alone.
	Hand   Hand
	Others NetworkReading
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
	// AskNetwork asks who else answers for the address.
	AskNetwork bool
	// HandOver ends what a person took by hand: another has, or may have, the address.
	// EtcdBack: etcd can be asked again, so what was said without it counts no more.
	HandOver, EtcdBack bool
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
	if !h.OnHost && !h.leads() && !h.taken(now) {
		d.After = restFor // whatever concerns this node comes as an event
	}
	var why string
	if h.taken(now) {
		why, d.HandOver = h.mustGoByHand(now)
		d.EtcdBack = h.Hand.Knowing && h.Sees(now)
		d.AskNetwork = !h.Sees(now) && now.Sub(h.Others.AskedAt) >= networkEvery
	} else {
		why = h.mustGo(now)
	}
	switch {
	case why != "":
		d.Drop, d.Because = h.OnHost, why
	case h.elsewhere() && !h.taken(now):
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

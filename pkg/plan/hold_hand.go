package plan

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Hand is what a person wants of the address on this node, for a while.
//
// Drop needs no proof and outranks every one. Take stands in for what etcd and the
// local Patroni would prove, and for nothing else (ROLES section 4): PostgreSQL must
// be seen to take writes, here as ever, and what can be known of another holder is
// obeyed. So a fresh view that names another leader, or whose record gives the address
// to another node, refuses and ends it; without a fresh view it must have been said
// knowingly, and the network is asked who has the address, before it is taken and
// for as long as it is kept so.
type Hand struct {
	Act HandAct
	// Knowing: it was said although etcd can't be asked. It counts until etcd can be.
	Knowing bool
}

// HandAct is what a person does by hand; empty: nothing.
type HandAct string

// The acts of a person.
const (
	HandTake HandAct = "take"
	HandDrop HandAct = "drop"
)

// NetworkReading is who else answered for the address on the network.
type NetworkReading struct {
	// AskedAt is when the network was asked last; zero: never.
	AskedAt time.Time
	// Others are the MACs of those who answered; empty: nobody else did.
	Others string
}

const (
	// networkFor is how long the network's answer counts when the address is taken by
	// hand without etcd, networkEvery how often it is asked meanwhile.
	networkFor   = time.Second
	networkEvery = time.Second
)

// taken: a person's word counts for this node. Without a fresh view only one that was
// said knowingly does; the rules for everybody hold until the view is fresh again.
func (h Holding) taken(now time.Time) bool {
	return h.Hand.Act == HandTake && !h.Usurped && (h.Hand.Knowing || h.Sees(now))
}

// Sees: etcd can be asked and believed at this moment.
func (h Holding) Sees(now time.Time) bool { return !h.Back && !h.stepped() && h.View.fresh(now) }

// mustGoByHand is mustGo while the address is taken by hand. over: and it ends that.
func (h Holding) mustGoByHand(now time.Time) (why string, over bool) {
	switch {
	case h.Sees(now) && h.named() && h.View.Leader.Member != h.Member:
		return h.View.Leader.Member + " leads", true
	case h.Sees(now) && h.elsewhere():
		return "node " + h.Record.Node + " has the address by the record", true
	case h.Sees(now) && h.leads() && h.Impostor != "":
		return h.Impostor, true
	case !h.Sees(now) && h.Others.Others != "" && now.Sub(h.Others.AskedAt) <= 2*networkEvery:
		return h.Others.Others + " answers for the address on the network", true
	case h.Local.InRecovery:
		return "PostgreSQL is in recovery", false
	case now.Sub(latest(h.Local.WritableAt, h.Began)) > StoppedFor:
		return "PostgreSQL has stopped", false
	}
	return "", false
}

// lacksByHand is lacks for an address that a person takes.
func (h Holding) lacksByHand(now time.Time) (observed.Reason, string) {
	switch {
	case !h.writable(now):
		return observed.NotConfirmed, "PostgreSQL has not been seen to take writes at this moment"
	case h.Sees(now) && (!h.Record.HeldBy(h.Node) || h.foreignRecord()):
		return observed.AddressNotHeld, h.waitsFor()
	case h.Sees(now):
		return "", ""
	case now.Sub(h.Began) < FreshFor:
		return observed.StaleView, "etcd has not been asked yet who leads"
	case now.Sub(h.Others.AskedAt) > networkFor:
		return observed.AddressNotHeld, "the network has not been asked yet who has the address"
	}
	return "", ""
}

// writable: PostgreSQL takes writes at this instant.
func (h Holding) writable(now time.Time) bool {
	return h.Local.Writable && now.Sub(h.Local.At) <= SilentFor
}

// RefuseTake says why a person can't take the address to this node now; empty: it can
// be. knowing: it can be by somebody who says so although etcd can't be asked.
func (h Holding) RefuseTake(now time.Time) (why string, knowing bool) {
	if why, _ := h.mustGoByHand(now); why != "" {
		return why, false
	}
	switch {
	case h.Usurped:
		return "another machine has the name of this node", false
	case !h.writable(now):
		return "the PostgreSQL of this node has not been seen to take writes at this moment", false
	case !h.Hand.Knowing && !h.Sees(now):
		return "etcd can't be asked whether another node leads or has the address", true
	}
	return "", false
}

// claimByHand claims the address in etcd, where it can be asked and names no leader:
// what is given to nobody, never what another node has.
func (h Holding) claimByHand(d *HoldDecision, now time.Time) {
	r := h.Record
	if !h.Sees(now) || h.named() || !h.writable(now) {
		return
	}
	mine := h.Record.HeldBy(h.Node) && !h.foreignRecord()
	switch {
	case mine:
	case r == nil || h.foreignRecord():
		// Nobody knows of a holder, which is not that there is none.
		wait := h.View.Leader.Since.Add(handover).Sub(now)
		d.WriteHeld = wait <= 0
		d.After = min(d.After, max(wait, 0))
	default:
		d.WriteHeld = r.State != observed.VIPHeld
	}
}

package agent

import (
	"context"
	"net"
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Addresses makes virtual addresses so on this host.
type Addresses interface {
	// Hold adds the address with the given lifetime, or refreshes it; the kernel drops it when no refresh comes. added: it was not there before.
	// Preferred and valid lifetime are both set; IPv6 without duplicate address detection (nodad). Never longer than asked.
	Hold(ctx context.Context, a plan.Address, lifetime time.Duration) (added bool, err error)
	// Drop removes the address and then ends connections that were accepted on it. An absent address is success.
	// removed: it was there.
	Drop(ctx context.Context, a plan.Address) (removed bool, err error)
	// Announce tells the network once that this host has the address: gratuitous ARP request and reply, or unsolicited neighbour advertisement.
	Announce(ctx context.Context, a plan.Address) error
	// Held reports whether the address is on this host now, on whatever interface.
	Held(ctx context.Context, a plan.Address) (bool, error)
	// Watch calls changed whenever the kernel says that the address appeared or went, until ctx ends. It calls once at the start.
	// A lost netlink socket is reopened and followed by a call.
	Watch(ctx context.Context, a plan.Address, changed func(held bool))
	// Probe asks the network who answers for the address (ARP request with sender 0.0.0.0, or a neighbour solicitation), waiting at most wait.
	// It returns hardware addresses of others, sorted, without this host's own. From a node that holds it, it finds a second holder.
	Probe(ctx context.Context, a plan.Address, wait time.Duration) ([]net.HardwareAddr, error)
}

// LocalPatroni asks this host's own Patroni, over loopback.
type LocalPatroni interface {
	// Leads is GET /primary: whether Patroni holds the leader lock, as it believes at
	// this moment. An error is no answer. seen is when Patroni last reached etcd, by the
	// wall clock; zero when it does not say.
	Leads(ctx context.Context, own plan.Member) (leads bool, seen time.Time, err error)
}

package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/beat"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// The agent's clockwork. Numbers that the protocol gives are in package plan.
const (
	// PresenceTTL is how long a silent agent counts as present. A restart takes less,
	// so the presence key is left to run out instead of being deleted at SIGTERM.
	PresenceTTL = 10 * time.Second
	// AssertEvery is how often routes are re-issued (ROLES section 3): HAProxy's
	// checks need 3 s to undo a "health down", so six chances to say it again.
	AssertEvery = 500 * time.Millisecond
	// DriftEvery is how often every resource is compared with the host, whatever the
	// Watcher says: a net under the events that repair drift within a second (R9). One
	// compare costs as much as a second of all else that an idle agent does.
	DriftEvery = 30 * time.Second
	// SettleAfterMove is how long after a change of leader everything but the routes
	// waits. Promotion took 0.12 to 0.25 s from the leader key on (measured); the
	// logins that follow are through well before the second is over.
	SettleAfterMove = time.Second
	// PlansWithin is how long after its start an agent waits for etcd's plans before it
	// acts on those it kept: a disk may hold older ones than those in force. It is short
	// against the lifetime of a virtual address, and etcd answers within milliseconds.
	PlansWithin = 3 * time.Second
	// RetryCap is the longest pause between two attempts to apply a plan.
	RetryCap = 30 * time.Second
	// ReportEvery is the shortest time between two writes of one report: 5 a second.
	ReportEvery = 200 * time.Millisecond
	// NameRetry is how often an agent whose name another machine holds tries again.
	NameRetry = 10 * time.Second
	// FastFor bounds the 2 ms polling of a leader that does not get writable: a
	// promotion that lasts a minute can wait another quarter of a second.
	FastFor = time.Minute
	// ProofFor is how long one answer of PostgreSQL or Patroni is believed.
	ProofFor = time.Second
	// ApplyTimeout bounds one Diff or Apply of a driver: HAProxy's reload is proven
	// within seconds, a first `initdb` by Patroni is not waited for.
	ApplyTimeout = 60 * time.Second
	// AssertTimeout bounds one Assert, so that a HAProxy that hangs can't hold up
	// the next leader event for longer than the checks would take anyway.
	AssertTimeout = 2 * time.Second
	// ProbeTimeout bounds GET /patroni of another member.
	ProbeTimeout = 500 * time.Millisecond
)

// Options is all an agent is given.
type Options struct {
	Node string
	// Address finds where other nodes reach this one; empty while that is unknown.
	Address func() string
	Version string
	Layout  keys.Layout
	// StateDir holds the plans kept for the time without etcd.
	StateDir string
	// FreezeFile is DefaultFreezeFile when empty; only tests have another one, since
	// every rendered file names that.
	FreezeFile string
	// OverrideFile holds what a person holds by hand. It belongs into a folder that a
	// boot of the host empties; empty: an agent started anew knows of nothing held.
	OverrideFile string
	Host         Host
	// Connect reaches etcd; it is called again, with pauses, until it succeeds. The
	// agent works from disk meanwhile.
	Connect func(ctx context.Context) (*store.Client, error)
	// Beat is when all is done that is done again and again.
	Beat beat.Beat
	// Endpoints are shown by status, nothing else.
	Endpoints []string
	Log       *zap.Logger
	Registry  *prometheus.Registry
}

func (o *Options) check() error {
	switch {
	case o.Connect == nil:
		return errors.New("start agent: no way to connect to etcd was given")
	case o.StateDir == "":
		return errors.New("start agent: no state directory was given")
	case o.Host.Drivers == nil || o.Host.Router == nil || o.Host.Postgres == nil ||
		o.Host.Peers == nil || o.Host.Inventory == nil || o.Host.Takeover == nil ||
		o.Host.Addresses == nil || o.Host.Patroni == nil:
		return errors.New("start agent: a part of the host was not wired")
	}
	if err := keys.CheckNode(o.Node); err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.FreezeFile == "" {
		o.FreezeFile = DefaultFreezeFile
	}
	if o.Address == nil {
		o.Address = func() string { return "" }
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.Layout == (keys.Layout{}) {
		o.Layout = keys.Default
	}
	return nil
}

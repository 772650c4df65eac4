package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/delivery"
	"github.com/pgctrl/pgctrl/pkg/hookrun"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// deliver tells hooks of events for as long as this server leads.
func (s *server) deliver(client *store.Client) func(context.Context, *store.Leadership) {
	return func(ctx context.Context, l *store.Leadership) {
		runner := hookrun.New(client, s.Layout, l, s.Log)
		if err := runner.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.Log.Warn("what an earlier server asked of hooks' programs is left", zap.Error(err))
		}
		delivery.New(delivery.Options{
			Client: client, Layout: s.Layout, Version: version.String(), Log: s.Log, Commander: commander{ctx, runner},
		}).Run(term{ctx, l})
	}
}

// term is a leadership that is over a moment earlier when this server is told to stop.
type term struct {
	ctx context.Context
	*store.Leadership
}

// Context implements delivery.Term.
func (t term) Context() context.Context { return t.ctx }

// commander has agents run the programs of hooks.
type commander struct {
	ctx    context.Context // of the leadership
	runner *hookrun.Runner
}

// errNoCluster: nobody is primary of what concerns no cluster.
var errNoCluster = errors.New("the event concerns no cluster, so there is no primary to run it on; name a node in command.on")

// Run implements delivery.Commander. The attempt's own end is the program's: the answer to it
// comes later, and is waited for.
func (c commander) Run(ctx context.Context, o delivery.Order) error {
	if o.Cluster == keys.Fleet && o.On == hookrun.Primary {
		return errNoCluster
	}
	bounded, cancel := context.WithTimeout(c.ctx, o.Timeout+hookrun.Beyond+time.Second)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			cancel() // the document changed
		}
	})()
	out, err := c.runner.Run(bounded, hookrun.Order{
		Cluster: o.Cluster, Hook: o.Hook, Scope: o.Scope, Node: o.On, Program: o.Program, Arguments: o.Arguments, Event: o.Input,
		EventID: o.Cluster + "/" + o.ID, Kind: o.Kind, Timeout: o.Timeout, Attempt: o.Attempt,
	})
	if err != nil {
		return fmt.Errorf("ask an agent: %w", err)
	}
	return out.Err()
}

package hookrun

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// step is what is asked, and of which node. All of it is read now: who the primary is may have
// changed since the order was made.
func (r *Runner) step(ctx context.Context, o Order) (plan.Step, string, error) {
	var rec observed.Store
	if err := read(ctx, r, r.layout.StoreKey(), &rec); err != nil {
		return plan.Step{}, "", err
	}
	s := plan.Step{
		Schema: plan.SchemaOf(plan.ActHook), Act: plan.ActHook, Cluster: o.Cluster, Store: rec.Incarnation, By: "hook " + o.Hook,
		Hook: &plan.Hook{
			Name: o.named(), Program: o.Program, Arguments: o.Arguments, Event: o.Event, EventID: o.EventID, Kind: o.Kind,
			Timeout: o.Timeout, Expires: time.Now().Add(BeginWithin).UTC(), Attempt: o.Attempt,
		},
	}
	if !s.Hook.Valid() {
		return s, "", ErrInvalid
	}
	node := o.Node
	if node == Primary {
		p, err := r.primary(ctx, o.Cluster, rec.Incarnation)
		if err != nil {
			return s, "", err
		}
		node = p.Node
		s.Hook.Primary, s.Member, s.Epoch, s.UID = true, p.Member, plan.Epoch(p.Epoch), p.UID
	}
	var alive observed.Alive
	err := read(ctx, r, r.layout.AliveKey(node), &alive)
	switch {
	case errors.Is(err, errAbsent):
		return s, node, fmt.Errorf("%w: node %s has no presence", ErrNoAgent, node)
	case err != nil:
		return s, node, err
	case alive.PlanSchema < s.Schema:
		return s, node, fmt.Errorf("%w: that of node %s is version %s; upgrade pgagent", ErrNoAgent, node, alive.Version)
	}
	return s, node, nil
}

// primary is the confirmed primary: the one of the record, while it has Patroni's leader key.
func (r *Runner) primary(ctx context.Context, cluster, incarnation string) (observed.Primary, error) {
	var p observed.Primary
	err := read(ctx, r, r.layout.PrimaryKey(cluster), &p)
	if errors.Is(err, errAbsent) {
		return p, ErrNotConfirmed
	}
	if err != nil {
		return p, err
	}
	leader, led, err := r.client.Get(ctx, r.layout.Leader(cluster))
	if err != nil {
		return p, err
	}
	var formed observed.Formed // a cluster that was found and not made by pgctrl may have no record
	if err := read(ctx, r, r.layout.FormedKey(cluster), &formed); err != nil && !errors.Is(err, errAbsent) {
		return p, err
	}
	if !p.Writable || !led || string(leader.Value) != p.Member || p.Store != "" && p.Store != incarnation || !p.Of(formed.UID, "") {
		return p, ErrNotConfirmed
	}
	if p.UID == "" {
		p.UID = formed.UID
	}
	return p, nil
}

var errAbsent = errors.New("it is not there")

func read[T any](ctx context.Context, r *Runner, key string, to *T) error {
	e, found, err := r.client.Get(ctx, key)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("read %s: %w", key, errAbsent)
	}
	*to, err = observed.Decode[T](e)
	return err
}

// Sweep deletes the steps of hooks, with what came of them, that nobody waits for any more: all
// from before this leadership, and those that are long over. It may be called at any time.
func (r *Runner) Sweep(ctx context.Context) error {
	all, _, err := r.client.List(ctx, r.layout.Prefix(keys.Steps))
	if err != nil {
		return fmt.Errorf("sweep steps of hooks: %w", err)
	}
	var errs []error
	for _, e := range all {
		s, err := observed.Decode[plan.Step](e)
		ref, perr := r.layout.Parse(e.Key)
		if err != nil || perr != nil || s.Act != plan.ActHook {
			continue // somebody else's
		}
		over := s.Hook == nil || time.Now().After(s.Hook.Expires.Add(s.Hook.Timeout+Beyond))
		if e.ModRevision > r.lead.Epoch() && !over {
			continue
		}
		_, err = r.client.Commit(ctx, []store.Guard{r.lead.Guard(), store.ModIs(e.Key, e.ModRevision)},
			[]store.Op{store.Delete(e.Key), store.Delete(r.layout.ResultKey(ref.Node, ref.Doc))})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.log.Info("deleted a step of a hook that nobody waits for", zap.String("key", e.Key))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("sweep steps of hooks: %w", err)
	}
	return nil
}

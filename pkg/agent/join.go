package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/idle"
	"github.com/pgctrl/pgctrl/internal/jitter"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// inventoryEvery is how often the presence record is brought up to date with
// what is installed; etcd sees a write only when it changed.
const inventoryEvery = time.Minute

// connect reaches etcd, however long that takes.
func (a *Agent) connect(ctx context.Context) (*store.Client, bool) {
	wait := newBackoff(200*time.Millisecond, 5*time.Second)
	for {
		client, err := a.o.Connect(ctx)
		if err == nil {
			a.client.Store(client)
			a.setProblem("")
			a.log.Info("reached etcd", zap.Strings("endpoints", a.o.Endpoints))
			return client, true
		}
		if ctx.Err() != nil {
			return nil, false
		}
		if a.setProblem(err.Error()) {
			a.log.Warn("etcd not reached; working from the plans on disk", zap.Error(err))
		}
		if !idle.For(ctx, wait.NextBackOff()) {
			return nil, false
		}
	}
}

// admit returns true once the node's name is free or this machine's own. Until
// then the agent must not act on the node's plans: two machines that both make
// themselves pg1 would fight over one member.
func (a *Agent) admit(ctx context.Context, client *store.Client) bool {
	key := a.o.Layout.AliveKey(a.o.Node)
	for {
		e, found, err := client.Get(ctx, key)
		wait := time.Second
		switch {
		case err == nil && (!found || a.mine(e)):
			a.setProblem("")
			return true
		case err == nil:
			wait = NameRetry
			other, _ := observed.Decode[observed.Alive](e)
			err = fmt.Errorf("node name %s is held by the machine %s at %s; give this machine (%s) another name with --node, or stop that agent",
				a.o.Node, other.MachineID, other.Address, a.machine)
		}
		if ctx.Err() == nil && a.setProblem(err.Error()) {
			a.log.Error("node name not taken", zap.String("key", key), zap.Error(err))
		}
		if !idle.For(ctx, wait) {
			return false
		}
	}
}

// mine reports whether a presence key is this machine's: an agent that was killed
// takes its name back at once, without waiting for the old lease.
func (a *Agent) mine(found kv.KV) bool {
	other, err := observed.Decode[observed.Alive](found)
	return err != nil || other.MachineID == "" || other.MachineID == a.machine
}

// announce keeps the presence key. When another machine got the name while this
// one was cut off, the agent does nothing any more until it has the name back.
// It ends with presence, which outlives ctx by the closing of the connection.
func (a *Agent) announce(ctx, presence context.Context, client *store.Client) {
	var record atomic.Pointer[[]byte]
	news := make(chan struct{}, 1)
	stock := func() {
		b := observed.Encode(a.takeStock(ctx))
		record.Store(&b)
		poke(news)
	}
	stock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		timer := time.NewTimer(inventoryEvery)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			case <-a.restock:
			}
			stock()
			timer.Reset(inventoryEvery)
		}
	}()
	defer func() { <-done }()
	for {
		err := client.Keep(presence, store.Presence{
			Key: a.o.Layout.AliveKey(a.o.Node), TTL: PresenceTTL, Beat: a.o.Beat, Poke: news, Mine: a.mine,
			Value: func() []byte { return *record.Load() }, Wrote: a.wrote,
		})
		if !errors.Is(err, store.ErrTaken) {
			return
		}
		a.usurped.Store(true)
		a.log.Error("another machine took the node's name; this agent stands still", zap.Error(err))
		if !idle.For(ctx, NameRetry) || !a.admit(ctx, client) {
			return
		}
		a.usurped.Store(false)
	}
}

// takeStock asks the inventory; what can't be found out now keeps its last value.
func (a *Agent) takeStock(ctx context.Context) observed.Alive {
	programs, versions, err := a.o.Host.Inventory.Programs(ctx)
	if err != nil && ctx.Err() == nil {
		a.log.Warn("inventory is incomplete", zap.Error(err))
	}
	if programs == nil {
		programs = map[string]string{}
	}
	if before := a.programs.Swap(&programs); before == nil || !maps.Equal(*before, programs) {
		for _, c := range a.all() {
			poke(c.wakeWork) // the report says so
		}
	}
	notes := a.hostNotes(ctx)
	rec := alive(a.o.Node, a.o.Address(), a.machine, a.o.Version, programs, versions)
	rec.Notes = notes
	if a.store.changed() != nil {
		seen := a.store.seen()
		rec.Store = &seen
	}
	return rec
}

// setProblem records why the agent is not in touch; true when that is news.
func (a *Agent) setProblem(msg string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	news := a.lastErr != msg
	a.lastErr = msg
	return news && msg != ""
}

// newBackoff grows from first to most with jitter and never gives up.
func newBackoff(first, most time.Duration) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(first), backoff.WithMaxInterval(most),
		backoff.WithMultiplier(2), backoff.WithMaxElapsedTime(0),
		backoff.WithRandomizationFactor(jitter.Factor()),
	)
}

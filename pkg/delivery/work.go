package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// work is one hook at work. Its goroutine owns everything but the channels.
type work struct {
	d     *Deliverer
	hook  *desired.Hook
	scope string
	// events, removed, again and stateKey are where it reads and writes.
	events, removed, again, stateKey string
	send                             sender
	news, asked                      chan struct{}
	cancel                           context.CancelFunc
	done                             chan struct{}

	state    hooks.State
	stored   hooks.Cursor // as etcd has it
	page     []item
	unsaved  bool      // state has more than etcd
	saved    time.Time // when it was written or read last
	passed   int       // events since then that the hook does not want
	repeat   bool      // something may be asked for once more
	repeated bool      // that was what was done last
	level    bool      // the last page was all there was

	mu    sync.Mutex
	heard []kv.KV // what was written since the last page, at most a page of it
	whole bool    // heard has all of that
}

func newWork(d *Deliverer, h *desired.Hook) *work {
	scope := hooks.Scope(d.Layout, h)
	w := &work{
		d: d, hook: h, scope: scope, events: d.Layout.ClusterEvents(scope),
		removed: d.Layout.EventsRemoved(scope), again: d.Layout.Redeliveries(scope, h.Name), stateKey: d.Layout.DeliveryState(scope, h.Name),
		news: make(chan struct{}, 1), asked: make(chan struct{}, 1), done: make(chan struct{}), repeat: true,
	}
	if scope == keys.Fleet {
		w.events, w.removed = d.Layout.Prefix(keys.Events), d.Layout.AllEventsRemoved()
	}
	if h.Webhook.URL != "" {
		w.send = newWebhook(h, d.Version)
	} else {
		w.send = &command{hook: h, scope: scope, commander: d.Commander}
	}
	return w
}

// run delivers until ctx ends or leadership is lost.
func (w *work) run(ctx context.Context) {
	defer w.send.close()
	defer w.last()
	for ctx.Err() == nil {
		err := w.load(ctx)
		for err == nil && ctx.Err() == nil {
			err = w.safely(ctx)
		}
		if errors.Is(err, store.ErrConflict) {
			return // somebody else leads, or the document went
		}
		if err != nil && ctx.Err() == nil {
			w.d.Log.Warn("hook can't go on; trying again", zap.String("hook", w.hook.Key), zap.Error(err))
			w.pause(ctx, troubled)
		}
	}
}

// safely does a step. A fault of this program costs the hook a second and others nothing.
func (w *work) safely(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("internal error: %v", p)
		}
	}()
	return w.step(ctx)
}

// load reads how far the hook is.
func (w *work) load(ctx context.Context) error {
	if w.unsaved {
		return w.save(ctx) // etcd was away, and this is what it does not know yet
	}
	e, ok, err := w.d.Client.Get(ctx, w.stateKey)
	if err != nil {
		return err
	}
	w.state, w.page, w.level = hooks.Fresh(w.scope, w.hook.Name, w.hook.CreateRevision), nil, false
	var s hooks.State
	if ok && json.Unmarshal(e.Value, &s) == nil && s.Schema == hooks.Schema && s.Created == w.hook.CreateRevision {
		w.state = s
	}
	w.stored, w.saved, w.passed = w.state.Cursor, time.Now(), 0
	return nil
}

// step does one thing: one attempt, or waiting for a reason to make one.
func (w *work) step(ctx context.Context) error {
	select {
	case <-w.asked:
		w.repeat = true
	default:
	}
	if w.repeat && !w.repeated {
		w.repeated = true // events have their turn between any two of them
		return w.once(ctx)
	}
	w.repeated = false
	if len(w.page) == 0 {
		if err := w.read(ctx); err != nil {
			return err
		}
	}
	switch at := w.state.NextTry; {
	case len(w.page) == 0:
		return w.rest(ctx, lookEvery)
	case at != nil && time.Until(*at) > 0 && time.Until(*at) <= 2*hooks.MostRetryAfter:
		return w.rest(ctx, time.Until(*at)) // one that is further away another server's clock said
	}
	return w.event(ctx, w.page[0])
}

// rest waits, for at most so long; whatever there is to write has been written before. While
// something is to be repeated it does not.
func (w *work) rest(ctx context.Context, most time.Duration) error {
	if err := w.save(ctx); err != nil || w.repeat {
		return err
	}
	if over := w.pause(ctx, most); over {
		w.level = false // should there be something that was not heard of, it is found now
	}
	return nil
}

// pause reports whether nothing happened for so long.
func (w *work) pause(ctx context.Context, most time.Duration) (over bool) {
	t := time.NewTimer(most)
	defer t.Stop()
	news := w.news
	if len(w.page) > 0 {
		news = nil // the first of the page is waited for, whatever comes behind it
	}
	select {
	case <-news:
	case <-w.asked:
		w.repeat = true
	case <-t.C:
		return true
	case <-ctx.Done():
	}
	return false
}

// event makes one attempt to deliver the first event of the page.
func (w *work) event(ctx context.Context, i item) error {
	if w.state.Event != hooks.ID(i.event) {
		w.state.Attempt = 0
	}
	failure, err := w.attempt(ctx, i.event, i.raw, w.state.Attempt+1)
	if err != nil || ctx.Err() != nil {
		return err // the document changed, or leadership ended; it is tried anew
	}
	now := time.Now().UTC()
	if failure == nil {
		w.state, w.unsaved, w.page = w.state.Took(now, i.cursor()), true, w.page[1:]
		if time.Since(w.saved) < writeEvery {
			return nil
		}
		return w.save(ctx)
	}
	before := w.state
	wait := max(w.d.Wait(before.Attempt+1), failure.after)
	next, dead := before.Failed(now, i.event, failure.Error(), wait, time.Duration(w.hook.RetryFor))
	w.state = next
	if dead {
		return w.bury(ctx, i, now)
	}
	w.unsaved = w.unsaved || next.Worth(before)
	return nil
}

// attempt sends one event. A fault of this program in it costs the attempt and nothing else.
func (w *work) attempt(ctx context.Context, e events.Event, raw json.RawMessage, attempt int) (failure *failed, err error) {
	body, err := hooks.Body{Hook: w.hook.Name, Cluster: w.scope, Attempt: attempt, Event: raw}.Encode()
	if err != nil {
		return &failed{text: err.Error()}, nil
	}
	secret, _, err := w.d.Client.Get(ctx, w.d.Layout.Secret(w.scope, keys.HookSecret(w.hook.Name)))
	if err != nil {
		return nil, err // which is not the receiver's fault
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(w.hook.Timeout))
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			failure = &failed{text: fmt.Sprintf("internal error: %v", p)}
		}
	}()
	return w.send.send(ctx, e, body, secret.Value), nil
}

package delivery

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// lastWord is how long a hook that is stopped may take to write how far it came.
const lastWord = 2 * time.Second

// save writes how far the hook is, if etcd does not know.
func (w *work) save(ctx context.Context) error {
	if !w.unsaved {
		return nil
	}
	return w.write(ctx)
}

// write writes how far the hook is together with other writes, for as long as its document
// exists: what a cluster that is removed leaves behind nobody would take away.
func (w *work) write(ctx context.Context, ops ...store.Op) error {
	value, err := json.Marshal(w.state)
	if err != nil {
		return fmt.Errorf("encode state of hook %s: %w", w.hook.Key, err)
	}
	w.unsaved = true
	if _, err := w.d.Client.Commit(ctx, append(w.d.term(), store.CreateIs(w.hook.Key, w.hook.CreateRevision)), append(ops, store.Put(w.stateKey, value))); err != nil {
		return fmt.Errorf("write state of hook %s: %w", w.hook.Key, err)
	}
	w.unsaved, w.saved, w.stored, w.passed = false, time.Now(), w.state.Cursor, 0
	return nil
}

// last writes how far the hook came when it is stopped, so that the next one repeats nothing. What
// the hook did not want is behind it for good: another document is about what comes.
func (w *work) last() {
	if w.state.Hook == "" || !w.unsaved && w.state.Cursor == w.stored {
		return
	}
	w.unsaved = true
	ctx, cancel := context.WithTimeout(context.Background(), lastWord)
	defer cancel()
	_ = w.save(ctx) // a server that does not lead any more may not, and the next one repeats
}

// bury keeps an event that is given up as a dead letter; the oldest makes room.
func (w *work) bury(ctx context.Context, i item, now time.Time) error {
	before := w.state
	if err := w.buried(ctx, i, now); err != nil {
		w.state = before // it is tried once more when etcd answers: nothing is lost meanwhile
		return err
	}
	w.page = w.page[1:]
	return nil
}

func (w *work) buried(ctx context.Context, i item, now time.Time) error {
	if w.d.filling(ctx) {
		w.state = w.state.GaveUp(i.cursor(), 1) // none is kept, so that it is not they that fill etcd
		return w.write(ctx)
	}
	ops, dropped, err := w.room(ctx)
	if err != nil {
		return err
	}
	letter := hooks.Letter{
		Schema: hooks.Schema, Hook: w.hook.Name, Cluster: w.scope, Event: i.raw,
		Attempts: w.state.Attempt, Error: w.state.Error, Since: *w.state.FailingSince, At: now,
	}
	put, err := w.letter(letter, i.event)
	if err != nil {
		return err
	}
	w.state = w.state.GaveUp(i.cursor(), dropped)
	return w.write(ctx, append(ops, put)...)
}

func (w *work) letter(l hooks.Letter, e events.Event) (store.Op, error) {
	value, err := json.Marshal(l)
	if err != nil {
		return store.Op{}, fmt.Errorf("encode dead letter of hook %s: %w", w.hook.Key, err)
	}
	return store.Put(w.d.Layout.DeadLetter(w.scope, w.hook.Name, hooks.ID(e)), value), nil
}

// room is what is to be deleted so that one more dead letter fits.
func (w *work) room(ctx context.Context) (ops []store.Op, dropped int, err error) {
	old, err := w.d.Client.Since(ctx, w.d.Layout.DeadLetters(w.scope, w.hook.Name), 0, hooks.MaxDead)
	if err != nil {
		return nil, 0, err
	}
	for n := len(old.KVs) - hooks.MaxDead + 1; dropped < n; dropped++ {
		ops = append(ops, store.Delete(old.KVs[dropped].Key))
	}
	return ops, dropped, nil
}

// once makes one attempt at the oldest event that is to be delivered once more.
func (w *work) once(ctx context.Context) error {
	found, err := w.d.Client.Since(ctx, w.again, 0, 1)
	if err != nil {
		return err
	}
	w.repeat = found.More
	if len(found.KVs) == 0 {
		return nil
	}
	key := found.KVs[0].Key
	var a hooks.Again
	var e events.Event
	if json.Unmarshal(found.KVs[0].Value, &a) != nil || json.Unmarshal(a.Event, &e) != nil || e.ID == "" {
		return w.write(ctx, store.Delete(key)) // somebody wrote it by hand, and it says nothing
	}
	began := time.Now()
	failure, err := w.attempt(ctx, e, a.Event, a.Attempts+1)
	if err != nil || ctx.Err() != nil {
		return err
	}
	before := w.state
	if err := w.answer(ctx, key, a, e, failure, began); err != nil {
		w.state, w.repeat = before, true // the key is still there
		return err
	}
	return nil
}

// answer says how an attempt went that was asked for.
func (w *work) answer(ctx context.Context, key string, a hooks.Again, e events.Event, failure *failed, began time.Time) error {
	now := time.Now().UTC()
	ops := []store.Op{store.Delete(key)}
	said := ""
	if failure != nil {
		said = failure.Error()
	}
	switch {
	case a.Test:
		w.state.LastTest = &hooks.Test{ID: e.ID, At: now, TookMS: time.Since(began).Milliseconds(), Error: said}
	case failure == nil:
		w.state.Delivered, w.state.DeliveredAt = w.state.Delivered+1, &now
	default:
		room, dropped, err := w.room(ctx)
		if err != nil {
			return err
		}
		put, err := w.letter(hooks.Letter{
			Schema: hooks.Schema, Hook: w.hook.Name, Cluster: w.scope, Event: a.Event,
			Attempts: a.Attempts + 1, Error: said, Since: a.Since, At: now,
		}, e)
		if err != nil {
			return err
		}
		w.state.Dead, w.state.Dropped = w.state.Dead+1, w.state.Dropped+int64(dropped)
		ops = append(append(ops, room...), put)
	}
	return w.write(ctx, ops...)
}

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// errHeld ends the controllers: the store is not the one they planned on.
var errHeld = errors.New("the store is another one than before")

// hold is what decides whether anything may be planned on a store (ROLES section
// 7). A server remembers nothing over a restart; the agents do, and say so.
type hold struct {
	// incarnation and revision are the store as this process planned on it.
	incarnation string
	revision    int64
	back        bool
}

// judge says why nothing may be planned; empty: it may. rev is the answer to a
// question asked after every earlier one was answered; 0: it was not asked.
func (h *hold) judge(rec observed.Store, rev int64, distrusting map[string]observed.StoreSeen) string {
	if rec.Incarnation != h.incarnation {
		*h = hold{incarnation: rec.Incarnation}
	}
	was := h.revision
	h.back = h.back || rev > 0 && rev < h.revision
	h.revision = max(h.revision, rev)
	switch {
	case rec.Restored != nil:
		return fmt.Sprintf("etcd was put back from a snapshot of %s", rec.Restored.Taken.UTC().Format(time.RFC3339))
	case h.back:
		return fmt.Sprintf("etcd went back in time: it is at revision %d and was seen at %d", rev, was)
	}
	for _, node := range sortedNodes(distrusting) {
		// An agent that knows another incarnation may itself be the stranger.
		if seen := distrusting[node]; seen.Incarnation == rec.Incarnation {
			return fmt.Sprintf("etcd went back in time: the agent of %s saw it at revision %d", node, seen.Revision)
		}
	}
	return ""
}

// watcher follows what the judgement is made of.
type watcher struct {
	hold   hold
	mirror *store.Mirror
	layout keys.Layout
	poke   chan struct{}
	asked  time.Time
}

func (s *server) newWatcher(c *store.Client) *watcher {
	w := &watcher{layout: s.Layout, poke: make(chan struct{}, 1)}
	w.mirror = store.NewMirror(c, store.MirrorOptions{
		Name: "store", Stream: "store", Log: s.Log, Prefixes: []string{s.Layout.StoreKey(), s.Layout.Prefix(keys.Alive)},
		// Of a thousand nodes' records nothing is needed but the word of those that distrust.
		Keep: func(e kv.KV) kv.KV {
			if strings.HasPrefix(e.Key, s.Layout.Prefix(keys.Alive)) {
				e.Value = distrustIn(e.Value)
			}
			return e
		},
	})
	w.mirror.OnChange(func(int64, []store.Change) {
		select {
		case w.poke <- struct{}{}:
		default:
		}
	})
	return w
}

// distrustIn is the part of a presence record that says which store its agent
// trusts instead; nil when there is none.
func distrustIn(value []byte) []byte {
	var a struct {
		Store json.RawMessage `json:"store"`
	}
	_ = json.Unmarshal(value, &a) // what can't be read says nothing
	return a.Store
}

// judge looks at the mirror as it is now.
func (w *watcher) judge() (incarnation, why string) {
	s := w.mirror.Snapshot()
	rec, _ := observed.Read[observed.Store](s, w.layout.StoreKey())
	distrusting := map[string]observed.StoreSeen{}
	for _, e := range s.Range(w.layout.Prefix(keys.Alive)) {
		var seen observed.StoreSeen
		ref, err := w.layout.Parse(e.Key)
		if err == nil && len(e.Value) > 0 && json.Unmarshal(e.Value, &seen) == nil {
			distrusting[ref.Node] = seen
		}
	}
	at, rev := w.mirror.Fresh()
	if !at.After(w.asked) {
		rev = 0 // judged already
	}
	w.asked = at
	return rec.Incarnation, w.hold.judge(rec, rev, distrusting)
}

// next waits until something may be different.
func (w *watcher) next(ctx context.Context) {
	t := time.NewTimer(store.DefaultProbeEvery)
	defer t.Stop()
	select {
	case <-w.poke:
	case <-t.C:
	case <-ctx.Done():
	}
}

// whileTrusted runs plan on the store for as long as it is the same one, and again
// on the next that a person accepted. It returns when ctx ends or plan fails.
func (s *server) whileTrusted(ctx context.Context, c *store.Client, plan func(context.Context) error) error {
	w := s.newWatcher(c)
	part, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { _ = w.mirror.Run(part) }) // it ends with its context
	select {
	case <-w.mirror.Ready():
	case <-ctx.Done():
		return nil
	}
	told := ""
	for ctx.Err() == nil {
		incarnation, why := w.judge()
		if why != "" {
			s.state.set(nil, "StoreChanged: "+why+"; nothing is planned until: pgctrl etcd accept")
			if told != why {
				s.Log.Error("nothing is planned on this store", zap.String("why", why), zap.String("next", "pgctrl etcd accept"))
			}
			told = why
			w.next(ctx)
			continue
		}
		told = ""
		term, end := context.WithCancelCause(ctx)
		done := make(chan error, 1)
		go func() { done <- plan(term) }()
		err := s.until(term, w, incarnation, done, end)
		if err != nil && !errors.Is(err, errHeld) {
			return err
		}
	}
	return nil
}

// until watches the store while plan runs, ends plan when it changes, and returns
// how plan ended.
func (s *server) until(ctx context.Context, w *watcher, incarnation string, done chan error, end context.CancelCauseFunc) error {
	for {
		select {
		case err := <-done:
			end(nil)
			return err
		default:
		}
		if now, why := w.judge(); ctx.Err() == nil && (why != "" || now != incarnation && incarnation != "") {
			s.Log.Warn("controllers stop", zap.String("incarnation", incarnation), zap.String("now", now), zap.String("why", why))
			end(errHeld)
			<-done
			return errHeld
		}
		w.next(ctx)
		if ctx.Err() != nil {
			end(nil)
			return <-done
		}
	}
}

func sortedNodes(m map[string]observed.StoreSeen) []string {
	out := make([]string, 0, len(m))
	for n := range m {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

package delivery

import (
	"cmp"
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"time"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// item is an event of the page.
type item struct {
	rev   int64
	event events.Event
	raw   json.RawMessage
}

func (i item) cursor() hooks.Cursor { return hooks.Cursor{Revision: i.rev, Event: hooks.ID(i.event)} }

// hear takes what was written, as long as it is no more than a page and nothing of it was
// missed. With it a hook that keeps up does not ask etcd, which would look through all events
// each time, and most when much happens: while a cluster fails over.
func (w *work) hear(es []kv.KV, missed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if missed || len(w.heard)+len(es) > pageSize {
		w.whole = false
	}
	if !w.whole {
		w.heard = nil
		return
	}
	w.heard = append(w.heard, es...)
}

// told returns what was heard since the last page, if that is everything. If not, what is heard
// from now on is kept: it is called before etcd is asked, so nothing lies between the two.
func (w *work) told() (es []kv.KV, all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	es, all = w.heard, w.whole && w.level
	w.heard, w.whole = nil, true
	return es, all
}

// read takes the next page of events that the hook wants. What it does not want is passed
// without a write for each: reading it once more after a takeover costs less.
func (w *work) read(ctx context.Context) error {
	if es, all := w.told(); all {
		w.sift(w.ordered(es))
		return nil
	}
	for ctx.Err() == nil {
		p, err := w.d.Client.Since(ctx, w.events, w.state.Cursor.Revision, pageSize)
		if err == nil {
			err = w.late(ctx, p.Revision)
		}
		if err != nil {
			return err
		}
		found, more := p.KVs, p.More
		whole := found
		if last := len(found) - 1; more && found[0].ModRevision != found[last].ModRevision {
			// Others of the last transaction may be on the next page.
			whole = slices.DeleteFunc(slices.Clone(found), func(e kv.KV) bool { return e.ModRevision == found[last].ModRevision })
		}
		all := w.ordered(whole)
		w.sift(all)
		w.level = !more
		if len(w.page) > 0 || !more {
			return nil
		}
		if len(all) == 0 { // none of them is an event that is still to be looked at; past them
			w.state.Cursor = hooks.Cursor{Revision: whole[len(whole)-1].ModRevision + 1}
		}
	}
	return nil
}

// late looks whether events were gone already when etcd was asked for those behind the cursor.
func (w *work) late(ctx context.Context, rev int64) error {
	gone, _, err := w.d.Client.ListAt(ctx, w.removed, rev)
	if err != nil {
		return err
	}
	for _, e := range gone {
		var r events.Removed
		if json.Unmarshal(e.Value, &r) != nil {
			continue // somebody wrote it by hand, and it says nothing
		}
		before := w.state.Missed
		w.state = w.state.Lost(time.Now().UTC(), r.Revision)
		w.unsaved = w.unsaved || w.state.Missed != before
	}
	return nil
}

// ordered are the events among keys that come after the cursor, in their order.
func (w *work) ordered(es []kv.KV) (all []item) {
	for _, e := range es {
		i := item{rev: e.ModRevision, raw: e.Value}
		if json.Unmarshal(e.Value, &i.event) == nil && w.genuine(e.Key, i.event) && hooks.After(w.state.Cursor, i.rev, i.event) {
			all = append(all, i)
		}
	}
	slices.SortStableFunc(all, func(a, b item) int {
		return cmp.Or(cmp.Compare(a.rev, b.rev), hooks.Compare(a.event, b.event))
	})
	return all
}

// genuine reports an event that is what its key says. What somebody wrote by hand is passed over.
func (w *work) genuine(key string, e events.Event) bool {
	_, err := events.ParseID(e.ID)
	known := e.Cluster == keys.Fleet || keys.CheckCluster(e.Cluster) == nil
	return err == nil && known && kindWords.MatchString(string(e.Kind)) && key == w.d.Layout.EventKey(e.Cluster, e.ID)
}

// kindWords are how kinds are spelled, also those of a newer server.
var kindWords = regexp.MustCompile(`^[a-z_]+\.[a-z_]+$`)

// sift keeps what the hook wants, and passes what comes before the first of it.
func (w *work) sift(all []item) {
	w.page = nil
	for _, i := range all {
		wants, looping := hooks.Wants(w.scope, w.hook, i.event)
		switch {
		case wants:
			w.page = append(w.page, i)
		case len(w.page) == 0:
			next := w.state.Passed(i.cursor(), looping)
			w.passed++
			w.unsaved = w.unsaved || next.Reason != w.state.Reason || w.passed >= passedAtMost || time.Since(w.saved) > unsavedAtMost
			w.state = next
		case looping:
			w.state.Reason, w.unsaved = hooks.Loop, true
		}
	}
}

package delivery_test

import (
	"encoding/json"
	"testing"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// removed takes the oldest events of c away as the stream does when there are too many.
func (w *world) removed(ids ...string) {
	w.t.Helper()
	var ops []store.Op
	upTo := int64(0)
	for _, id := range ids {
		key := l.EventKey("c", id[len("c/"):])
		e, ok, err := w.client.Get(w.t.Context(), key)
		if err != nil || !ok {
			w.t.Fatal(id, ok, err)
		}
		upTo = max(upTo, e.ModRevision)
		ops = append(ops, store.Delete(key))
	}
	floor, _ := json.Marshal(events.Removed{Schema: events.Schema, Revision: upTo})
	if _, err := w.client.Commit(w.t.Context(), nil, append(ops, store.Put(l.EventsRemoved("c"), floor))); err != nil {
		w.t.Fatal(err)
	}
}

// Events that went before a hook had them are said; what is left comes.
func TestEventsThatWentAreSaid(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t, nil)
	w.hook("page", document(r.URL))
	w.lead()
	first := w.happen(3, 1)
	until(t, "three have come", func() bool { return w.state("page").Delivered == 3 })
	w.resign()
	w.removed(first...) // it had these
	w.lead()
	w.happen(1, 1)
	until(t, "a fourth has come", func() bool { return w.state("page").Delivered == 4 })
	if m := w.state("page").Missed; m != nil {
		t.Fatalf("what it had is missed: %+v", m)
	}
	w.resign()
	had := w.state("page").Cursor
	second := w.happen(5, 1)
	w.removed(second[:3]...)
	w.lead()
	until(t, "those that are left have come", func() bool { return w.state("page").Delivered == 6 })
	if m := w.state("page").Missed; m == nil || m.After != had || m.Through <= had.Revision || m.Through >= w.state("page").Cursor.Revision {
		t.Errorf("missed %+v, the hook was at %+v", m, had)
	}
}

// A hook that wants little is written now and then how far it is: a server that takes over does
// not believe that it misses what it had passed.
func TestWhatIsPassedIsNotMissed(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t, nil)
	w.hook("idle", "events: [backup.failed]\nwebhook: {url: "+r.URL+"}")
	w.hook("busy", document(r.URL))
	w.lead()
	all := w.happen(450, 50)
	until(t, "another hook has them", func() bool { return w.state("busy").Delivered == 450 })
	until(t, "it is written that it passed most", func() bool { return w.state("idle").Cursor.Revision > 0 })
	w.kill()
	w.removed(all[:100]...)
	w.lead()
	w.happen(1, 1, func(e *events.Event) { e.Kind = events.BackupFailed })
	until(t, "what it wants has come", func() bool { return w.state("idle").Delivered == 1 })
	if m := w.state("idle").Missed; m != nil {
		t.Errorf("it believes that it missed some: %+v", m)
	}
}

// Over half of etcd's quota no dead letter is kept, so that it is not they that fill it; they are
// counted.
func TestDeadLettersDoNotFillEtcd(t *testing.T) {
	const quota = 4 << 20
	s := etcdtest.StartSmall(t, quota)
	w := newWorldIn(t, s)
	w.hook("page", document(nobody(t), "retry_for: 0s"))
	s.Fill(t, quota)
	w.lead()
	w.happen(5, 1)
	until(t, "all are given up", func() bool { return w.state("page").Dead == 5 })
	if letters, s := w.dead("page"), w.state("page"); len(letters) != 0 || s.Dropped != 5 {
		t.Errorf("%d are kept, %d dropped", len(letters), s.Dropped)
	}
}

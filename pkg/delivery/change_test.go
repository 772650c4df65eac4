package delivery_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// TestAnotherFilterIsAboutWhatComes: what a hook did not want is behind it, whatever its document
// says later, and whether it got anything before or not.
func TestAnotherFilterIsAboutWhatComes(t *testing.T) {
	w := newWorld(t)
	r, other := newReceiver(t, nil), newReceiver(t, nil)
	w.hook("a", "events: [backup.failed]\nwebhook: {url: "+r.URL+"}")
	w.hook("b", document(other.URL))
	w.lead()
	old := w.happen(20, 1)
	until(t, "they have passed", func() bool { return len(other.ids()) == 20 })
	w.hook("a", document(r.URL))
	until(t, "it gets what comes", func() bool {
		w.happen(1, 1) // the document may not be in force yet
		return len(r.ids()) > 0
	})
	for _, id := range r.ids() {
		if slices.Contains(old, id) {
			t.Errorf("it got %s, which it had not wanted", id)
		}
	}
}

// TestWrittenByHand: keys among the events that are not what they say hold up nobody.
func TestWrittenByHand(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t, nil)
	w.hook("a", document(r.URL))
	w.lead()
	first := w.happen(1, 1)
	until(t, "it is under way", func() bool { return slices.Equal(r.ids(), first) })
	for key, e := range map[string]events.Event{
		"x":   {ID: "x", Cluster: "c", Kind: events.VIPTaken},
		"7-0": {ID: "8-0", Cluster: "c", Kind: events.VIPTaken},
		"9-0": {ID: "9-0", Cluster: "a.b", Kind: events.VIPTaken},
		"5-0": {ID: "5-0", Cluster: "c", Kind: "leader.changed\r\nX: y"},
	} {
		value, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		w.put(map[string][]byte{l.EventKey("c", key): value})
	}
	w.put(map[string][]byte{l.EventKey("c", "6-0"): []byte("not JSON")})
	next := w.happen(1, 1)
	until(t, "the next one came", func() bool { return len(r.ids()) > 1 })
	if got, want := r.ids(), append(first, next...); !slices.Equal(got, want) {
		t.Errorf("it got %v, want %v", got, want)
	}
}

// TestARemovedHookWritesNoMore: how far a hook came is not written once its document is gone: a cluster that was removed
// leaves nothing behind, whatever its hooks were at.
func TestARemovedHookWritesNoMore(t *testing.T) {
	w := newWorld(t)
	r, other := newReceiver(t, nil), newReceiver(t, nil)
	w.hook("gone", "events: [backup.failed]\nwebhook: {url: "+r.URL+"}")
	w.hook("busy", document(other.URL))
	w.lead()
	last := w.happen(1, 1, func(e *events.Event) { e.Kind = events.BackupFailed })
	until(t, "it got what it wants", func() bool { return slices.Equal(r.ids(), last) })
	w.happen(5, 5) // which it passes, and would write where it is when it stops
	until(t, "the other has them too", func() bool { return len(other.ids()) == 6 })
	if _, err := w.client.Commit(t.Context(), nil, []store.Op{
		store.Delete(l.ClusterDoc("c", "hooks/gone")), store.Delete(l.DeliveryState("c", "gone")),
	}); err != nil {
		t.Fatal(err)
	}
	w.resign()
	if _, ok, err := w.client.Get(t.Context(), l.DeliveryState("c", "gone")); ok || err != nil {
		t.Errorf("it is written: %+v, %v", w.state("gone"), err)
	}
}

package eventlog

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// TestR7DeposedStreamWritesNothing: a server that does not lead any more, and does not know it yet,
// writes no event and moves no cursor.
func TestR7DeposedStreamWritesNothing(t *testing.T) {
	f := newFleet(t)
	client, err := store.Connect(t.Context(), store.Options{Endpoints: f.etc.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	l, err := client.Campaign(context.Background(), layout.ElectionKey(), "test", 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Client: client, Layout: layout})
	if err != nil {
		t.Fatal(err)
	}
	j, err := s.open(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	at := f.cursor()
	if err := l.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := events.Event{Schema: events.Schema, ID: "99999-0", Cluster: "c", Kind: events.LeaderLost}
	if err := j.commit(t.Context(), []events.Event{e}, 99999); !errors.Is(err, store.ErrConflict) {
		t.Errorf("it wrote: %v", err)
	}
	if got := f.events("c"); len(got) > 0 || f.cursor() != at {
		t.Errorf("there are %v, the cursor is at %s and was at %s", got, f.cursor(), at)
	}
}

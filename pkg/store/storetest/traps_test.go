package storetest_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// TestTrap_CancelStorm: cancelling very many watches at once on one stream hangs that
// stream, and every later watch on it, for good (etcd #18879; 50,000 watches over TCP,
// measured). A mirror has one watch for each prefix and no more, whatever is under
// it, so a thousand mirrors that end at once stay far below that; and one that begins
// on the same stream in the middle of it follows.
func TestTrap_CancelStorm(t *testing.T) {
	s := etcdtest.Start(t)
	c, err := store.Connect(t.Context(), store.Options{Endpoints: s.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	follow := func(ctx context.Context, i int) (*store.Mirror, chan struct{}) {
		m := store.NewMirror(c, store.MirrorOptions{
			Name: "m", Stream: "fast", ProbeEvery: time.Hour, // the watches are the point
			Prefixes: []string{fmt.Sprintf("/a/%d/", i), fmt.Sprintf("/b/%d", i), fmt.Sprintf("/c/%d/", i)},
		})
		done := make(chan struct{})
		go func() { defer close(done); _ = m.Run(ctx) }()
		return m, done
	}
	const crowd = 1000
	storm, end := context.WithCancel(t.Context())
	var over sync.WaitGroup
	for i := range crowd {
		m, done := follow(storm, i)
		over.Go(func() { <-done })
		if i%100 == 99 {
			<-m.Ready()
		}
	}
	end()
	ctx, cancel := context.WithCancel(t.Context())
	late, done := follow(ctx, crowd)
	t.Cleanup(func() { cancel(); <-done })
	<-late.Ready()
	if _, err := s.Client(t).Put(ctx, fmt.Sprintf("/a/%d/x", crowd), "1"); err != nil {
		t.Fatal(err)
	}
	until(t, "a mirror on the same stream follows", func() bool {
		_, ok := late.Snapshot().Get(fmt.Sprintf("/a/%d/x", crowd))
		return ok
	})
	if n := late.Relists(); n > 0 {
		t.Errorf("it had to list again %d times", n)
	}
	over.Wait()
}

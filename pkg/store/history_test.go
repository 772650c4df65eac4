package store_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/store/model"
)

// TestTrap_MuteHistory: streams that hang say nothing and report nothing. What is written meanwhile
// is handed over all the same, a little later, in order and once; so is what is written while a
// link is cut.
func TestTrap_MuteHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := model.New()
		h := store.NewHistory(client(t, s, "c"), "events", 1, "/a/", "/b/")
		var mu sync.Mutex
		var got []string
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = h.Run(ctx, func(m store.Moment) error { // it ends with its context
				mu.Lock()
				defer mu.Unlock()
				for _, c := range m.Changes {
					got = append(got, c.Key)
				}
				return nil
			})
		}()
		has := func(want ...string) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(got, want) {
				t.Errorf("handed over %q, want %q", got, want)
			}
		}
		s.Put("/a/1", "x")
		time.Sleep(time.Second)
		has("/a/1")
		s.DropWatch("c")
		s.Put("/b/2", "x")
		s.Put("/a/3", "x")
		time.Sleep(5 * time.Second)
		has("/a/1")
		time.Sleep(20 * time.Second)
		has("/a/1", "/b/2", "/a/3")
		time.Sleep(time.Hour) // at rest it says nothing and stays
		s.Put("/b/4", "x")
		time.Sleep(100 * time.Millisecond)
		has("/a/1", "/b/2", "/a/3", "/b/4")
		s.Cut("c")
		s.Put("/a/5", "x")
		time.Sleep(time.Minute)
		s.Heal("c")
		time.Sleep(30 * time.Second)
		has("/a/1", "/b/2", "/a/3", "/b/4", "/a/5")
		stop()
		<-ended
	})
}

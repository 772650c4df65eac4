package store_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/store/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client returns a client of the model that is closed before its bubble ends.
func client(t *testing.T, s *model.Server, name string) *store.Client {
	t.Helper()
	c := s.Client(name)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// run runs a mirror until the test ends; announced returns what it said.
func run(t *testing.T, c *store.Client, o store.MirrorOptions) (m *store.Mirror, announced func() []string) {
	t.Helper()
	m = store.NewMirror(c, o)
	var log []string
	m.OnChange(func(rev int64, cs []store.Change) {
		for _, c := range cs {
			verb := "put"
			if c.New == nil {
				verb = "delete"
			}
			log = append(log, fmt.Sprintf("%s %s", verb, c.Key))
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	<-m.Ready()
	// The bubble is idle whenever this is called, so nobody writes to log.
	return m, func() []string { synctest.Wait(); return slices.Clone(log) }
}

// age is how old the mirror's proof of freshness is.
func age(m *store.Mirror) time.Duration {
	at, _ := m.Fresh()
	return time.Since(at)
}

func has(m *store.Mirror, key string) bool {
	_, ok := m.Snapshot().Get(key)
	return ok
}

package server

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// presenceTTL is how long a server that died counts as one that stands by: twice the
// election's lease, for nothing hangs on it.
const presenceTTL = 10 * time.Second

// announce keeps this server's presence, so that status can say who would take over.
// It returns nil when ctx ends.
func (s *server) announce(ctx context.Context, c *store.Client, e controlling) error {
	var notes atomic.Pointer[[]observed.Condition]
	news := make(chan struct{}, 1)
	notes.Store(&[]observed.Condition{})
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		s.watchDisk(ctx, c, func(cs []observed.Condition) {
			notes.Store(&cs)
			select {
			case news <- struct{}{}:
			default: // it is about to look
			}
		})
	})
	err := c.Keep(ctx, store.Presence{
		Key: s.Layout.ServerKey(s.ID), TTL: presenceTTL, Poke: news,
		Value: func() []byte {
			return observed.Encode(observed.Server{
				Schema: observed.Schema, ID: s.ID, Version: version.String(), Warm: e.Ready() == nil, Notes: *notes.Load(),
			})
		},
	})
	if err != nil {
		return fmt.Errorf("announce this server: %w", err)
	}
	return nil
}

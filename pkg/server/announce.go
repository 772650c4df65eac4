package server

import (
	"context"
	"fmt"
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
	err := c.Keep(ctx, store.Presence{
		Key: s.Layout.ServerKey(s.ID), TTL: presenceTTL,
		Value: func() []byte {
			return observed.Encode(observed.Server{
				Schema: observed.Schema, ID: s.ID, Version: version.String(), Warm: e.Ready() == nil,
			})
		},
	})
	if err != nil {
		return fmt.Errorf("announce this server: %w", err)
	}
	return nil
}

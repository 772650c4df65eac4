package pgbackrest

import (
	"context"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/postgres"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Heartbeat commits a row on the primary and waits until the archive has it. What was not
// archived when it was written is what a loss of the primary would have cost then.
func (d *Driver) Heartbeat(ctx context.Context, cluster string, port int, id string) (observed.Heartbeat, error) {
	at, window, err := postgres.Config{Port: port}.Heartbeat(ctx, id)
	if err != nil {
		return observed.Heartbeat{}, err
	}
	began := time.Now()
	lsn, err := d.Archive(ctx, cluster, port)
	if err != nil {
		return observed.Heartbeat{}, err
	}
	return observed.Heartbeat{ID: id, At: at.UTC(), Window: window.Seconds(), Archived: time.Since(began).Seconds(), LSN: lsn}, nil
}

package postgres

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestSwitchCommits: without a commit behind it no moment of an idle cluster can be restored.
func TestSwitchCommits(t *testing.T) {
	s := newServer(t)
	s.start()
	next := func() (xid int64) {
		err := s.cfg.withConn(t.Context(), func(ctx context.Context, c *pgx.Conn) error {
			return c.QueryRow(ctx, "select pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot())").Scan(&xid)
		})
		if err != nil {
			t.Fatal(err)
		}
		return xid
	}
	before := next()
	if lsn, segment, err := s.cfg.SwitchWAL(t.Context()); err != nil || segment == "" {
		t.Fatal(lsn, segment, err)
	}
	if after := next(); after <= before {
		t.Errorf("no transaction was committed: %d, then %d", before, after)
	}
}

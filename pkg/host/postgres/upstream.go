package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgctrl/pgctrl/pkg/wal"
)

// upstreamWithin bounds the whole conversation with a primary over the network.
const upstreamWithin = 10 * time.Second

// Upstream is what a primary says of itself to who may replicate from it.
type Upstream struct {
	// System is its system identifier, Timeline the one that it writes on, Position how far
	// it has written, in bytes.
	System   string
	Timeline uint32
	Position uint64
	// Segment is how large a segment of WAL is, in bytes.
	Segment uint64
	// History are the timelines that this one came out of, the oldest first.
	History []wal.Switch
}

// AskUpstream asks a primary by a connection string as libpq has it, with PGPASSFILE of the
// environment. A role that may replicate and nothing else is enough.
func AskUpstream(ctx context.Context, conninfo string) (u Upstream, err error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamWithin)
	defer cancel()
	cfg, err := pgconn.ParseConfig(conninfo)
	if err != nil {
		return u, fmt.Errorf("ask the primary: %w", err)
	}
	// Words of libpq that pgx does not know would be sent as settings, and refused.
	cfg.RuntimeParams = map[string]string{"replication": "true", "application_name": "pgagent"}
	cfg.ConnectTimeout = upstreamWithin
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return u, fmt.Errorf("ask the primary: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	is, err := oneRow(ctx, conn, "IDENTIFY_SYSTEM", 3)
	if err != nil {
		return u, err
	}
	u.System = is[0]
	timeline, err := strconv.ParseUint(is[1], 10, 32)
	if err != nil {
		return u, fmt.Errorf("ask the primary: its timeline is %q", is[1])
	}
	u.Timeline = uint32(timeline)
	if u.Position, err = wal.ParseLSN(is[2]); err != nil {
		return u, fmt.Errorf("ask the primary: %w", err)
	}
	size, err := oneRow(ctx, conn, "SHOW wal_segment_size", 1)
	if err != nil {
		return u, err
	}
	if u.Segment, err = megabytes(size[0]); err != nil || u.Timeline < 2 {
		return u, err
	}
	history, err := oneRow(ctx, conn, fmt.Sprintf("TIMELINE_HISTORY %d", u.Timeline), 2)
	if err != nil {
		return u, err
	}
	if u.History, err = wal.ParseHistory(history[1]); err != nil {
		return u, fmt.Errorf("ask the primary: %w", err)
	}
	return u, nil
}

// oneRow runs a command of the replication protocol that answers with one row of at least n
// columns.
func oneRow(ctx context.Context, conn *pgconn.PgConn, command string, n int) ([]string, error) {
	results, err := conn.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("ask the primary: %s: %w", command, err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < n {
		return nil, fmt.Errorf("ask the primary: %s has another answer than one row of %d columns", command, n)
	}
	out := make([]string, 0, n)
	for _, v := range results[0].Rows[0] {
		out = append(out, string(v))
	}
	return out, nil
}

// megabytes reads what SHOW wal_segment_size says: 1MB to 1GB.
func megabytes(s string) (uint64, error) {
	for unit, factor := range map[string]uint64{"MB": 1 << 20, "GB": 1 << 30} {
		if n, err := strconv.ParseUint(strings.TrimSuffix(s, unit), 10, 16); err == nil && strings.HasSuffix(s, unit) && n > 0 {
			return n * factor, nil
		}
	}
	return 0, fmt.Errorf("ask the primary: its wal_segment_size is %q", s)
}

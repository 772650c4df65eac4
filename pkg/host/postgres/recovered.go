package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// Recovered is what a database says of its recovery, once that has ended.
type Recovered struct {
	// LSN is where the last record ends that was replayed, At the time of the last
	// transaction in it; the zero time: there was none.
	LSN      string
	At       time.Time
	Timeline int64
	System   string
	// Heartbeat is when the heartbeat that was asked for was written; the zero time: it is
	// not there.
	Heartbeat time.Time
}

// ErrRecovering is the answer of a database that takes no connections yet.
var ErrRecovering = errors.New("PostgreSQL is not through with its recovery")

// Recovered asks a database that was just promoted. heartbeat is the id of one that is to be
// found; empty: none is.
func (c Config) Recovered(ctx context.Context, heartbeat string) (r Recovered, err error) {
	err = c.withConn(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		// What was replayed last stays to be seen after the promotion.
		const q = `select pg_catalog.pg_is_in_recovery(), coalesce(pg_catalog.pg_last_wal_replay_lsn()::text, ''),
		    coalesce(pg_catalog.pg_last_xact_replay_timestamp(), 'epoch'), s.system_identifier::text
		  from pg_catalog.pg_control_system() s`
		var recovering bool
		if err := conn.QueryRow(ctx, q).Scan(&recovering, &r.LSN, &r.At, &r.System); err != nil {
			return err
		}
		if recovering {
			return ErrRecovering
		}
		r.At = never(r.At)
		// The control file has the new timeline only after the next checkpoint.
		const tl = `select ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint`
		if err := conn.QueryRow(ctx, tl).Scan(&r.Timeline); err != nil || heartbeat == "" {
			return err
		}
		var there bool
		if err := conn.QueryRow(ctx, "select pg_catalog.to_regclass('pgctrl.heartbeat') is not null").Scan(&there); err != nil || !there {
			return err
		}
		err := conn.QueryRow(ctx, "select at from pgctrl.heartbeat where id = $1", heartbeat).Scan(&r.Heartbeat)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil && refusedConnection(err) {
		return Recovered{}, ErrRecovering
	}
	return r, err
}

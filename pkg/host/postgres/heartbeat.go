package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// HeartbeatsKept is how many rows the table of heartbeats has.
const HeartbeatsKept = 16

// heartbeatSettings: the row is for the archive, so it waits for no replica that is away, and it
// is written whatever sessions begin with.
var heartbeatSettings = map[string]string{"synchronous_commit": "local", "default_transaction_read_only": "off"}

// window is for how long the oldest write that is in no archive has been there, at most: since
// the newest segment that is archived was finished. PostgreSQL marks that one the moment it is
// finished and renames the mark when it is archived, which leaves the mark's time as it was. A
// checkpoint may have removed the mark with its segment, which is archived within a second or
// so then. A segment that has nothing behind its header has nothing to lose.
const window = `select case
    when s.waits = 0 and pg_catalog.mod(pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_lsn, w.setting::numeric) <= 40 then 0
    else greatest(0, extract(epoch from clock_timestamp() - coalesce(s.finished, nullif(a.last_archived_time, 'epoch'), s.waiting, pg_catalog.pg_postmaster_start_time())))
  end::float8
  from pg_catalog.pg_stat_get_archiver() a, pg_catalog.pg_settings w,
    (select count(*) filter (where name ~ '[.]ready$') as waits, min(modification) filter (where name ~ '[.]ready$') as waiting,
       max(modification) filter (where name ~ '^[0-9A-F]{24}[.]done$') as finished from pg_catalog.pg_ls_archive_statusdir()) s
  where w.name = 'wal_segment_size'`

// ErrNotOurs is a schema pgctrl that somebody else made.
var ErrNotOurs = errors.New("the schema pgctrl belongs to another role")

// Heartbeat commits a row under an id with the time, and says for how long the oldest write had been
// there that the archive did not have then.
func (c Config) Heartbeat(ctx context.Context, id string) (at time.Time, lag time.Duration, err error) {
	conn, err := c.connectWith(ctx, heartbeatSettings)
	if err != nil {
		return at, 0, err
	}
	defer closeConn(conn)
	var seconds float64
	if err := conn.QueryRow(ctx, window).Scan(&seconds); err != nil {
		return at, 0, err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var ours *bool
		const owner = `select (select r.rolname = current_user from pg_catalog.pg_namespace n join pg_catalog.pg_roles r on r.oid = n.nspowner where n.nspname = 'pgctrl')`
		if err := tx.QueryRow(ctx, owner).Scan(&ours); err != nil {
			return err
		}
		if ours != nil && !*ours {
			return ErrNotOurs
		}
		for _, q := range []string{
			"create schema if not exists pgctrl",
			"create table if not exists pgctrl.heartbeat (id text primary key, at timestamptz not null)",
		} {
			if _, err := tx.Exec(ctx, q); err != nil {
				return err
			}
		}
		const write = `insert into pgctrl.heartbeat (id, at) values ($1, clock_timestamp())
		  on conflict (id) do update set at = excluded.at returning at`
		if err := tx.QueryRow(ctx, write, id).Scan(&at); err != nil {
			return err
		}
		const forget = `delete from pgctrl.heartbeat where id not in (select id from pgctrl.heartbeat order by at desc limit $1)`
		_, err := tx.Exec(ctx, forget, HeartbeatsKept)
		return err
	})
	return at, time.Duration(seconds * float64(time.Second)), err
}

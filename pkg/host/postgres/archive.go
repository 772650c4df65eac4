package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// ArchiveSettings is how a running server archives.
type ArchiveSettings struct {
	Mode    string // off, on or always
	Command string
}

// ArchiveSettings reads them.
func (c Config) ArchiveSettings(ctx context.Context) (s ArchiveSettings, err error) {
	err = c.withConn(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		const q = "select pg_catalog.current_setting('archive_mode'), pg_catalog.current_setting('archive_command')"
		return conn.QueryRow(ctx, q).Scan(&s.Mode, &s.Command)
	})
	return s, err
}

// SwitchWAL finishes the current segment. The position is where that ends, which is in the
// segment. A commit goes before it: recovery up to a moment ends at the first commit after
// that moment, and fails where there is none.
func (c Config) SwitchWAL(ctx context.Context) (lsn, segment string, err error) {
	err = c.withConn(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "select pg_catalog.txid_current()"); err != nil {
			return err
		}
		const q = "select s::text, pg_catalog.pg_walfile_name(s) from pg_catalog.pg_switch_wal() s"
		return conn.QueryRow(ctx, q).Scan(&lsn, &segment)
	})
	return lsn, segment, err
}

// Archived reports whether the archive has a finished segment: nothing of it waits. The
// server marks it as waiting before pg_switch_wal returns, and the mark of one that is done
// goes with the segment itself.
func (c Config) Archived(ctx context.Context, segment string) (done bool, err error) {
	err = c.withConn(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		const q = "select not exists (select from pg_catalog.pg_ls_archive_statusdir() where name = $1 || '.ready')"
		return conn.QueryRow(ctx, q, segment).Scan(&done)
	})
	return done, err
}

// archiveEvery is how often a primary is asked: it reads a folder.
const archiveEvery = 10 * time.Second

// archiving asks a primary; of all in one statement.
const archiving = `select pg_catalog.current_setting('archive_mode') <> 'off',
  r.n::int, coalesce(extract(epoch from clock_timestamp() - r.oldest), 0)::float8,
  coalesce(a.last_archived_time, 'epoch'), coalesce(a.last_failed_time, 'epoch'), coalesce(a.last_failed_wal, '')
from pg_catalog.pg_stat_get_archiver() a,
  (select count(*) as n, min(modification) as oldest from pg_catalog.pg_ls_archive_statusdir() where name like '%.ready') r`

// lookArchiving fills in State.Archiving on a primary.
func (w *Watcher) lookArchiving(ctx context.Context, s *State) error {
	if s.InRecovery || s.At.Sub(w.archiveAt) < archiveEvery {
		return nil
	}
	w.archiveAt = s.At
	var a observed.Archiving
	var waits float64
	err := w.line.conn.QueryRow(ctx, archiving).Scan(&a.On, &a.Ready, &waits, &a.Archived, &a.Failed, &a.Segment)
	if err != nil {
		return err
	}
	a.Waits = max(0, time.Duration(waits*float64(time.Second)))
	a.Archived, a.Failed = never(a.Archived), never(a.Failed)
	w.archiving = a
	return nil
}

// never makes the epoch the zero time.
func never(t time.Time) time.Time {
	if t.Unix() <= 0 {
		return time.Time{}
	}
	return t
}

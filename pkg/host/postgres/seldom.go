package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// seldomEvery is how often what changes seldom is looked at, and only at the slow pace,
// where nobody waits for the answer.
const seldomEvery = 5 * time.Second

// lookSeldom fills in State.Altered and State.Archiving, and ends sessions of roles that
// are gone. Whatever PostgreSQL says to that, it answered, and that is what the state is
// about: only a lost connection is an error.
func (w *Watcher) lookSeldom(ctx context.Context, s *State) error {
	if !w.fast.Load() && s.At.Sub(w.seldomAt) >= seldomEvery {
		w.seldomAt = s.At
		ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
		defer cancel()
		archiving := func(ctx context.Context, _ *pgx.Conn) error { return w.lookArchiving(ctx, s) }
		for _, l := range []struct {
			what string
			look func(context.Context, *pgx.Conn) error
		}{
			{"what ALTER SYSTEM set is not known", w.altered.look},
			{"sessions of dropped roles are not known", w.endOrphans},
			{"how far the archive is behind is not known", archiving},
		} {
			err := l.look(ctx, w.line.conn)
			var said *pgconn.PgError
			if err != nil && !errors.As(err, &said) {
				return err
			}
			if err != nil {
				w.log.Warn(l.what, zap.Error(err))
			}
		}
	}
	if s.InRecovery {
		w.archiving, w.archiveAt = observed.Archiving{}, time.Time{}
	}
	s.Altered, s.Archiving = w.altered.names, w.archiving
	return nil
}

// orphans ends the sessions of roles that do not exist any more. PostgreSQL leaves them
// open, with the rights they had, and a pooler gives them to the next user of that name.
const orphans = `select count(pg_catalog.pg_terminate_backend(a.pid)) from pg_catalog.pg_stat_get_activity(null) a
  where a.usesysid <> 0 and not exists (select from pg_catalog.pg_authid r where r.oid = a.usesysid)`

// endOrphans is for roles dropped by hand, and on the primary of a replica: the
// driver that drops one ends its sessions on its own server at once.
func (w *Watcher) endOrphans(ctx context.Context, conn *pgx.Conn) error {
	var n int
	if err := conn.QueryRow(ctx, orphans).Scan(&n); err != nil {
		return err
	}
	if n > 0 {
		w.log.Info("sessions ended whose role was dropped", zap.Int("sessions", n))
	}
	return nil
}

package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
)

// alteredEvery is how often the file of ALTER SYSTEM is looked at: one stat, and only
// at the slow pace, where nobody waits for the answer.
const alteredEvery = 5 * time.Second

// altered is what was last seen of postgresql.auto.conf.
type altered struct {
	lookedAt, modified time.Time
	names              string
	young              bool // it was, when names was read
}

// lookAltered fills in State.Altered. Names only: a value may be a password (R11).
// Whatever PostgreSQL says to that, it answered, and that is what the state is about:
// only a lost connection is an error.
func (w *Watcher) lookAltered(ctx context.Context, s *State) error {
	a := &w.altered
	if !w.fast.Load() && s.At.Sub(a.lookedAt) >= alteredEvery {
		a.lookedAt = s.At
		ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
		defer cancel()
		err := a.look(ctx, w.line.conn)
		var said *pgconn.PgError
		if err != nil && !errors.As(err, &said) {
			return err
		}
		if err != nil {
			w.log.Warn("what ALTER SYSTEM set is not known", zap.Error(err))
		}
	}
	s.Altered = a.names
	return nil
}

func (a *altered) look(ctx context.Context, conn *pgx.Conn) error {
	// pg_stat_file tells whole seconds, so a file that is younger than that may change
	// once more without another time to show for it.
	const stat = `select m, m > pg_catalog.clock_timestamp() - interval '2 s'
	  from (select coalesce((pg_catalog.pg_stat_file('postgresql.auto.conf', true)).modification, 'epoch') as m) f`
	var modified time.Time
	var young bool
	if err := conn.QueryRow(ctx, stat).Scan(&modified, &young); err != nil {
		return err
	}
	if modified.Equal(a.modified) && !a.young {
		return nil
	}
	const names = `select coalesce(string_agg(distinct f.name, ', ' order by f.name), '') from pg_catalog.pg_file_settings f
	  where f.sourcefile = pg_catalog.current_setting('data_directory') || '/postgresql.auto.conf'`
	if err := conn.QueryRow(ctx, names).Scan(&a.names); err != nil {
		return err
	}
	a.modified, a.young = modified, young
	return nil
}

package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// alteredEvery is how often the file of ALTER SYSTEM is looked at: one stat, and only
// at the slow pace, where nobody waits for the answer.
const alteredEvery = 2 * time.Second

// altered is what was last seen of postgresql.auto.conf.
type altered struct {
	lookedAt, modified time.Time
	names              string
	young              bool // it was, when names was read
}

// lookAltered fills in State.Altered. Names only: a value may be a password (R11).
func (w *Watcher) lookAltered(ctx context.Context, conn *pgx.Conn, slow bool, s *State) error {
	a := &w.altered
	if slow && s.At.Sub(a.lookedAt) >= alteredEvery {
		// pg_stat_file tells whole seconds, so a file that is younger than that may change
		// once more without another time to show for it.
		const stat = `select m, m > pg_catalog.clock_timestamp() - interval '2 s'
		  from (select coalesce((pg_catalog.pg_stat_file('postgresql.auto.conf', true)).modification, 'epoch') as m) f`
		var modified time.Time
		var young bool
		if err := conn.QueryRow(ctx, stat).Scan(&modified, &young); err != nil {
			return err
		}
		if !modified.Equal(a.modified) || a.young {
			const names = `select coalesce(string_agg(distinct f.name, ', ' order by f.name), '') from pg_catalog.pg_file_settings f
			  where f.sourcefile = pg_catalog.current_setting('data_directory') || '/postgresql.auto.conf'`
			if err := conn.QueryRow(ctx, names).Scan(&a.names); err != nil {
				return err
			}
			a.modified, a.young = modified, young
		}
		a.lookedAt = s.At
	}
	s.Altered = a.names
	return nil
}

package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// altered is what was last seen of postgresql.auto.conf, and when.
type altered struct {
	modified time.Time
	names    string
	young    bool // it was, when names was read
}

// look reads names only: a value may be a password (R11). One stat, while nothing changes.
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

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgctrl/pgctrl/internal/beat"
)

// Config says where the local PostgreSQL is. The zero value of a field is its
// default; the port has none that could be right for every cluster of a node.
type Config struct {
	Dir  string // folder of the unix socket
	Port int
	// User must be a superuser that the operating system user of this program may
	// be: through the peer map "pgctrl", root may be postgres.
	User, Database string
	// Timeout bounds connecting, and every single question.
	Timeout time.Duration
	// Beat is when a Watcher asks while nothing is expected to happen.
	Beat beat.Beat
}

// The defaults of Config.
const (
	DefaultDir     = "/var/run/postgresql"
	DefaultPort    = 5432
	DefaultUser    = "postgres"
	DefaultTimeout = 2 * time.Second
)

func (c Config) withDefaults() Config {
	set(&c.Dir, DefaultDir)
	set(&c.User, DefaultUser)
	set(&c.Database, "postgres")
	set(&c.Port, DefaultPort)
	set(&c.Timeout, DefaultTimeout)
	return c
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// String names the server for messages.
func (c Config) String() string {
	c = c.withDefaults()
	return fmt.Sprintf("PostgreSQL on %s port %d", c.Dir, c.Port)
}

// connect opens a connection. Environment and passwords play no part in it, and
// nobody's search_path can put another function in place of those asked for.
func (c Config) connect(ctx context.Context) (*pgx.Conn, error) {
	return c.connectWith(ctx, nil)
}

// connectWith adds settings of the session.
func (c Config) connectWith(ctx context.Context, settings map[string]string) (*pgx.Conn, error) {
	c = c.withDefaults()
	pc, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s sslmode=disable application_name=pgagent",
		c.Dir, c.Port, c.User))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c, err)
	}
	pc.Database, pc.ConnectTimeout = c.Database, c.Timeout
	pc.RuntimeParams["search_path"] = "pg_catalog"
	pc.RuntimeParams["statement_timeout"] = strconv.Itoa(int(c.Timeout.Milliseconds()))
	pc.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	maps.Copy(pc.RuntimeParams, settings)
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c, err)
	}
	return conn, nil
}

// refusedConnection reports whether an error says that PostgreSQL takes no
// connections: there is no socket, nobody listens on it, or it starts, stops or recovers.
func refusedConnection(err error) bool {
	var said *pgconn.PgError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) || errors.As(err, &said) && said.Code == cannotConnectNow
}

// cannotConnectNow is PostgreSQL's SQLSTATE of the same name.
const cannotConnectNow = "57P03"

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}

// LoadedAt is when PostgreSQL last read its configuration files, by its own clock.
func (c Config) LoadedAt(ctx context.Context) (at time.Time, err error) {
	err = c.withConn(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select pg_catalog.pg_conf_load_time()").Scan(&at)
	})
	return at, err
}

// FileErrors lists what is wrong in the configuration files as they are on disk
// now: settings that PostgreSQL would not take, and lines of pg_hba.conf and
// pg_ident.conf that it can't read. PostgreSQL goes on with what it had, and would
// not start with them. A setting that only waits for a restart is not wrong, nor is one that
// is gone from the files and waits for that: of such a one the text alone has the name.
func (c Config) FileErrors(ctx context.Context) (found []string, err error) {
	const settings = `select coalesce(f.sourcefile, ''), coalesce(f.sourceline, 0), coalesce(f.name || ': ', '') || f.error
	  from pg_catalog.pg_file_settings f left join pg_catalog.pg_settings s on lower(s.name) = lower(f.name)
	  where f.error is not null and not coalesce(s.pending_restart, false)
	    and not (f.name is null and exists (select from pg_catalog.pg_settings p where p.pending_restart and strpos(f.error, '"' || p.name || '"') > 0))`
	// The document that a line came from stands behind it.
	const hba = `select 'pg_hba.conf', coalesce(line_number, 0), coalesce(substring(lines[line_number] from '# (hba/[^ ]+)$') || ': ', '') || error
	  from pg_catalog.pg_hba_file_rules,
	    pg_catalog.string_to_array(pg_catalog.pg_read_file(pg_catalog.current_setting('hba_file')), E'\n') as lines
	  where error is not null`
	const ident = `select 'pg_ident.conf', coalesce(line_number, 0), error from pg_catalog.pg_ident_file_mappings where error is not null`
	err = c.withConn(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		queries := []string{settings, hba}
		if major(conn) >= 15 {
			queries = append(queries, ident)
		}
		for _, q := range queries {
			rows, err := conn.Query(ctx, q)
			if err != nil {
				return err
			}
			lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
				var file, what string
				var line int
				err := row.Scan(&file, &line, &what)
				return fmt.Sprintf("%s line %d: %s", file, line, what), err
			})
			if err != nil {
				return err
			}
			found = append(found, lines...)
		}
		return nil
	})
	return found, err
}

func major(conn *pgx.Conn) int {
	v := conn.PgConn().ParameterStatus("server_version")
	n, _ := strconv.Atoi(v[:len(v)-len(strings.TrimLeft(v, "0123456789"))])
	return n
}

func (c Config) withConn(ctx context.Context, do func(context.Context, *pgx.Conn) error) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if err := do(ctx, conn); err != nil {
		return fmt.Errorf("ask %s: %w", c, err)
	}
	return nil
}

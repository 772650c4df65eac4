package postgres

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/pgctrl/pgctrl/pkg/desired"
)

// Settings lists what the server says of its parameters.
func (c Config) Settings(ctx context.Context) (out []desired.Setting, err error) {
	err = c.withConn(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		out, err = settings(ctx, conn)
		return err
	})
	return out, err
}

// RemoteSettings asks a server over the network, as its superuser.
func RemoteSettings(ctx context.Context, address string, port int, password string) ([]desired.Setting, error) {
	where := net.JoinHostPort(address, strconv.Itoa(port))
	fail := func(err error) ([]desired.Setting, error) {
		return nil, fmt.Errorf("ask PostgreSQL at %s for its parameters: %w", where, err)
	}
	u := url.URL{Scheme: "postgres", Host: where, Path: "/postgres", RawQuery: "sslmode=prefer&application_name=pgctrl"}
	pc, err := pgx.ParseConfig(u.String())
	if err != nil {
		return fail(err)
	}
	pc.User, pc.Password, pc.ConnectTimeout = DefaultUser, password, DefaultTimeout
	pc.RuntimeParams["search_path"] = "pg_catalog"
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, pc)
	if err != nil {
		return fail(err)
	}
	defer closeConn(conn)
	out, err := settings(ctx, conn)
	if err != nil {
		return fail(err)
	}
	return out, nil
}

func settings(ctx context.Context, conn *pgx.Conn) ([]desired.Setting, error) {
	rows, err := conn.Query(ctx, `select name, vartype, coalesce(unit, ''), coalesce(min_val, ''), coalesce(max_val, ''), coalesce(enumvals, '{}'), context
	  from pg_catalog.pg_settings`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s desired.Setting, err error) {
		return s, row.Scan(&s.Name, &s.Type, &s.Unit, &s.Min, &s.Max, &s.Enum, &s.Context)
	})
}

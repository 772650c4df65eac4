package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// world is what all databases share, at one moment.
type world struct {
	Recovery  bool            `json:"recovery"`
	User      string          `json:"user"`
	Counting  bool            `json:"counting"` // PostgreSQL counts what is written
	Roles     []roleState     `json:"roles"`
	AllRoles  []string        `json:"all_roles"`
	Databases []databaseState `json:"databases"`
}

func (w *world) role(name string) *roleState {
	i := slices.IndexFunc(w.Roles, func(r roleState) bool { return r.Name == name })
	if i < 0 {
		return nil
	}
	return &w.Roles[i]
}

func (w *world) database(name string) (databaseState, bool) {
	i := slices.IndexFunc(w.Databases, func(d databaseState) bool { return d.Name == name })
	if i < 0 {
		return databaseState{}, false
	}
	return w.Databases[i], true
}

// worldQuery is all that is asked of an idle cluster, every few seconds.
const worldQuery = `select pg_catalog.json_build_object(
  'recovery', pg_catalog.pg_is_in_recovery(), 'user', current_user, 'counting', current_setting('track_counts')::bool,
  'roles', (select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', r.rolname, 'superuser', r.rolsuper, 'createdb', r.rolcreatedb, 'createrole', r.rolcreaterole, 'inherit', r.rolinherit,
      'login', r.rolcanlogin, 'replication', r.rolreplication, 'bypassrls', r.rolbypassrls, 'limit', r.rolconnlimit,
      'until', case when isfinite(r.rolvaliduntil) then floor(extract(epoch from r.rolvaliduntil))::bigint end, 'password', r.rolpassword,
      'config', (select s.setconfig from pg_catalog.pg_db_role_setting s where s.setdatabase = 0 and s.setrole = r.oid),
      'member_of', (select pg_catalog.array_agg(g.rolname) from pg_catalog.pg_auth_members m
        join pg_catalog.pg_authid g on g.oid = m.roleid where m.member = r.oid),
      'comment', coalesce(pg_catalog.shobj_description(r.oid, 'pg_authid'), ''),
      'functions', (select pg_catalog.array_agg(f) from pg_catalog.unnest($2::text[]) f
        where r.rolname = any ($3::text[]) and pg_catalog.has_function_privilege(r.oid, 'pg_catalog.' || f, 'EXECUTE')))), '[]')
    from pg_catalog.pg_authid r where r.rolname = any ($1::text[])),
  'all_roles', (select pg_catalog.array_agg(r.rolname order by r.rolname) from pg_catalog.pg_authid r where r.rolname !~ '^(pg_|pgctrl_)'),
  'databases', (select pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', d.datname, 'owner', o.rolname, 'encoding', pg_catalog.pg_encoding_to_char(d.encoding), 'collate', d.datcollate,
      'connects', d.datallowconn, 'limit', d.datconnlimit,
      'config', (select s.setconfig from pg_catalog.pg_db_role_setting s where s.setdatabase = d.oid and s.setrole = 0),
      'comment', coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), ''),
      'written', pg_catalog.json_build_array(d.oid, pg_catalog.pg_stat_get_db_tuples_inserted(d.oid), pg_catalog.pg_stat_get_db_tuples_updated(d.oid),
        pg_catalog.pg_stat_get_db_tuples_deleted(d.oid), d.datacl::text, d.datdba)) order by d.datname)
    from pg_catalog.pg_database d join pg_catalog.pg_authid o on o.oid = d.datdba))::text`

// read asks for the world as it is now.
func (p *pass) read(ctx context.Context) error {
	var roles, functions, callers []string
	for _, r := range p.sql.Roles {
		roles = append(roles, r.Name)
		if len(r.Functions) > 0 {
			functions, callers = append(functions, r.Functions...), append(callers, r.Name)
		}
	}
	w, err := askJSON[world](ctx, p.o.conn, worldQuery, roles, functions, callers)
	switch {
	case err != nil:
		return fmt.Errorf("ask PostgreSQL for its roles and databases: %w", err)
	case w.Recovery:
		return errRecovery
	}
	p.world = w
	p.result.OtherRoles = others(w.AllRoles, func(name string) bool { return p.describes(name, false) })
	var names []string
	for _, d := range w.Databases {
		names = append(names, d.Name)
	}
	p.result.OtherDatabases = others(names, func(name string) bool { return p.describes(name, true) })
	return nil
}

const insideQuery = `select pg_catalog.json_build_object(
  'extensions', (select coalesce(pg_catalog.json_object_agg(e.extname, pg_catalog.json_build_object('schema', n.nspname, 'version', e.extversion)), '{}')
    from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace),
  'schemas', (select coalesce(pg_catalog.json_object_agg(n.nspname, r.rolname), '{}')
    from pg_catalog.pg_namespace n join pg_catalog.pg_roles r on r.oid = n.nspowner where n.nspname = any ($1::text[])),
  'locked', (select pg_catalog.json_build_object('owner', r.rolname, 'acl', ` + aclText + `)
    from pg_catalog.pg_namespace o join pg_catalog.pg_roles r on r.oid = o.nspowner
    cross join lateral (select coalesce(o.nspacl, pg_catalog.acldefault('n', o.nspowner)) as acl) l where o.nspname = 'pgctrl'),
  'lookup', (select pg_catalog.json_build_object('source', o.prosrc, 'result', pg_catalog.pg_get_function_result(o.oid), 'owner', r.rolname,
      'definer', o.prosecdef, 'config', o.proconfig, 'acl', ` + aclText + `)
    from pg_catalog.pg_proc o join pg_catalog.pg_namespace n on n.oid = o.pronamespace join pg_catalog.pg_roles r on r.oid = o.proowner
    cross join lateral (select coalesce(o.proacl, pg_catalog.acldefault('f', o.proowner)) as acl) l
    where n.nspname = 'pgctrl' and o.proname = 'user_lookup' and o.proargtypes = '25'::oidvector),
  'admits', exists (select from pg_catalog.pg_roles r where r.rolname = $2 and pg_catalog.has_database_privilege(r.oid, current_database(), 'CONNECT')),
  'named', exists (select from pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a join pg_catalog.pg_roles r on r.oid = a.grantee
    where d.datname = current_database() and r.rolname = $2 and a.privilege_type = 'CONNECT'),
  'grants', (select pg_catalog.json_agg(g.i) from (%s) g))::text`

// aclText lists an access list as grantee=privilege, in order.
const aclText = `(select pg_catalog.array_agg(coalesce(g.rolname, 'PUBLIC') || '=' || a.privilege_type order by (coalesce(g.rolname, 'PUBLIC') || '=' || a.privilege_type) collate "C")
  from pg_catalog.aclexplode(l.acl) a left join pg_catalog.pg_roles g on g.oid = a.grantee)`

// readInside asks for what the plan says of one database, over a connection to it.
func readInside(ctx context.Context, conn *pgx.Conn, want plan.Database, lookup string) (insideState, error) {
	var schemas []string
	for _, s := range want.Schemas {
		schemas = append(schemas, s.Name)
	}
	s, err := askJSON[insideState](ctx, conn, fmt.Sprintf(insideQuery, grantsQuery(want.Grants)), schemas, lookup)
	if err != nil {
		return s, fmt.Errorf("ask what is in it: %w", err)
	}
	return s, nil
}

// askJSON asks for one JSON text.
func askJSON[T any](ctx context.Context, conn *pgx.Conn, query string, args ...any) (T, error) {
	var v T
	var text string
	ctx, cancel := context.WithTimeout(ctx, sqlTimeout+time.Second)
	defer cancel()
	if err := conn.QueryRow(ctx, query, args...).Scan(&text); err != nil {
		return v, err
	}
	err := json.Unmarshal([]byte(text), &v)
	return v, err
}

package postgres

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// objects is a driver on a real PostgreSQL, with passwords by name.
type objects struct {
	*Objects
	s       *server
	secrets map[string]string
}

func newObjects(t *testing.T) *objects {
	t.Helper()
	s := newServer(t)
	s.write("pg_hba.conf", "local all postgres peer map=pgctrl\nlocal all all scram-sha-256\n")
	s.write("postgresql.auto.conf", s.settings()+"log_statement = all\nlogging_collector = on\nlog_directory = '"+s.dir+"'\n"+
		"log_filename = 'pg.log'\nlog_min_duration_statement = 0\npassword_encryption = 'scram-sha-256'\n")
	s.start()
	o := &objects{s: s, secrets: map[string]string{"pooler": "pool-er", "users/app": "app's password"}}
	o.Objects = NewObjects(ObjectOptions{Config: s.cfg, Secret: func(name string) ([]byte, bool) {
		v, ok := o.secrets[name]
		return []byte(v), ok
	}})
	t.Cleanup(o.Close)
	return o
}

// converge goes through the objects once and returns what changed, and the problems.
func (o *objects) converge(t *testing.T, sql plan.SQL) (changed string, problems []observed.Condition) {
	t.Helper()
	r, err := o.Converge(t.Context(), o.s.cfg.Port, sql, 1, plan.SQLRun{Repair: true})
	if err != nil {
		t.Fatal(err)
	}
	return describe(r.Changed), r.Problems
}

func describe(m map[string]string) string {
	var out []string
	for id, what := range m {
		out = append(out, id+": "+what)
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// so converges, wants no problem, and wants nothing left to do.
func (o *objects) so(t *testing.T, sql plan.SQL) string {
	t.Helper()
	changed, problems := o.converge(t, sql)
	if len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	r, err := o.Converge(t.Context(), o.s.cfg.Port, sql, 1, plan.SQLRun{Repair: true, Whole: true})
	if err != nil || len(r.Changed)+len(r.Differs)+len(r.Problems) > 0 {
		t.Fatalf("a second time: %v %v %v %v", r.Changed, r.Differs, r.Problems, err)
	}
	return changed
}

// login connects as a role with a password and asks one thing.
func (o *objects) login(t *testing.T, role, password, database, ask string) (answer string, err error) {
	t.Helper()
	cfg, _ := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d sslmode=disable", o.s.dir, o.s.cfg.Port))
	cfg.User, cfg.Password, cfg.Database = role, password, database
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.Background())
	err = conn.QueryRow(t.Context(), ask).Scan(&answer)
	return answer, err
}

func (o *objects) exec(t *testing.T, database, statement string) {
	t.Helper()
	cfg := o.s.cfg
	cfg.Database = database
	conn, err := cfg.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	if _, err := conn.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func user(name string) plan.Role {
	return plan.Role{Name: name, Key: "/pgctrl/desired/clusters/c/users/" + name, Password: "users/" + name, Login: true, Inherit: true, ConnectionLimit: -1}
}

func database(name, owner string) plan.Database {
	return plan.Database{Name: name, Key: "/pgctrl/desired/clusters/c/databases/" + name, Owner: owner, Template: "template1", ConnectionLimit: -1}
}

func pooled() plan.SQL {
	r := user("pgctrl_pooler")
	r.Key, r.Password = "", "pooler"
	return plan.SQL{SQL: "c", Lookup: "pgctrl_pooler", Roles: []plan.Role{r}}
}

// TestObjects is the life of a user and a database.
func TestObjects(t *testing.T) {
	o := newObjects(t)
	sql := pooled()
	app := user("app")
	app.MemberOf, app.ConnectionLimit, app.ValidUntil, app.Comment = []string{"pg_read_all_data"}, 7, "2090-01-31T00:00:00Z", "the shop's"
	app.Parameters = map[string]string{"statement_timeout": "30s", "search_path": "sales, public"}
	group := user("reader")
	group.Login, group.Password = false, ""
	sql.Roles = append(sql.Roles, app, group)
	shop := database("shop", "app")
	shop.Parameters = map[string]string{"work_mem": "8MB"}
	shop.Schemas = []plan.DatabaseSchema{{Name: "sales", Owner: "app"}}
	shop.Extensions = []plan.Extension{{Name: "plpgsql"}, {Name: "pg_trgm", Schema: "sales"}}
	shop.Grants = []plan.Grant{
		{Privileges: []string{"CONNECT"}, On: plan.OnDatabase, Role: "PUBLIC", Revoke: true},
		{Privileges: []string{"CONNECT"}, On: plan.OnDatabase, Role: "reader"},
		{Privileges: []string{"USAGE"}, On: plan.OnSchema, Schema: "sales", Role: "reader"},
		{Privileges: []string{"SELECT"}, On: plan.OnAllTables, Schema: "sales", Role: "reader"},
	}
	sql.Databases = []plan.Database{shop}
	t.Log(o.so(t, sql))

	if got, err := o.login(t, "app", "app's password", "shop", "select current_setting('search_path') || current_setting('work_mem') || current_setting('statement_timeout')"); err != nil || got != "sales, public8MB30s" {
		t.Errorf("login: %q %v", got, err)
	}
	if _, err := o.login(t, "app", "wrong", "shop", "select 1"); err == nil || !strings.Contains(err.Error(), "28P01") {
		t.Errorf("a wrong password: %v", err)
	}
	// The lookup is in every database, new and old, and for the pooler alone.
	for _, db := range []string{"shop", "postgres", "template1"} {
		kept, err := o.login(t, "pgctrl_pooler", "pool-er", db, "select usename || ' ' || passwd from pgctrl.user_lookup('app')")
		if err != nil || !strings.HasPrefix(kept, "app SCRAM-SHA-256$") {
			t.Errorf("lookup in %s: %q %v", db, kept, err)
		}
	}
	for _, who := range []string{"postgres", "pgctrl_pooler", "nobody"} {
		if n, err := o.login(t, "pgctrl_pooler", "pool-er", "postgres", "select count(*)::text from pgctrl.user_lookup('"+who+"')"); err != nil || n != "0" {
			t.Errorf("lookup of %s says %s %v", who, n, err)
		}
	}
	if _, err := o.login(t, "app", "app's password", "postgres", "select usename from pgctrl.user_lookup('app')"); err == nil || !strings.Contains(err.Error(), "42501") {
		t.Errorf("anybody may look up: %v", err)
	}
	// A table that comes later is among all tables.
	o.exec(t, "shop", "create table sales.t (i int); alter table sales.t owner to app")
	if changed, _ := o.converge(t, whole(o, sql)); !strings.Contains(changed, "GRANT SELECT ON ALL TABLES") {
		t.Errorf("a new table is not granted: %q", changed)
	}
	// Drift.
	for _, by := range []struct{ db, hand, want string }{
		{"postgres", "alter role app superuser", "nosuperuser"},
		{"postgres", "alter role app password 'x'", "password"},
		{"postgres", "alter role app reset statement_timeout", "statement_timeout = 30s"},
		{"postgres", "revoke pg_read_all_data from app", "member of pg_read_all_data"},
		{"postgres", "alter database shop owner to postgres", "owner app"},
		{"postgres", "drop role if exists reader2; alter role app connection limit 3", "connection limit 7"},
		{"shop", "drop extension pg_trgm", "extension pg_trgm"},
		{"shop", "alter schema sales owner to postgres", "schema sales owned by app"},
		{"shop", "drop function pgctrl.user_lookup(text)", "user_lookup"},
		{"template1", "grant execute on function pgctrl.user_lookup(text) to public", "user_lookup"},
		{"template1", "create or replace function pgctrl.user_lookup(name text) returns table(usename text, passwd text) language sql as 'select name, name'", "user_lookup"},
	} {
		o.exec(t, by.db, by.hand)
		if changed := o.so(t, whole(o, sql)); !strings.Contains(changed, by.want) {
			t.Errorf("%s: repaired %q, want %q", by.hand, changed, by.want)
		}
	}
	// What a document took back is taken back; what was granted by hand stays.
	o.exec(t, "postgres", "grant reader to app")
	sql.Roles[1].MemberOf, sql.Roles[1].Leaves = nil, []string{"pg_read_all_data"}
	sql.Roles[1].Parameters, sql.Roles[1].Resets = nil, []string{"search_path", "statement_timeout"}
	o.so(t, sql)
	if got, err := o.login(t, "app", "app's password", "shop", "select pg_has_role('reader', 'member')::text || pg_has_role('pg_read_all_data', 'member')::text"); err != nil || got != "truefalse" {
		t.Errorf("memberships %s %v", got, err)
	}
	// Another password.
	o.secrets["users/app"] = "another"
	o.so(t, sql)
	if _, err := o.login(t, "app", "another", "shop", "select 'x'"); err != nil {
		t.Errorf("the new password: %v", err)
	}
	// A role that owns something does not go; with its database gone it does.
	sql.Roles[1] = plan.Role{Name: "app", Key: app.Key, Absent: true}
	_, problems := o.converge(t, sql)
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "cannot be dropped because some objects depend on it") || problems[0].Next == "" || problems[0].Key != app.Key {
		t.Errorf("dropping an owner: %v", problems)
	}
	sql.Databases[0] = plan.Database{Name: "shop", Key: shop.Key, Absent: true}
	clear(o.failing)
	if changed := o.so(t, sql); !strings.Contains(changed, "database shop: dropped") || !strings.Contains(changed, "role app: dropped") {
		t.Errorf("dropped %q", changed)
	}
}

// whole has every database looked into next time.
func whole(o *objects, sql plan.SQL) plan.SQL {
	clear(o.looked)
	return sql
}

// TestOneBadObjectHoldsUpNoOther: what PostgreSQL refuses is said of that object, in
// its words, and is not tried again at once.
func TestOneBadObjectHoldsUpNoOther(t *testing.T) {
	o := newObjects(t)
	sql := pooled()
	bad, app := user("bad"), user("app")
	o.secrets["users/bad"] = "x"
	bad.MemberOf = []string{"nobody"}
	sql.Roles = append(sql.Roles, bad, app)
	shop := database("shop", "app")
	shop.Extensions = []plan.Extension{{Name: "no_such"}}
	shop.Schemas = []plan.DatabaseSchema{{Name: "a", Owner: "nobody"}, {Name: "b", Owner: "app"}}
	sql.Databases = []plan.Database{database("broken", "nobody"), shop}
	changed, problems := o.converge(t, sql)
	for _, want := range []string{"role app: made", "database shop: made", "schema b"} {
		if !strings.Contains(changed, want) {
			t.Errorf("%q is not among\n%s", want, changed)
		}
	}
	if strings.Contains(changed, "role bad") {
		t.Errorf("half a role was made:\n%s", changed)
	}
	var said []string
	for _, p := range problems {
		said = append(said, p.Message)
		if p.Status != observed.False || p.Reason != observed.Rejected || p.Key == "" || p.Next == "" {
			t.Errorf("problem %+v", p)
		}
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{
		`role bad: PostgreSQL says: role "nobody" does not exist`, `database broken: PostgreSQL says: role "nobody" does not exist`,
		`extension "no_such" is not available`, `schema a: PostgreSQL says: role "nobody" does not exist`,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not among\n%s", want, all)
		}
	}
	changed, again := o.converge(t, sql)
	if changed != "" || len(again) != len(problems) {
		t.Errorf("a second time: %q %v", changed, again)
	}
}

// TestR7SQLObjectsAreFenced: an older epoch acts no more, nor does one that lost its
// leadership on the way.
func TestR7SQLObjectsAreFenced(t *testing.T) {
	o := newObjects(t)
	run := func(at plan.Epoch, still bool) error {
		_, err := o.Converge(t.Context(), o.s.cfg.Port, pooled(), at, plan.SQLRun{Repair: true, Still: func() bool { return still }})
		return err
	}
	if err := run(5, false); err == nil {
		t.Error("it acts although it leads no more")
	}
	if _, err := o.login(t, "pgctrl_pooler", "pool-er", "postgres", "select 'x'"); err == nil {
		t.Error("a role was made")
	}
	if err := run(5, true); err != nil {
		t.Error(err)
	}
	if err := run(4, true); err == nil {
		t.Error("an older epoch acts")
	}
}

// TestR11NoVerifierIsSeen: neither the passwords nor what PostgreSQL keeps of them are
// in its log, although every statement is logged, or in its view of what others do.
func TestR11NoVerifierIsSeen(t *testing.T) {
	o := newObjects(t)
	sql := pooled()
	bad := user("app")
	bad.Parameters = map[string]string{"no_such_parameter": "1"} // it fails after the password
	sql.Roles = append(sql.Roles, bad)
	_, problems := o.converge(t, sql)
	if len(problems) != 1 {
		t.Fatalf("problems %v", problems)
	}
	o.exec(t, "postgres", "select 'this is logged'")
	seen, err := o.login(t, "pgctrl_pooler", "pool-er", "postgres", "select coalesce(string_agg(query, ' '), '') from pg_stat_activity")
	if err != nil {
		t.Fatal(err)
	}
	var log []byte // PostgreSQL's collector writes it in its own time
	for begun := time.Now(); !strings.Contains(string(log), "this is logged"); {
		if log, err = os.ReadFile(filepath.Join(o.s.dir, "pg.log")); err != nil || time.Since(begun) > 20*time.Second {
			t.Fatalf("the log does not say what is logged: %v", err)
		}
	}
	for _, text := range []string{seen, string(log), fmt.Sprint(problems)} {
		for _, secret := range []string{"SCRAM-SHA-256$", "pool-er", "app's password"} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is seen in %s", secret, text)
			}
		}
	}
}

// TestLogins: what a server lets in is found out by asking it, not by what was sent to it.
func TestLogins(t *testing.T) {
	o := newObjects(t)
	sql := pooled()
	twin := plan.Role{Name: "pgctrl_pooler_b", Password: "pooler_b", Login: true, Inherit: true, ConnectionLimit: -1, MemberOf: []string{"pgctrl_pooler"}}
	has := func(want string) {
		t.Helper()
		marks, err := o.Logins(t.Context(), o.s.cfg.Port, sql.Roles)
		if got := strings.Join(slices.Sorted(maps.Keys(marks)), " "); err != nil || got != want {
			t.Fatalf("it has %q, want %q (%v)", got, want, err)
		}
	}
	has("")
	o.so(t, sql)
	has("pgctrl_pooler")
	o.secrets["pooler_b"] = "the twin's"
	sql.Roles = append(sql.Roles, twin)
	has("pgctrl_pooler")
	o.so(t, sql)
	has("pgctrl_pooler pgctrl_pooler_b")
	// The twin may do what was granted to the first, and nothing else.
	lookup := "select count(*)::text from pgctrl.user_lookup('nobody')"
	if _, err := o.login(t, "pgctrl_pooler_b", "the twin's", "postgres", lookup); err != nil {
		t.Error(err)
	}
	if n, err := o.login(t, "pgctrl_pooler_b", "the twin's", "postgres", "select count(*)::text from pgctrl.user_lookup('rewind_b')"); err != nil || n != "0" {
		t.Errorf("lookup of rewind_b: %s %v", n, err)
	}
	before, _ := o.Logins(t.Context(), o.s.cfg.Port, sql.Roles)
	o.exec(t, "postgres", "alter role pgctrl_pooler_b password null")
	o.so(t, sql)
	again, err := o.Logins(t.Context(), o.s.cfg.Port, sql.Roles)
	if err != nil || again["pgctrl_pooler"] != before["pgctrl_pooler"] || again["pgctrl_pooler_b"] == before["pgctrl_pooler_b"] {
		t.Errorf("marks %v, and after one was made again %v (%v)", before, again, err)
	}
	o.secrets["pooler_b"] = "another"
	has("pgctrl_pooler")
	o.so(t, sql)
	// The former is closed: its password lets nobody in, the twin's still does.
	sql.Roles[0].Password, sql.Roles[0].Login, sql.Roles[0].NoPassword = "", false, true
	has("pgctrl_pooler_b")
	o.so(t, sql)
	has("pgctrl_pooler pgctrl_pooler_b")
	if _, err := o.login(t, "pgctrl_pooler", "pool-er", "postgres", "select 'in'"); err == nil {
		t.Error("the former password lets somebody in")
	}
	if _, err := o.login(t, "pgctrl_pooler_b", "another", "postgres", lookup); err != nil {
		t.Error(err)
	}
}

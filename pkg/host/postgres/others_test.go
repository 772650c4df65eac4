package postgres

import (
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/internal/scram"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestSettingsOfOwners: who owns a database sets what its sessions begin with. That
// neither keeps us from work in it nor from all that comes after it.
func TestSettingsOfOwners(t *testing.T) {
	for _, set := range []string{"default_transaction_read_only = on", "role = app"} {
		o := newObjects(t)
		sql := plan.SQL{SQL: "c", Roles: []plan.Role{user("app")}, Databases: []plan.Database{database("shop", "app"), database("zoo", "app")}}
		o.so(t, sql)
		o.exec(t, "postgres", "set role app; alter database shop set "+set)
		lookup := pooled()
		sql.Lookup, sql.Roles = lookup.Lookup, append(lookup.Roles, sql.Roles...)
		sql.Databases[0].Extensions = []plan.Extension{{Name: "pageinspect"}} // superusers alone may
		changed := o.so(t, whole(o, sql))
		for _, want := range []string{"shop: extension pageinspect", "shop: pgctrl.user_lookup", "zoo: pgctrl.user_lookup"} {
			if !strings.Contains(changed, want) {
				t.Errorf("%s: %q is not among\n%s", set, want, changed)
			}
		}
	}
}

// TestAllFunctionsAreNoProcedures: ALL FUNCTIONS says nothing of procedures, so that
// theirs are as they are is nothing to repair, again and again.
func TestAllFunctionsAreNoProcedures(t *testing.T) {
	o := newObjects(t)
	shop := database("shop", "app")
	sql := plan.SQL{SQL: "c", Roles: []plan.Role{user("app")}, Databases: []plan.Database{shop}}
	o.so(t, sql)
	o.exec(t, "shop", "create schema s; create procedure s.p() language sql as 'select 1'; create function s.f() returns int language sql as 'select 1'")
	for _, g := range []plan.Grant{{Role: "app"}, {Role: "PUBLIC", Revoke: true}} {
		g.Privileges, g.On, g.Schema = []string{"EXECUTE"}, plan.OnAllFunctions, "s"
		sql.Databases[0].Grants = []plan.Grant{g}
		if changed := o.so(t, whole(o, sql)); !strings.Contains(changed, "ALL FUNCTIONS IN SCHEMA s") {
			t.Errorf("the function's are not granted: %q", changed)
		}
	}
}

// TestPartsOfSeconds: PostgreSQL keeps them, and there is nothing to repair.
func TestPartsOfSeconds(t *testing.T) {
	o := newObjects(t)
	app := user("app")
	app.ValidUntil = "2090-01-31T00:00:00.9Z"
	sql := plan.SQL{SQL: "c", Roles: []plan.Role{app}}
	if changed := o.so(t, sql); !strings.Contains(changed, "valid until 2090") {
		t.Error(changed)
	}
}

// TestSchemaOfSomebodyElse: who may make schemas makes pgctrl before we do. Whatever is
// in it, PgBouncer asks our function, and nothing that somebody made is lost.
func TestSchemaOfSomebodyElse(t *testing.T) {
	const theirs = "create schema pgctrl; "
	const evil = " returns table(usename text, passwd text) language sql as $$ select name, 'evil'::text $$"
	for _, made := range []string{
		"create function pgctrl.user_lookup(name text)" + evil + "; create view public.v as select * from pgctrl.user_lookup('app')",
		"create procedure pgctrl.user_lookup(text) language sql as 'select 1'",
		"create function pgctrl.user_lookup(name text, i int default 1)" + evil,
	} {
		o := newObjects(t)
		sql := pooled()
		lookup := sql.Lookup
		sql.Lookup, sql.Roles = "", append(sql.Roles, user("app"))
		sql.Databases = []plan.Database{database("shop", "app")}
		o.so(t, sql)
		o.exec(t, "shop", "grant create on schema public to app; set role app; "+theirs+made)
		sql.Lookup = lookup
		o.so(t, whole(o, sql))
		got, err := o.login(t, "pgctrl_pooler", "pool-er", "shop", "select passwd from pgctrl.user_lookup('app')")
		if err != nil || !strings.HasPrefix(got, "SCRAM-SHA-256$") {
			t.Errorf("%s: the lookup says %q %v", made, got, err)
		}
		got, err = o.login(t, "app", "app's password", "shop", "select count(*)::text from pg_proc p join pg_roles r on r.oid = p.proowner where r.rolname = 'app'")
		if err != nil || got != "1" {
			t.Errorf("%s: %s of theirs are left, %v", made, got, err)
		}
	}
}

// TestPasswordsAsPostgreSQLReadsThem: a verifier of ours is one of the same password to
// PostgreSQL and its clients, whatever is in it.
func TestPasswordsAsPostgreSQLReadsThem(t *testing.T) {
	o := newObjects(t)
	for _, password := range []string{
		"plain", "½ cup", "ﬁx", "Ａ", "a\u00adb", "a\u00a0b", "a\u200bb", "a\u200db", "o\u0308", "№5", "€uro", "日本", "😀x",
		"\u0627\ufefba", "\ufefb", "½\ue000", "½\u0007", "\u00ad", "tab\t½", "😀½",
	} {
		o.exec(t, "postgres", "drop role if exists theirs; create role theirs password "+literal(password))
		kept, err := o.login(t, "postgres", "", "postgres", "select rolpassword from pg_authid where rolname = 'theirs'")
		if err != nil {
			t.Fatal(err)
		}
		if !scram.Verifies(kept, password) {
			t.Errorf("%q: PostgreSQL's verifier is not of it", password)
		}
	}
}

// TestOneOfAllTables: what is said of one table holds against what is said of all, for
// good and at no moment otherwise.
func TestOneOfAllTables(t *testing.T) {
	o := newObjects(t)
	sql := plan.SQL{SQL: "c", Roles: []plan.Role{user("app")}, Databases: []plan.Database{database("shop", "postgres")}}
	o.so(t, sql)
	o.exec(t, "shop", "create schema s; grant usage on schema s to app; create table s.one (i int); create table s.two (i int)")
	all := plan.Grant{Privileges: []string{"SELECT", "INSERT"}, On: plan.OnAllTables, Schema: "s", Role: "app"}
	one := plan.Grant{Privileges: []string{"SELECT"}, On: plan.OnTable, Schema: "s", Object: "one", Role: "app"}
	const ask = "select concat(has_table_privilege('s.one', 'select'), has_table_privilege('s.one', 'insert'), has_table_privilege('s.two', 'select'))"
	for _, c := range []struct {
		revokeAll bool
		want      string
	}{{false, "ftt"}, {true, "tff"}, {false, "ftt"}} {
		all.Revoke, one.Revoke = c.revokeAll, !c.revokeAll
		none := one
		none.Object = "none" // there is no such table: that holds up nothing
		sql.Databases[0].Grants = []plan.Grant{all, one}
		if none.Revoke {
			sql.Databases[0].Grants = append(sql.Databases[0].Grants, none)
		}
		for range 2 {
			o.so(t, whole(o, sql))
			if got, err := o.login(t, "app", "app's password", "shop", ask); err != nil || got != c.want {
				t.Errorf("all revoked %v: %s %v, want %s", c.revokeAll, got, err, c.want)
			}
		}
	}
}

// TestNamesWithBlanks: the report has names with blanks between, and "old app" in it would
// be a role app, which then counts as one with a password that nobody knows.
func TestNamesWithBlanks(t *testing.T) {
	got := others([]string{"old app", "legacy", "app\u00a0x", "described"}, func(name string) bool { return name == "described" })
	if strings.Join(got, ",") != "legacy" {
		t.Errorf("others are %q", got)
	}
}

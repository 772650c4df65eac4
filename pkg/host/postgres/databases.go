package postgres

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// databaseState is a database as PostgreSQL has it, seen from outside.
type databaseState struct {
	Name     string          `json:"name"`
	Owner    string          `json:"owner"`
	Encoding string          `json:"encoding"`
	Collate  string          `json:"collate"`
	Connects bool            `json:"connects"`
	Limit    int             `json:"limit"`
	Config   []string        `json:"config"`
	Comment  string          `json:"comment"`
	Written  json.RawMessage `json:"written"` // rows written in it so far, catalogs included
}

// insideState is what is in a database.
type insideState struct {
	Extensions map[string]extensionState `json:"extensions"`
	Schemas    map[string]string         `json:"schemas"` // name -> owner
	Lookup     *lookupState              `json:"lookup"`
	Locked     *schemaState              `json:"locked"` // the schema of the lookup
	Admits     bool                      `json:"admits"` // the role of the lookup may connect
	Named      bool                      `json:"named"`  // it is granted that itself, not as everybody
	Grants     []int                     `json:"grants"` // of the plan's, those that are not so, and there() of those on what exists
}

type extensionState struct {
	Schema  string `json:"schema"`
	Version string `json:"version"`
}

// createStatement makes a database. It can't be part of a transaction, so there is
// never half of one either.
func createStatement(d plan.Database) string {
	s := fmt.Sprintf("CREATE DATABASE %s OWNER %s TEMPLATE %s CONNECTION LIMIT %d", ident(d.Name), ident(d.Owner), ident(d.Template), d.ConnectionLimit)
	if d.Encoding != "" {
		s += " ENCODING " + literal(d.Encoding)
	}
	if d.Locale != "" {
		s += " LOCALE " + literal(d.Locale)
	}
	return s
}

// databaseSteps are what makes a database that exists what it is to be, from outside.
func databaseSteps(want plan.Database, have databaseState) []step {
	name := ident(want.Name)
	var steps []step
	add := func(what, statement string) { steps = append(steps, step{what, statement}) }
	if want.Owner != have.Owner {
		add("owner "+want.Owner, "ALTER DATABASE "+name+" OWNER TO "+ident(want.Owner))
	}
	if want.ConnectionLimit != have.Limit {
		add(fmt.Sprintf("connection limit %d", want.ConnectionLimit), fmt.Sprintf("ALTER DATABASE %s CONNECTION LIMIT %d", name, want.ConnectionLimit))
	}
	if want.Comment != have.Comment && (want.Comment != "" || want.Name != "postgres") {
		add("comment", "COMMENT ON DATABASE "+name+" IS "+literal(want.Comment))
	}
	return append(steps, settingSteps("DATABASE "+name, want.Parameters, want.Resets, have.Config)...)
}

// fixed are the fields that were decided when the database was made and that a
// document now says otherwise.
func fixed(want plan.Database, have databaseState) (field, is, wanted string) {
	plain := strings.NewReplacer("-", "", "_", "").Replace
	switch {
	case want.Encoding != "" && !strings.EqualFold(plain(want.Encoding), plain(have.Encoding)):
		return "encoding", have.Encoding, want.Encoding
	case want.Locale != "" && !strings.EqualFold(plain(want.Locale), plain(have.Collate)):
		return "locale", have.Collate, want.Locale
	}
	return "", "", ""
}

// insideSteps are groups of steps, each a transaction of its own: one extension that
// is not installed keeps no schema from being made.
func insideSteps(want plan.Database, have insideState) [][]step {
	var out [][]step
	for _, s := range want.Schemas {
		owner, exists := have.Schemas[s.Name]
		switch {
		case !exists:
			out = append(out, []step{{"schema " + s.Name, "CREATE SCHEMA " + ident(s.Name) + " AUTHORIZATION " + ident(s.Owner)}})
		case owner != s.Owner:
			out = append(out, []step{{"schema " + s.Name + " owned by " + s.Owner, "ALTER SCHEMA " + ident(s.Name) + " OWNER TO " + ident(s.Owner)}})
		}
	}
	for _, e := range want.Extensions {
		if steps := extensionSteps(e, have.Extensions); len(steps) > 0 {
			out = append(out, steps)
		}
	}
	for i, g := range want.Grants {
		if slices.Contains(have.Grants, i) {
			steps := []step{grantStep(want.Name, g)}
			for _, e := range exceptions(want.Grants, g) {
				if slices.Contains(have.Grants, there(e)) {
					steps = append(steps, step{"", grantStep(want.Name, want.Grants[e]).statement})
				}
			}
			out = append(out, steps)
		}
	}
	return out
}

// closes reports whether a database's document takes CONNECT from everybody, which the
// role of the lookup then needs for itself before it is taken.
func closes(d plan.Database) bool {
	return slices.ContainsFunc(d.Grants, func(g plan.Grant) bool {
		return g.Revoke && g.On == plan.OnDatabase && g.Role == "PUBLIC" && slices.Contains(g.Privileges, "CONNECT")
	})
}

func extensionSteps(e plan.Extension, have map[string]extensionState) []step {
	name := ident(e.Name)
	is, exists := have[e.Name]
	switch {
	case e.Absent && exists:
		return []step{{"extension " + e.Name + " dropped", "DROP EXTENSION " + name}}
	case e.Absent:
		return nil
	case !exists:
		// Without a schema of its own it goes where people look for it.
		schema := e.Schema
		if schema == "" {
			schema = "public"
		}
		s := "CREATE EXTENSION " + name + " SCHEMA " + ident(schema)
		if e.Version != "" {
			s += " VERSION " + literal(e.Version)
		}
		return []step{{"extension " + e.Name, s}}
	}
	var steps []step
	if e.Version != "" && e.Version != is.Version {
		steps = append(steps, step{"extension " + e.Name + " " + e.Version, "ALTER EXTENSION " + name + " UPDATE TO " + literal(e.Version)})
	}
	if e.Schema != "" && e.Schema != is.Schema {
		steps = append(steps, step{"extension " + e.Name + " in " + e.Schema, "ALTER EXTENSION " + name + " SET SCHEMA " + ident(e.Schema)})
	}
	return steps
}

// exceptions are what is said otherwise of one object, when g is about all of a schema.
// PostgreSQL knows no such order, so it is done again after all, and not missed in all.
func exceptions(all []plan.Grant, g plan.Grant) (out []int) {
	one := map[string]string{plan.OnAllTables: plan.OnTable, plan.OnAllSequences: plan.OnSequence}[g.On]
	for i, e := range all {
		same := func(p string) bool { return slices.Contains(g.Privileges, p) }
		if one != "" && e.On == one && e.Schema == g.Schema && e.Role == g.Role && e.Revoke != g.Revoke && slices.ContainsFunc(e.Privileges, same) {
			out = append(out, i)
		}
	}
	return out
}

// there marks grant i as one on an object that exists.
func there(i int) int { return -1 - i }

func grantStep(database string, g plan.Grant) step {
	object := g.On
	switch g.On {
	case plan.OnDatabase:
		object += " " + ident(database)
	case plan.OnTable, plan.OnSequence:
		object += " " + ident(g.Schema, g.Object)
	default:
		object += " " + ident(g.Schema)
	}
	verb, toward := "GRANT", "TO"
	if g.Revoke {
		verb, toward = "REVOKE", "FROM"
	}
	s := fmt.Sprintf("%s %s ON %s %s %s", verb, strings.Join(g.Privileges, ", "), object, toward, grantee(g.Role))
	return step{strings.ReplaceAll(s, `"`, ""), s}
}

// grantsQuery lists the numbers of the grants that are not so, from the access lists
// of the objects themselves. An object's owner has what it has without being granted.
func grantsQuery(gs []plan.Grant) string {
	var parts []string
	for i, g := range gs {
		var from, fallback string
		named := true
		namespace := "(select n.oid from pg_catalog.pg_namespace n where n.nspname = " + literal(g.Schema) + ")"
		class := func(kinds string) string {
			return "select c.relacl as acl, c.relowner as owner from pg_catalog.pg_class c where c.relnamespace = " + namespace + " and c.relkind in (" + kinds + ")"
		}
		const tables, sequences = "'r','p','v','m','f'", "'S'"
		switch g.On {
		case plan.OnDatabase:
			from, fallback = "select d.datacl as acl, d.datdba as owner from pg_catalog.pg_database d where d.datname = current_database()", "d"
		case plan.OnSchema:
			from, fallback = "select n.nspacl as acl, n.nspowner as owner from pg_catalog.pg_namespace n where n.nspname = "+literal(g.Schema), "n"
		case plan.OnTable:
			from, fallback = class(tables)+" and c.relname = "+literal(g.Object), "r"
		case plan.OnSequence:
			from, fallback = class(sequences)+" and c.relname = "+literal(g.Object), "s"
		case plan.OnAllTables:
			from, fallback, named = class(tables), "r", false
		case plan.OnAllSequences:
			from, fallback, named = class(sequences), "s", false
		case plan.OnAllFunctions:
			from, fallback, named = "select p.proacl as acl, p.proowner as owner from pg_catalog.pg_proc p where p.prokind <> 'p' and p.pronamespace = "+namespace, "f", false
		}
		role := "0::oid"
		if g.Role != "PUBLIC" {
			role = "(select r.oid from pg_catalog.pg_roles r where r.rolname = " + literal(g.Role) + ")"
		}
		if g.On == plan.OnTable || g.On == plan.OnSequence {
			parts = append(parts, fmt.Sprintf("select %d as i where exists (%s)", there(i), from))
		}
		for _, p := range g.Privileges {
			has := fmt.Sprintf("exists (select from pg_catalog.aclexplode(coalesce(o.acl, pg_catalog.acldefault('%s', o.owner))) a where a.grantee = %s and a.privilege_type = %s)", fallback, role, literal(p))
			from := from
			for _, e := range exceptions(gs, g) {
				if slices.Contains(gs[e].Privileges, p) {
					from += " and c.relname <> " + literal(gs[e].Object)
				}
			}
			test := fmt.Sprintf("exists (select from (%s) o where not %s)", from, has)
			switch {
			case g.Revoke:
				test = fmt.Sprintf("exists (select from (%s) o where %s)", from, has)
			case named:
				test += fmt.Sprintf(" or not exists (%s)", from)
			}
			parts = append(parts, fmt.Sprintf("select %d as i where %s", i, test))
		}
	}
	if len(parts) == 0 {
		return "select null::int as i where false"
	}
	return strings.Join(parts, " union ")
}

package postgres

import (
	"crypto/rand"
	"slices"
	"strings"
)

// lookupState is the function pgctrl.user_lookup as a database has it, schemaState
// the schema that it is in.
type lookupState struct {
	Source  string   `json:"source"`
	Result  string   `json:"result"`
	Owner   string   `json:"owner"`
	Definer bool     `json:"definer"`
	Config  []string `json:"config"`
	ACL     []string `json:"acl"` // grantee=privilege
}

type schemaState struct {
	Owner string   `json:"owner"`
	ACL   []string `json:"acl"`
}

// lookupSource is what PgBouncer is told of a user who wants to log in. It says
// nothing of those whom PgBouncer has no business to let in: superusers, roles that
// replicate, PostgreSQL's and pgctrl's own. The password of an expired role is no good,
// and PgBouncer would not know.
const lookupSource = `
  select r.rolname::text, r.rolpassword from pg_catalog.pg_authid r
  where r.rolname = $1 and r.rolcanlogin and not r.rolsuper and not r.rolreplication
    and r.rolname !~ '^(pg_|pgctrl_)' and r.rolname not in ('rewind', 'rewind_b')
    and (r.rolvaliduntil is null or r.rolvaliduntil > pg_catalog.now())
`

const lookupResult = "TABLE(usename text, passwd text)"

// lookupConfig pins where names are looked for: the function runs as a superuser, and
// nobody's table or operator may stand in for those that it means.
const lookupConfig = "search_path=pg_catalog, pg_temp"

// lookupSteps are what makes the function so, for one role alone to call; owner is who
// we are.
func lookupSteps(role, owner string, schema *schemaState, f *lookupState) []step {
	schemaACL := []string{owner + "=CREATE", owner + "=USAGE", role + "=USAGE"}
	functionACL := []string{owner + "=EXECUTE", role + "=EXECUTE"}
	slices.Sort(schemaACL)
	slices.Sort(functionACL)
	if schema != nil && schema.Owner == owner && slices.Equal(schema.ACL, schemaACL) &&
		f != nil && f.Source == lookupSource && f.Result == lookupResult && f.Owner == owner && f.Definer &&
		slices.Equal(f.Config, []string{lookupConfig}) && slices.Equal(f.ACL, functionACL) {
		return nil
	}
	const function = "pgctrl.user_lookup(text)"
	var steps []step
	if schema != nil && schema.Owner != owner {
		// Whoever may make schemas was here first. Something of theirs may depend on what
		// is in it, or be taken for ours by PgBouncer: it goes aside as it is, under a name
		// that nobody can have taken.
		aside := "pgctrl_" + strings.ToLower(rand.Text())
		steps = append(steps, step{"schema pgctrl of " + schema.Owner + " renamed", "ALTER SCHEMA pgctrl RENAME TO " + aside})
		schema, f = nil, nil
	}
	steps = append(steps, step{"function " + function, "CREATE SCHEMA IF NOT EXISTS pgctrl"})
	add := func(statement string) { steps = append(steps, step{"", statement}) }
	add("ALTER SCHEMA pgctrl OWNER TO " + ident(owner))
	if f != nil && (f.Result != lookupResult || f.Owner != owner) {
		add("DROP FUNCTION " + function) // somebody else's; nothing can depend on ours
		f = nil
	}
	add("CREATE OR REPLACE FUNCTION pgctrl.user_lookup(name text) RETURNS TABLE(usename text, passwd text)" +
		" LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS " + literal(lookupSource))
	revoke := func(object string, acl []string) {
		from := []string{"PUBLIC"}
		for _, entry := range acl {
			name := entry[:strings.LastIndex(entry, "=")]
			if name != owner && name != role && name != "PUBLIC" && !slices.Contains(from, ident(name)) {
				from = append(from, ident(name))
			}
		}
		add("REVOKE ALL ON " + object + " FROM " + strings.Join(append(from, ident(role)), ", "))
	}
	if schema == nil {
		schema = &schemaState{}
	}
	if f == nil {
		f = &lookupState{}
	}
	revoke("SCHEMA pgctrl", schema.ACL)
	revoke("FUNCTION "+function, f.ACL)
	add("GRANT ALL ON SCHEMA pgctrl TO " + ident(owner))
	add("GRANT USAGE ON SCHEMA pgctrl TO " + ident(role))
	add("GRANT EXECUTE ON FUNCTION " + function + " TO " + ident(owner) + ", " + ident(role))
	return steps
}

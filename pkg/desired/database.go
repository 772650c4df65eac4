package desired

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/keys"
)

// Database is a database of the cluster: databases/<name>.
type Database struct {
	Meta            `yaml:"-"`
	Owner           string         `yaml:"owner" pattern:"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$" default:"postgres" effect:"reload" example:"app" says:"The role that owns it."`
	Encoding        string         `yaml:"encoding" pattern:"^[A-Za-z0-9][A-Za-z0-9_.-]{0,29}$" note:"the template's: UTF8" effect:"rebuild" example:"UTF8" says:"Its character encoding, taken once, when it is made."`
	Locale          string         `yaml:"locale" pattern:"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}$" note:"the template's: C.UTF-8" effect:"rebuild" example:"en_US.UTF-8" says:"Its locale, which every host must have; taken once, when it is made."`
	Template        string         `yaml:"template" pattern:"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$" note:"template1; template0 when encoding or locale are given" effect:"rebuild" example:"template0" says:"The database it is copied from, once, when it is made."`
	ConnectionLimit int            `yaml:"connection_limit" default:"-1" min:"-1" max:"100000" effect:"reload" unit:"connections" example:"200" says:"How many connections it takes on each PostgreSQL, those of PgBouncer counted; -1 sets no limit."`
	Extensions      map[string]any `yaml:"extensions" effect:"reload" example:"pg_trgm=true" says:"Extensions by name: true, or where and which one, as in \"schema=public version=1.6\"; false drops it."`
	Schemas         map[string]any `yaml:"schemas" effect:"reload" example:"sales=app" says:"Schemas and the roles that own them. One that is taken out of the document stays."`
	Grants          []string       `yaml:"grants" effect:"reload" example:"[SELECT ON ALL TABLES IN SCHEMA public TO reader]" says:"Privileges, in PostgreSQL's own words. ALL TABLES are also those that come later, within ten seconds. Other privileges are left alone."`
	Revokes         []string       `yaml:"revokes" effect:"reload" example:"[CONNECT ON DATABASE FROM PUBLIC]" says:"Privileges that nobody is to have, in PostgreSQL's own words."`
	Parameters      map[string]any `yaml:"parameters" effect:"reload" example:"search_path=sales" says:"PostgreSQL settings of its sessions, as ALTER DATABASE SET makes them. Others that somebody set by hand are left alone."`
	Comment         string         `yaml:"comment" own:"true" note:"none" effect:"reload" example:"web-shop" says:"What it is for; shown by psql's \\l+."`
	State           string         `yaml:"state" default:"present" enum:"present,absent" own:"true" effect:"reload" example:"present" says:"absent drops it and all that is in it. It takes the database's name in confirm. Deleting the document leaves it as it is. See pgctrl database remove."`
	Confirm         string         `yaml:"confirm" own:"true" note:"none" effect:"none" example:"shop" says:"The database's name, typed, without which state: absent is refused."`
}

// Absent reports whether the database is to be dropped; its name is typed then.
func (d *Database) Absent() bool { return d.State == absent && d.Confirm == d.Name }

// From is the database that it is copied from.
func (d *Database) From() string {
	switch {
	case d.Template != "":
		return d.Template
	case d.Encoding != "" || d.Locale != "":
		return "template0"
	}
	return "template1"
}

// maintenance is the database that everybody connects to first.
const maintenance = "postgres"

func checkDatabaseName(name string) error {
	if name == "template0" || name == "template1" || name == "pgbouncer" {
		return fmt.Errorf("database %q is PostgreSQL's or PgBouncer's own; expected another name", name)
	}
	return keys.CheckName(name)
}

func checkDatabase(d *resolved) []Problem {
	db := d.doc.(*Database)
	var out []Problem
	if db.State == absent && db.Confirm != db.Name {
		p := d.problem("confirm", "expected the database's name %s, because state: absent drops all that is in it, found %s", db.Name, quote(db.Confirm))
		p.Suggestion = "pgctrl database remove asks for it"
		out = append(out, p)
	}
	if db.State == absent && db.Name == maintenance {
		out = append(out, d.problem("state", "expected a database that can go, found %s, which everybody connects to first", maintenance))
	}
	var granted []Privilege
	for _, g := range []struct {
		field, toward string
		list          []string
	}{{"grants", "TO", db.Grants}, {"revokes", "FROM", db.Revokes}} {
		for _, text := range g.list {
			p, wrong := ParseGrant(text, g.toward)
			switch {
			case wrong != "":
				out = append(out, d.problem(g.field, "%s, found %s", wrong, quote(text)))
			case g.field == "grants":
				granted = append(granted, p)
			case slices.ContainsFunc(granted, p.overlaps): // it would be done and undone for ever
				out = append(out, d.problem(g.field, "expected what grants do not give, found %s", quote(text)))
			}
		}
	}
	return out
}

const objectPattern = `^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$`

// checkExtension takes an extension and what is said of it.
func checkExtension(name string, v *value) (canonical, wrong, hint string) {
	if err := keys.CheckName(name); err != nil {
		return "", err.Error(), ""
	}
	if _, isBool := v.scalar.(bool); isBool {
		return name, "", ""
	}
	if _, _, err := ParseExtension(v.source); err != nil {
		return "", err.Error(), `write true, or "schema=NAME version=VERSION"`
	}
	return name, "", ""
}

// ParseExtension reads "schema=public version=1.6".
func ParseExtension(text string) (schema, version string, err error) {
	for _, word := range strings.Fields(text) {
		name, is, _ := strings.Cut(word, "=")
		switch {
		case name == "schema" && keys.CheckName(is) == nil:
			schema = is
		case name == "version" && keys.CheckName(is) == nil:
			version = is
		default:
			return "", "", fmt.Errorf("expected true, false, or schema= and version=, found %s", quote(word))
		}
	}
	return schema, version, nil
}

// checkSchema takes a schema and its owner.
func checkSchema(name string, v *value) (canonical, wrong, hint string) {
	owner, isText := v.scalar.(string)
	switch {
	case keys.CheckName(name) != nil:
		return "", keys.CheckName(name).Error(), ""
	case strings.HasPrefix(name, "pg_"), name == "information_schema", name == "pgctrl":
		return "", "expected a schema of your own, found " + name, ""
	case !isText:
		return "", "expected the role that owns it, found " + v.found(), `write "" for the database's owner`
	case owner != "" && keys.CheckName(owner) != nil:
		return "", keys.CheckName(owner).Error(), ""
	}
	return name, "", ""
}

// Privilege is one line of grants or revokes, understood.
type Privilege struct {
	Privileges []string
	On         string // DATABASE, SCHEMA, TABLE, SEQUENCE, ALL TABLES IN SCHEMA ...
	Schema     string
	Object     string
	Role       string // PUBLIC is everybody
}

// overlaps reports whether both are about the same right of the same role. One object and
// all of its schema are not the same: there the one says what it is to be.
func (p Privilege) overlaps(o Privilege) bool {
	return p.On == o.On && p.Schema == o.Schema && p.Object == o.Object && p.Role == o.Role &&
		slices.ContainsFunc(p.Privileges, func(name string) bool { return slices.Contains(o.Privileges, name) })
}

// grantable are the privileges that each kind of object has.
var grantable = map[string][]string{
	"DATABASE":                {"CONNECT", "CREATE", "TEMPORARY"},
	"SCHEMA":                  {"USAGE", "CREATE"},
	"TABLE":                   {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"},
	"SEQUENCE":                {"USAGE", "SELECT", "UPDATE"},
	"ALL TABLES IN SCHEMA":    {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"},
	"ALL SEQUENCES IN SCHEMA": {"USAGE", "SELECT", "UPDATE"},
	"ALL FUNCTIONS IN SCHEMA": {"EXECUTE"},
}

const grantForm = `expected PRIVILEGES ON OBJECT %s ROLE, where the object is DATABASE, SCHEMA s, TABLE s.t, SEQUENCE s.q, or ALL TABLES, ALL SEQUENCES or ALL FUNCTIONS IN SCHEMA s`

// ParseGrant reads "SELECT, INSERT ON ALL TABLES IN SCHEMA public TO app". toward is
// TO or FROM. wrong is empty when it can be read. What is read is all that reaches
// PostgreSQL: no text of a document is ever run.
func ParseGrant(text, toward string) (p Privilege, wrong string) {
	form := fmt.Sprintf(grantForm, toward)
	words := strings.Fields(strings.ReplaceAll(text, ",", " , "))
	on := slices.IndexFunc(words, func(w string) bool { return strings.EqualFold(w, "ON") })
	if on < 1 || len(words) < on+4 || !strings.EqualFold(words[len(words)-2], toward) {
		return p, form
	}
	p.Role = words[len(words)-1]
	if strings.EqualFold(p.Role, "PUBLIC") {
		p.Role = "PUBLIC"
	}
	object := words[on+1 : len(words)-2]
	name := ""
	switch kind := strings.ToUpper(strings.Join(object[:max(1, len(object)-1)], " ")); {
	case len(object) == 1 && strings.EqualFold(object[0], "DATABASE"):
		p.On = "DATABASE"
	case len(object) == 1:
		return p, form
	case kind == "SCHEMA", strings.HasPrefix(kind, "ALL ") && grantable[kind] != nil:
		p.On, p.Schema = kind, object[len(object)-1]
		name = p.Schema
	case kind == "TABLE", kind == "SEQUENCE":
		p.On = kind
		p.Schema, p.Object, _ = strings.Cut(object[len(object)-1], ".")
		if name = p.Schema; keys.CheckName(p.Object) != nil {
			return p, form
		}
	default:
		return p, form
	}
	if keys.CheckName(p.Role) != nil || name != "" && keys.CheckName(name) != nil {
		return p, form
	}
	if p.Privileges, wrong = privileges(words[:on], p.On); wrong != "" {
		return p, wrong
	}
	return p, ""
}

func privileges(words []string, on string) ([]string, string) {
	has := grantable[on]
	if text := strings.ToUpper(strings.Join(words, " ")); text == "ALL" || text == "ALL PRIVILEGES" {
		return has, ""
	}
	var out []string
	for i, w := range words {
		w = strings.ToUpper(w)
		if w == "TEMP" {
			w = "TEMPORARY"
		}
		switch {
		case i%2 == 1 && w == ",":
		case i%2 == 1 || !slices.Contains(has, w):
			return nil, fmt.Sprintf("expected privileges of %s (%s) with commas between", on, strings.Join(has, ", "))
		case !slices.Contains(out, w):
			out = append(out, w)
		}
	}
	if len(words)%2 == 0 {
		return nil, fmt.Sprintf("expected privileges of %s (%s) with commas between", on, strings.Join(has, ", "))
	}
	return out, ""
}

// DatabaseList returns the databases, sorted by name.
func (c *Cluster) DatabaseList() []*Database { return byName(c.Databases) }

var _ = register(Kind{
	Name: "databases", Named: true,
	Meaning:   "A database of the cluster, and the extensions, schemas and privileges in it.",
	checkName: checkDatabaseName,
	check:     checkDatabase,
	store:     func(c *Cluster, name string, doc any) { c.Databases[name] = doc.(*Database) },
}, Database{}, map[string]*entryRule{
	"parameters": sessionParameters,
	"extensions": {check: checkExtension, pattern: objectPattern},
	"schemas":    {check: checkSchema, pattern: objectPattern},
})

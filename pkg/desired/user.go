package desired

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/keys"
)

// User is a role of the cluster's PostgreSQL: users/<name>.
type User struct {
	Meta            `yaml:"-"`
	Password        string         `yaml:"password" default:"secret" enum:"secret,none" own:"true" effect:"reload" example:"none" says:"secret: its password is the secret users/<name>, made at random unless one is given (pgctrl user passwd); none: it has no password."`
	Login           bool           `yaml:"login" default:"true" effect:"reload" example:"false" says:"May log in; false makes it a group that others are members of."`
	Superuser       bool           `yaml:"superuser" default:"false" own:"true" effect:"reload" example:"true" says:"Nothing is checked for it. PgBouncer does not let it in."`
	CreateDB        bool           `yaml:"createdb" default:"false" effect:"reload" example:"true" says:"May make databases; those it makes have no document and are left alone."`
	CreateRole      bool           `yaml:"createrole" default:"false" effect:"reload" example:"true" says:"May make roles; those it makes have no document and are left alone."`
	Inherit         bool           `yaml:"inherit" default:"true" effect:"reload" example:"false" says:"Has the rights of the roles it is a member of without SET ROLE."`
	Replication     bool           `yaml:"replication" default:"false" effect:"reload" example:"true" says:"May replicate, such as for logical decoding. PgBouncer does not let it in."`
	BypassRLS       bool           `yaml:"bypassrls" default:"false" effect:"reload" example:"true" says:"Passes by row level security."`
	ConnectionLimit int            `yaml:"connection_limit" default:"-1" min:"-1" max:"100000" effect:"reload" unit:"connections" example:"50" says:"How many connections it may have to each PostgreSQL, those of PgBouncer counted; -1 sets no limit."`
	ValidUntil      string         `yaml:"valid_until" format:"time" pattern:"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$" own:"true" note:"for ever" effect:"reload" example:"2027-01-31T00:00:00Z" says:"Until when its password is good."`
	MemberOf        []string       `yaml:"member_of" note:"none" pattern:"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$" effect:"reload" example:"[pg_read_all_data]" says:"Roles that it is a member of. Memberships that somebody granted by hand are left alone."`
	Parameters      map[string]any `yaml:"parameters" effect:"reload" example:"statement_timeout=30s" says:"PostgreSQL settings of its sessions, as ALTER ROLE SET makes them. Others that somebody set by hand are left alone."`
	Comment         string         `yaml:"comment" own:"true" note:"none" effect:"reload" example:"web-shop" says:"What it is for; shown by psql's \\du+."`
	State           string         `yaml:"state" default:"present" enum:"present,absent" own:"true" effect:"reload" example:"present" says:"absent drops it; PostgreSQL refuses while it owns anything. Deleting the document leaves it as it is. See pgctrl user remove."`
}

// Absent reports whether the user is to be dropped.
func (u *User) Absent() bool { return u.State == absent }

// SystemRoles are the roles that pgctrl itself needs and looks after.
var SystemRoles = []string{
	"postgres", "replicator", "replicator_b", "rewind", "rewind_b",
	"pgctrl_pooler", "pgctrl_pooler_b", "pgctrl_monitor", "pgctrl_monitor_b",
}

// checkUserName refuses what PostgreSQL and pgctrl keep for themselves.
func checkUserName(name string) error {
	switch {
	case slices.Contains(SystemRoles, name):
		return fmt.Errorf("user %q is one that pgctrl itself needs and looks after; expected another name", name)
	case strings.HasPrefix(name, "pg_"), strings.EqualFold(name, "public"), name == "none":
		return fmt.Errorf("user %q has a name that PostgreSQL keeps for itself; expected another name", name)
	case strings.HasPrefix(name, "pgctrl_"):
		return fmt.Errorf("user %q has a name that pgctrl keeps for itself; expected another name", name)
	}
	return keys.CheckName(name)
}

func checkUser(d *resolved) []Problem {
	u := d.doc.(*User)
	var out []Problem
	if slices.Contains(u.MemberOf, u.Name) {
		out = append(out, d.problem("member_of", "expected other roles, found %s itself", u.Name))
	}
	for _, r := range u.MemberOf {
		if slices.Contains(SystemRoles, r) || strings.HasPrefix(r, "pgctrl_") {
			out = append(out, d.problem("member_of", "expected roles that users may be members of, found %s, which is pgctrl's own", r))
		}
	}
	return out
}

// sessionParameter takes a setting of a role or a database: any name that PostgreSQL
// may know. What it does not take it says itself, with the object.
func sessionParameter(name string, v *value) (canonical, wrong, hint string) {
	if !parameterName.MatchString(name) {
		return "", "expected a parameter name: a letter, then letters, digits and _, found " + quote(name), ""
	}
	if slices.Contains(restartParameters, strings.ToLower(name)) {
		return "", "expected a parameter that a session can have for itself, found " + name, "set it in the document postgres"
	}
	return strings.ToLower(name), "", ""
}

var sessionParameters = &entryRule{check: sessionParameter, pattern: parameterPattern}

// UserList returns the users, sorted by name.
func (c *Cluster) UserList() []*User { return byName(c.Users) }

var _ = register(Kind{
	Name: "users", Named: true,
	Meaning:   "A role of the cluster's PostgreSQL: what it may do, and the password it logs in with.",
	checkName: checkUserName,
	check:     checkUser,
	store:     func(c *Cluster, name string, doc any) { c.Users[name] = doc.(*User) },
}, User{}, map[string]*entryRule{"parameters": sessionParameters})

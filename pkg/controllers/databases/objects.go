package databases

import (
	"fmt"
	"maps"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// builder turns documents into SQL objects, one by one: what is wrong with one
// document holds up no other.
type builder struct {
	in     controllers.Input
	t      *topology.Topology
	before plan.SQL // what is planned now
	// others are the roles that the primary has and no document describes; nil while it
	// has not said so.
	others map[string]bool

	secrets    map[string]int64
	mints      []controllers.Output
	conditions []observed.Condition
}

func (b *builder) sql(docs *desired.Cluster) plan.SQL {
	out := plan.SQL{SQL: b.in.Cluster, Roles: b.systemRoles()}
	lookup := twins.Pooler[0].Role
	if slices.ContainsFunc(out.Roles, func(r plan.Role) bool { return r.Name == lookup }) {
		out.Lookup = lookup // it is granted to a role that is there
	}
	wrong := b.problems(docs)
	for _, u := range docs.UserList() {
		if r, ok := b.role(u); ok {
			out.Roles = append(out.Roles, r)
		}
	}
	for _, d := range docs.DatabaseList() {
		out.Databases = append(out.Databases, b.database(d))
	}
	// What a document asked for before it could not be used any more stays so (R4).
	for _, r := range b.before.Roles {
		switch {
		case r.Key == "":
		case wrong[r.Key]:
			if r.Password != "" && !b.secret(r.Password, false) {
				r.Password = ""
			}
			out.Roles = append(out.Roles, r)
		case docs.Users[r.Name] == nil && !r.Absent:
			b.conditions = append(b.conditions, unmanaged(b.in, users, "user", r.Name))
		}
	}
	for _, d := range b.before.Databases {
		switch {
		case wrong[d.Key]:
			out.Databases = append(out.Databases, d)
		case docs.Databases[d.Name] == nil && !d.Absent:
			b.conditions = append(b.conditions, unmanaged(b.in, databases, "database", d.Name))
		}
	}
	slices.SortStableFunc(out.Databases, func(x, y plan.Database) int { return compare(x.Name, y.Name) })
	return out
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// problems says what is wrong with documents, and which keys those are. A fault in
// the defaults concerns all of its kind.
func (b *builder) problems(docs *desired.Cluster) map[string]bool {
	wrong := map[string]bool{}
	for _, p := range docs.Problems {
		b.conditions = append(b.conditions, p.Condition())
		wrong[p.Key] = true
	}
	for _, r := range b.before.Roles {
		if docs.Invalid(users) && docs.Users[r.Name] == nil && docs.Effective(users+"/"+r.Name) != nil {
			wrong[r.Key] = true
		}
	}
	for _, d := range b.before.Databases {
		if docs.Invalid(databases) && docs.Databases[d.Name] == nil && docs.Effective(databases+"/"+d.Name) != nil {
			wrong[d.Key] = true
		}
	}
	return wrong
}

// secret takes a password's revision into the plan; false: it is not there yet. One
// that pgctrl makes by itself is asked for.
func (b *builder) secret(name string, mint bool) bool {
	key := b.in.Layout.Secret(b.in.Cluster, name)
	if mint {
		b.mints = append(b.mints, controllers.Output{Key: key, Mode: controllers.Mint})
	}
	if !b.there(name) {
		b.conditions = append(b.conditions, observed.Condition{
			Type: observed.Planned, Status: observed.False, Reason: observed.WaitingForSecret, Key: key,
			Message: fmt.Sprintf("the password %q is being made", name),
		})
		return false
	}
	e, _ := b.in.Snapshot.Get(key)
	b.secrets[name] = e.ModRevision
	return true
}

// there reports whether a secret exists. A reader who can't see secrets gets those that
// no plan names at revision 0.
func (b *builder) there(name string) bool {
	e, ok := b.in.Snapshot.Get(b.in.Layout.Secret(b.in.Cluster, name))
	return ok && e.ModRevision > 0
}

// password says whether a role that logs in gets one that pgctrl keeps, and whether the
// role can be planned at all. A role that PostgreSQL has already keeps the password
// that only its users know, until somebody gives it another one: a random one in its
// place would lock them out.
func (b *builder) password(r plan.Role, old *plan.Role) (name string, plannable bool) {
	name = keys.UserSecret(r.Name)
	switch {
	case b.there(name):
		return name, b.secret(name, false)
	case old != nil && old.Login && !old.NoPassword, b.others[r.Name]:
		b.conditions = append(b.conditions, observed.Condition{
			Type: observed.Planned, Status: observed.False, Reason: observed.Unmanaged, Key: r.Key,
			Message: fmt.Sprintf("user %s exists in PostgreSQL with a password that pgctrl does not know; it is left as it is", r.Name),
			Next:    fmt.Sprintf("pgctrl user passwd %s %s", b.in.Cluster, r.Name),
		})
		return "", true
	case b.others == nil:
		b.conditions = append(b.conditions, observed.Condition{
			Type: observed.Planned, Status: observed.False, Reason: observed.WaitingForLeader, Key: r.Key,
			Message: fmt.Sprintf("user %s waits until the primary has said which roles it has", r.Name),
		})
		return "", false
	}
	return name, b.secret(name, true)
}

func (b *builder) role(u *desired.User) (plan.Role, bool) {
	r := plan.Role{Name: u.Name, Key: u.Key, Absent: u.Absent()}
	if r.Absent {
		return r, true
	}
	r.Login, r.Superuser, r.CreateDB, r.CreateRole = u.Login, u.Superuser, u.CreateDB, u.CreateRole
	r.Inherit, r.Replication, r.BypassRLS = u.Inherit, u.Replication, u.BypassRLS
	r.ConnectionLimit, r.ValidUntil, r.Comment = u.ConnectionLimit, u.ValidUntil, u.Comment
	r.MemberOf, r.Parameters = slices.Sorted(slices.Values(u.MemberOf)), settings(u.Parameters)
	var earlier *plan.Role
	for _, old := range b.before.Roles {
		if old.Name == r.Name && old.Key != "" {
			earlier = &old
			r.Leaves = gone(r.MemberOf, old.MemberOf, old.Leaves)
			r.Resets = gone(slices.Collect(maps.Keys(r.Parameters)), slices.Collect(maps.Keys(old.Parameters)), old.Resets)
		}
	}
	switch {
	case u.Password == "none":
		r.NoPassword = true
	case u.Login:
		var plannable bool
		if r.Password, plannable = b.password(r, earlier); !plannable && earlier != nil {
			return *earlier, true // one that nobody describes any more would count as found with a password
		}
		return r, plannable
	}
	return r, true
}

func (b *builder) database(d *desired.Database) plan.Database {
	out := plan.Database{Name: d.Name, Key: d.Key, Absent: d.Absent()}
	if out.Absent {
		return out
	}
	out.Owner, out.Encoding, out.Locale, out.Template = d.Owner, d.Encoding, d.Locale, d.From()
	out.ConnectionLimit, out.Comment, out.Parameters = d.ConnectionLimit, d.Comment, settings(d.Parameters)
	for _, name := range slices.Sorted(maps.Keys(d.Extensions)) {
		e := plan.Extension{Name: name}
		switch v := d.Extensions[name].(type) {
		case bool:
			e.Absent = !v
		default:
			e.Schema, e.Version, _ = desired.ParseExtension(fmt.Sprint(v)) // the document was checked
		}
		out.Extensions = append(out.Extensions, e)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Schemas)) {
		owner := fmt.Sprint(d.Schemas[name])
		if owner == "" {
			owner = d.Owner
		}
		out.Schemas = append(out.Schemas, plan.DatabaseSchema{Name: name, Owner: owner})
	}
	for _, text := range slices.Sorted(slices.Values(d.Grants)) {
		out.Grants = append(out.Grants, grant(text, false))
	}
	for _, text := range slices.Sorted(slices.Values(d.Revokes)) {
		out.Grants = append(out.Grants, grant(text, true))
	}
	for _, old := range b.before.Databases {
		if old.Name != d.Name {
			continue
		}
		out.Resets = gone(slices.Collect(maps.Keys(out.Parameters)), slices.Collect(maps.Keys(old.Parameters)), old.Resets)
		out.Grants = append(out.Grants, takenBack(out.Grants, old.Grants)...)
	}
	return out
}

func grant(text string, revoke bool) plan.Grant {
	toward := "TO"
	if revoke {
		toward = "FROM"
	}
	p, _ := desired.ParseGrant(text, toward) // the document was checked
	return plan.Grant{Privileges: p.Privileges, On: p.On, Schema: p.Schema, Object: p.Object, Role: p.Role, Revoke: revoke}
}

// takenBack are revocations of what an earlier document granted and this one says
// nothing of, privilege by privilege.
func takenBack(now, before []plan.Grant) []plan.Grant {
	var out []plan.Grant
	for _, old := range before {
		left := old
		left.Revoke, left.Taken = true, true
		left.Privileges = slices.DeleteFunc(slices.Clone(old.Privileges), func(p string) bool {
			return slices.ContainsFunc(now, func(g plan.Grant) bool {
				same := g.On == old.On && g.Object == old.Object
				all := !g.Revoke && g.On == "ALL "+old.On+"S IN SCHEMA" // which has it too
				return (same || all) && g.Schema == old.Schema && g.Role == old.Role && slices.Contains(g.Privileges, p)
			})
		})
		if (!old.Revoke || old.Taken) && len(left.Privileges) > 0 {
			out = append(out, left)
		}
	}
	return out
}

// gone are the names that an earlier plan set or took back and that are not set now:
// what a document gave and no longer says is taken back, what somebody gave by hand
// is left alone.
func gone(now []string, before ...[]string) []string {
	var out []string
	for _, name := range slices.Concat(before...) {
		if !slices.Contains(now, name) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// settings are parameters as PostgreSQL writes them.
func settings(in map[string]any) map[string]string {
	if len(in) == 0 {
		return nil
	}
	out := map[string]string{}
	for name, v := range in {
		switch v {
		case true:
			out[name] = "on"
		case false:
			out[name] = "off"
		default:
			out[name] = fmt.Sprint(v)
		}
	}
	return out
}

package databases

import (
	"slices"

	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// rewindFunctions are all that pg_rewind needs of the server that it copies from.
var rewindFunctions = []string{
	"pg_ls_dir(text, boolean, boolean)",
	"pg_read_binary_file(text)",
	"pg_read_binary_file(text, bigint, bigint, boolean)",
	"pg_stat_file(text, boolean)",
}

// systemRoles are what they are in every cluster. Patroni makes postgres, replicator and
// rewind when the cluster forms; here they are kept as they were made, with the passwords
// that Patroni's file has.
func (b *builder) systemRoles() []plan.Role {
	var out []plan.Role
	if b.secret("postgres", false) {
		out = append(out, plan.Role{
			Name: "postgres", Password: "postgres", Login: true, Inherit: true, ConnectionLimit: -1,
			Superuser: true, CreateDB: true, CreateRole: true, Replication: true, BypassRLS: true,
		})
	}
	for _, p := range twins.All {
		out = append(out, b.pair(p)...)
	}
	return out
}

// pair is a role and, once there was a rotation, its twin. Both may log in while one
// takes over from the other; at all other times only one has a password.
func (b *builder) pair(p twins.Pair) []plan.Role {
	now, former := p.Exist(b.in)
	if now == nil {
		b.secret(p.Name(), slices.Contains(owned, p)) // it says that it is waited for
		return nil
	}
	closed, said := p.Closed(b.in, b.t)
	b.conditions = append(b.conditions, said...)
	var out []plan.Role
	for i, r := range p {
		open := r == now.Role || former != nil && r == former.Role && !closed
		was := slices.ContainsFunc(b.before.Roles, func(old plan.Role) bool { return old.Key == "" && old.Name == r.Role })
		if i > 0 && !open && !was {
			continue // there was never a rotation
		}
		role := plan.Role{Name: r.Role, Inherit: true, ConnectionLimit: -1, NoPassword: true}
		if open && b.secret(r.Secret, false) {
			role.Login, role.NoPassword, role.Password = true, false, r.Secret
		}
		role.Replication = p == twins.Replicator
		switch {
		case i > 0:
			role.MemberOf = []string{p[0].Role} // so what is granted to the first is the twin's
		case p == twins.Rewind:
			role.Functions = rewindFunctions
		case p == twins.Monitor:
			role.MemberOf = []string{"pg_monitor"}
		}
		out = append(out, role)
	}
	return out
}

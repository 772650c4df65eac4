package databases

import "github.com/pgctrl/pgctrl/pkg/plan"

// The roles that pgctrl itself needs, beside PostgreSQL's own superuser.
const (
	// pooler is whom PgBouncer asks pgctrl.user_lookup as; it can do nothing else.
	pooler = "pgctrl_pooler"
	// monitor is whom exporters log in as.
	monitor = "pgctrl_monitor"
)

// rewindFunctions are all that pg_rewind needs of the server that it copies from.
var rewindFunctions = []string{
	"pg_ls_dir(text, boolean, boolean)",
	"pg_read_binary_file(text)",
	"pg_read_binary_file(text, bigint, bigint, boolean)",
	"pg_stat_file(text, boolean)",
}

// systemRoles are what they are in every cluster. Patroni makes the first three when
// the cluster forms; here they are kept as they were made, with the passwords that
// Patroni's file has.
func systemRoles() []plan.Role {
	role := func(name, password string) plan.Role {
		return plan.Role{Name: name, Password: password, Login: true, Inherit: true, ConnectionLimit: -1}
	}
	admin := role("postgres", "postgres")
	admin.Superuser, admin.CreateDB, admin.CreateRole, admin.Replication, admin.BypassRLS = true, true, true, true, true
	replicator := role("replicator", "replicator")
	replicator.Replication = true
	rewind := role("rewind", "rewind")
	rewind.Functions = rewindFunctions
	look := role(pooler, "pooler")
	watch := role(monitor, "monitor")
	watch.MemberOf = []string{"pg_monitor"}
	return []plan.Role{admin, replicator, rewind, watch, look}
}

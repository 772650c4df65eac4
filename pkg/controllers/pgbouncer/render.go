package pgbouncer

import (
	_ "embed" // the template
	"fmt"
	"strconv"
	"strings"
	"text/template"

	"github.com/pgctrl/pgctrl/pkg/controllers/certificate"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

//go:embed pgbouncer.ini.tmpl
var source string

var file = template.Must(template.New("pgbouncer.ini").Delims("[[", "]]").Funcs(template.FuncMap{
	"seconds": seconds,
}).Parse(source))

// Superuser is a role and the name of its password: the lookup tells nothing of
// superusers, and nobody else's password lets anybody into the pooler as one.
const Superuser = "postgres"

// postgresSocket is where every member's PostgreSQL has its socket (patroni.yml).
const postgresSocket = "/var/run/postgresql"

// entry is one database or user with settings of its own.
type entry struct {
	Name     string
	Settings []desired.PoolSetting
}

// features are what not every PgBouncer can do.
type features struct {
	// users: it lets in users that have settings of their own.
	users bool
	// prepared: it makes clients' prepared statements again where they are needed.
	prepared bool
}

// render is the content of one node's file. role is whom it looks users up as.
func render(l keys.Layout, t *topology.Topology, node, role string, able features, tls *certificate.Use) string {
	v := struct {
		Layout           keys.Layout
		Cluster, Node    string
		Doc              *desired.PgBouncer
		Databases, Users []entry
		Socket, RunDir   string
		AuthFile, Role   string
		PostgresPort     int
		Prepared         bool
		TLS              *certificate.Use
		Looks            string
	}{
		Layout: l, Cluster: t.Docs.Name, Node: node, Doc: &t.Docs.PgBouncer,
		Databases: entries(t.Docs.PgBouncer.Databases),
		Socket:    postgresSocket, RunDir: plan.PoolerDir(t.Docs.Name),
		AuthFile: authFile(t.Docs.Name), Role: role, PostgresPort: t.Formed.Port,
		Prepared: able.prepared,
		TLS:      tls,
		Looks:    twins.Monitor[0].Role + ", " + twins.Monitor[1].Role,
	}
	if able.users {
		v.Users = entries(t.Docs.PgBouncer.Users)
	}
	var b strings.Builder
	if err := file.Execute(&b, v); err != nil {
		panic(fmt.Sprintf("render PgBouncer's file: %v", err)) // plain data and our own template
	}
	return b.String()
}

func entries(settings map[string]any) []entry {
	var out []entry
	for _, s := range desired.PoolSettings(settings) {
		if n := len(out); n == 0 || out[n-1].Name != s.Of {
			out = append(out, entry{Name: s.Of})
		}
		e := &out[len(out)-1]
		e.Settings = append(e.Settings, s)
	}
	return out
}

// directory has PgBouncer's files.
const directory = "/etc/pgbouncer"

func configFile(cluster string) string { return directory + "/" + cluster + ".ini" }

func authFile(cluster string) string { return directory + "/" + cluster + ".users" }

// authContent is PgBouncer's own list of users.
func authContent(lookups, looks []twins.Named) string {
	// The superuser only logs in here; towards PostgreSQL the operating system vouches
	// for the program (peer). The others log in there, for which a verifier is not enough.
	out := line(Superuser, plan.SecretRef(Superuser, plan.FormatVerifier))
	for _, r := range lookups {
		out += line(r.Role.Role, plan.SecretRef(r.Secret, plan.FormatUserlist))
	}
	for _, r := range looks { // at the console, and towards PostgreSQL not from here
		out += line(r.Role.Role, plan.SecretRef(r.Secret, plan.FormatVerifier))
	}
	return out
}

func line(role, secret string) string { return `"` + role + `" ` + secret + "\n" }

// seconds is how PgBouncer writes times.
func seconds(d desired.Duration) string {
	return strconv.FormatFloat(d.Std().Seconds(), 'f', -1, 64)
}

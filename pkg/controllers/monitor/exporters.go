package monitor

import (
	"fmt"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// folder has the exporters' files, which their units name.
const folder = "/etc/pgctrl/exporters"

// postgresSocket is where every member's PostgreSQL has its socket (patroni.yml).
const postgresSocket = "/var/run/postgresql"

// postgresExporter looks at the member's own PostgreSQL, whatever its role is. One
// connection tells of all databases, of those that are made later too.
func postgresExporter(in controllers.Input, t *topology.Topology, p *plan.Plan) plan.Unit {
	u := plan.Unit{Unit: "postgres-exporter@" + in.Cluster + ".service", Program: plan.PostgresExporter, Files: []plan.File{}}
	node := nodeName(t, p)
	if node == "" || !measured(in, t, node) {
		u.Absent = true
		return u
	}
	role := login(in, t, node)
	u.Files = files(in.Layout, t, node, "postgres", role, p, fmt.Sprintf(
		"LISTEN=:%d\nDATA_SOURCE_NAME=\"host=%s port=%d user=%s dbname=postgres sslmode=disable\"\n",
		t.Docs.Monitor.PostgresPort, postgresSocket, t.Formed.Port, role.Role.Role))
	return u
}

// poolerExporter looks at the member's own PgBouncer, where there is one.
func poolerExporter(in controllers.Input, t *topology.Topology, p *plan.Plan) plan.Unit {
	u := plan.Unit{Unit: "pgbouncer-exporter@" + in.Cluster + ".service", Program: plan.PoolerExporter, Files: []plan.File{}}
	node := nodeName(t, p)
	if node == "" || !measured(in, t, node) || !t.Docs.PgBouncer.Enabled {
		u.Absent = true
		return u
	}
	role := login(in, t, node)
	u.Files = files(in.Layout, t, node, "pgbouncer", role, p, fmt.Sprintf(
		"LISTEN=:%d\nPGUSER=%s\n", t.Docs.Monitor.PgBouncerPort, role.Role.Role))
	return u
}

// nodeName is the node that a plan is for, empty when it has no member.
func nodeName(t *topology.Topology, p *plan.Plan) string {
	own, ok := p.Cluster.Own()
	if !ok || t.Docs.Nodes[own.Node] == nil {
		return ""
	}
	return own.Node
}

// files are an exporter's settings, which everybody may read, and its password, which its
// unit hands to it and to nobody else.
func files(l keys.Layout, t *topology.Topology, node, of string, role *twins.Named, p *plan.Plan, settings string) []plan.File {
	var b strings.Builder
	fmt.Fprintf(&b, `# Exporter of cluster %[1]s on node %[2]s. Written by pgctrl from %[3]s,
# which follows the documents under %[4]s; an edit here is put back.
#   change it:      pgctrl set %[1]s monitor %[5]s_port=%[6]d     (pgctrl explain monitor)
#   leave it alone: touch /etc/pgctrl/freeze.%[1]s     (on this node; until that file is removed)
`, t.Docs.Name, node, l.PlanKey(node, t.Docs.Name, Concern), l.ClusterDocs(t.Docs.Name), of, portOf(t, of)+100)
	p.Secrets[role.Secret] = role.Revision
	base := folder + "/" + t.Docs.Name + "." + of
	return []plan.File{
		{Path: base + ".env", Mode: "0644", Content: b.String() + settings},
		{Path: base + ".pgpass", Mode: "0600", Content: b.String() + "*:*:*:" + role.Role.Role + ":" + plan.SecretRef(role.Secret, plan.FormatPgpass) + "\n"},
	}
}

func portOf(t *topology.Topology, of string) int {
	if of == "postgres" {
		return t.Docs.Monitor.PostgresPort
	}
	return t.Docs.Monitor.PgBouncerPort
}

// login is whom the exporters of a node log in as. While one role takes over from the other
// they stay with the former until their PgBouncer knows the other as well; poolers are told
// one after another, and PostgreSQL knows both before any of them.
func login(in controllers.Input, t *topology.Topology, node string) *twins.Named {
	use, other := twins.Monitor.Use(in, t, node, Concern)
	if other == nil || use.Revision < other.Revision || !t.Docs.PgBouncer.Enabled {
		return use
	}
	if s := t.Stored(in, node, Concern); s != nil && s.Head.Secrets[use.Secret] == use.Revision {
		return use // there is no way back
	}
	pooler := t.Stored(in, node, topology.Pooler)
	if pooler != nil && pooler.Head.Removal == nil && (pooler.Head.Secrets[use.Secret] != use.Revision || pooler.Report == nil || !pooler.Report.Done(pooler.Revision)) {
		return other
	}
	return use
}

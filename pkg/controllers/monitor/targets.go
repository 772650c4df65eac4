package monitor

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TargetsDir is where the files of targets are, one for each cluster and one for what is
// on nodes whoever's they are.
const TargetsDir = "/etc/pgctrl/targets.d"

// Jobs are the values of the label job.
const (
	JobPostgres   = "postgres"
	JobPgBouncer  = "pgbouncer"
	JobPatroni    = "patroni"
	JobHAProxy    = "haproxy"
	JobAgent      = "agent"
	JobServer     = "server"
	JobEtcd       = "etcd"
	JobPrometheus = "prometheus"
	JobPromtail   = "promtail"
	JobLoki       = "loki"
)

// target is one address and its labels, in the order in which they are written.
type target struct {
	address string
	labels  [][2]string
}

// at is an address with labels: name, value, name, value ...
func at(host string, port int, labels ...string) target {
	t := target{address: net.JoinHostPort(host, strconv.Itoa(port))}
	for i := 0; i+1 < len(labels); i += 2 {
		t.labels = append(t.labels, [2]string{labels[i], labels[i+1]})
	}
	return t
}

// targets is the file of one cluster on one node with role infra; absent on others.
func targets(l keys.Layout, t *topology.Topology, node string, infra bool) plan.Watched {
	cluster := t.Docs.Name
	w := plan.Watched{File: TargetsDir + "/" + cluster + ".yml", Mode: "0644", Absent: !infra}
	if !infra {
		return w
	}
	w.Content = fmt.Sprintf(`# What is measured of cluster %[1]s. Written by pgctrl from %[2]s,
# which follows the documents under %[3]s; an edit here is put back.
#   change it:      pgctrl set %[1]s monitor interval=30s     (pgctrl explain monitor)
#   leave it alone: touch /etc/pgctrl/freeze.%[1]s     (on this node; until that file is removed)
`, cluster, l.PlanKey(node, cluster, Concern), l.ClusterDocs(cluster)) + render(ofCluster(t), t.Docs.Monitor.Interval)
	return w
}

// ofCluster are the targets of the members and of the HAProxys that lead to them.
func ofCluster(t *topology.Topology) []target {
	d := t.Docs
	var out []target
	for _, m := range t.Members {
		if t.Leaving[m.Name] {
			continue
		}
		labels := []string{"cluster", d.Name, "member", m.Name, "node", m.Node, "role", plan.RoleOf(m.Name)}
		add := func(job string, port int) {
			out = append(out, at(m.Address, port, append([]string{"job", job}, labels...)...))
		}
		add(JobPostgres, d.Monitor.PostgresPort)
		if d.PgBouncer.Enabled {
			add(JobPgBouncer, d.Monitor.PgBouncerPort)
		}
		add(JobPatroni, m.RESTPort)
	}
	if !d.Stats.Enabled {
		return out
	}
	// One HAProxy serves a member's node whichever the member is, so it has no role.
	for _, node := range d.ProxyNodes() {
		if n := d.Nodes[node]; n != nil {
			out = append(out, at(n.Address, d.Stats.Port, "job", JobHAProxy, "cluster", d.Name, "node", node))
		}
	}
	return out
}

// render is the file's text, as Prometheus's file_sd_configs reads it: a line each, because
// a fleet has thousands. An interval other than the one in Prometheus's own file is said
// for each target, and so is a timeout that is not above it.
func render(ts []target, interval desired.Duration) string {
	if len(ts) == 0 {
		return "[]\n"
	}
	var b strings.Builder
	for _, t := range ts {
		if interval != scrapeInterval {
			t.labels = append(slices.Clip(t.labels), [2]string{"__scrape_interval__", interval.String()}, [2]string{"__scrape_timeout__", min(interval, scrapeInterval).String()})
		}
		fmt.Fprintf(&b, "- {targets: [%s], labels: {", quoted(t.address))
		for i, l := range t.labels {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%s: %s", l[0], quoted(l[1]))
		}
		b.WriteString("}}\n")
	}
	return b.String()
}

// quoted is a text between quotes as YAML has it: names of members may hold anything but
// control characters.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

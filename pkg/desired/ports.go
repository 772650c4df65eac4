package desired

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// reservedPorts are held, or will be, by other programs of a node.
var reservedPorts = map[int]string{
	53: "dnsmasq", 2379: "etcd", 2380: "etcd", 3100: "Loki", 9090: "Prometheus", 9095: "Loki",
	9080: "promtail", 9081: "promtail", 9082: "promtail", 9083: "promtail", 9640: "pgctrl server", 9641: "pgagent",
}

// backupPort is the document whose port can be done without: a backup is copied from the primary
// then. A clash leaves the server out, and nothing else.
const backupPort = "backup"

// PortUse is one port that a cluster listens on.
type PortUse struct {
	Port int
	// What is it in words: "PostgreSQL", "service primary".
	What string
	// Document and Field set it: "services/primary", "port".
	Document, Field string
	// Nodes are where it is listened on; sorted.
	Nodes []string
}

// Ports lists every port of the cluster and where it is listened on. Documents that
// can't be used count as far as they can be read: what runs from the last good plan
// holds its ports.
func (c *Cluster) Ports() []PortUse { return c.ports }

// listPorts finds them, once: checks across a fleet ask every cluster for them.
func (c *Cluster) listPorts() []PortUse {
	members, proxies := map[string]bool{}, map[string]bool{}
	for _, n := range c.ProxyNodes() {
		proxies[n] = true
	}
	for _, document := range sortedKeys(c.resolved) {
		if m, ok := c.resolved[document].doc.(*Member); ok && m.Node != "" {
			members[m.Node], proxies[m.Node] = true, true
		}
	}
	var out []PortUse
	if c.Loaded("postgres") {
		port, rest := c.Postgres.Port, c.Postgres.RestPort
		if c.formed != nil {
			port, rest = c.formed.Port, c.formed.RESTPort // whatever the document says since
		}
		out = append(out,
			PortUse{port, "PostgreSQL", "postgres", "port", sortedKeys(members)},
			PortUse{rest, "Patroni's REST API", "postgres", "rest_port", sortedKeys(members)})
	}
	if c.Loaded("pgbouncer") && c.PgBouncer.Enabled {
		out = append(out, PortUse{c.PgBouncer.Port, "PgBouncer", "pgbouncer", "port", sortedKeys(members)})
	}
	if c.Loaded("monitor") && c.Monitor.Enabled {
		out = append(out, PortUse{c.Monitor.PostgresPort, "the PostgreSQL exporter", "monitor", "postgres_port", sortedKeys(members)})
		if !c.Loaded("pgbouncer") || c.PgBouncer.Enabled {
			out = append(out, PortUse{c.Monitor.PgBouncerPort, "the PgBouncer exporter", "monitor", "pgbouncer_port", sortedKeys(members)})
		}
	}
	if c.Loaded(backupPort) && c.Backup.FromReplica() {
		out = append(out, PortUse{c.Backup.ServerPort, "pgBackRest's server", backupPort, "server_port", sortedKeys(members)})
	}
	for _, document := range sortedKeys(c.resolved) {
		if s, ok := c.resolved[document].doc.(*Service); ok && s.Enabled && s.Port > 0 {
			out = append(out, PortUse{s.Port, s.String(), document, "port", sortedKeys(proxies)})
		}
	}
	return out
}

// portProblem is a problem with a port, at the place where it is written.
func (c *Cluster) portProblem(u PortUse, format string, args ...any) Problem {
	return c.resolved[u.Document].problem(u.Field, format, args...)
}

// checkOwnPorts finds ports that the cluster uses twice, and other programs' ports.
// Two HAProxy binds on one port pass `haproxy -c` and split the clients (measured).
func checkOwnPorts(c *Cluster) []Problem {
	var out []Problem
	taken := map[int]PortUse{}
	for _, u := range c.Ports() {
		if by, ok := reservedPorts[u.Port]; ok {
			p := c.portProblem(u, "expected a free port, found %d, which belongs to %s", u.Port, by)
			if u.Document == backupPort {
				p.Reason, p.Nodes = observed.PortConflict, u.Nodes
			}
			out = append(out, p)
			continue
		}
		other, ok := taken[u.Port]
		if !ok {
			taken[u.Port] = u
			continue
		}
		// Blame the port that somebody wrote rather than a default, and one that can be done without
		// rather than any other.
		if c.written(other) && !c.written(u) && u.Document != backupPort || other.Document == backupPort {
			u, other = other, u
		}
		p := c.portProblem(u, "expected a free port, found %d, which %s of this cluster has", u.Port, other.What)
		if u.Document == backupPort {
			p.Reason, p.Nodes = observed.PortConflict, u.Nodes
		}
		out = append(out, p)
	}
	return out
}

func (c *Cluster) written(u PortUse) bool {
	_, ok := c.resolved[u.Document].set[u.Field]
	return ok
}

// older orders clusters by who was there first. A cluster without members has no
// port yet.
func older(a, b *Cluster) bool {
	if a.CreateRevision != b.CreateRevision {
		return a.CreateRevision < b.CreateRevision
	}
	return a.Name < b.Name
}

// checkForeignPorts finds ports that an older cluster has on a shared node.
func checkForeignPorts(c *Cluster, others []*Cluster) []Problem {
	var out []Problem
	for _, u := range c.Ports() {
		for _, o := range others {
			if o.Name == c.Name || !o.Exists() || !older(o, c) {
				continue
			}
			if p, ok := c.collision(u, o); ok {
				out = append(out, p)
				break
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	if free := PortBlock(others, c.Name, c.ProxyNodes()); free > 0 {
		for i := range out {
			out[i].Suggestion = fmt.Sprintf("the next free block on these nodes is +%d", free)
		}
	}
	return out
}

func (c *Cluster) collision(u PortUse, o *Cluster) (Problem, bool) {
	for _, v := range o.Ports() {
		if v.Port != u.Port {
			continue
		}
		var shared []string
		for _, n := range u.Nodes {
			if slices.Contains(v.Nodes, n) {
				shared = append(shared, n)
			}
		}
		if len(shared) == 0 {
			continue
		}
		p := c.portProblem(u, "expected a free port, found %d, which %s of cluster %s has on %s",
			u.Port, v.What, o.Name, strings.Join(shared, ", "))
		p.Reason, p.Nodes = observed.PortConflict, shared
		return p, true
	}
	return Problem{}, false
}

// blockStep is the distance between the port blocks of a node's clusters.
const blockStep = 100

// PortBlock finds what to add to every default port so that a cluster of that name
// has them for itself on the given nodes: 0 for a node's first cluster, else 100,
// 200 and so on; -1 when nothing is free. `pgctrl create` writes the documents.
func PortBlock(clusters []*Cluster, cluster string, nodes []string) int {
	taken := map[int]bool{}
	for p := range reservedPorts {
		taken[p] = true
	}
	for _, o := range clusters {
		if o.Name == cluster {
			continue
		}
		for _, u := range o.Ports() {
			if slices.ContainsFunc(u.Nodes, func(n string) bool { return slices.Contains(nodes, n) }) {
				taken[u.Port] = true
			}
		}
	}
	for offset := 0; offset <= 5000; offset += blockStep {
		free := true
		for _, p := range defaultPorts() {
			free = free && !taken[p.Port+offset]
		}
		if free {
			return offset
		}
	}
	return -1
}

// defaultPorts are the ports of a cluster without documents.
func defaultPorts() []PortUse {
	c := Load(kv.NewMap(), keys.Default, "", backupPort, "monitor", "pgbouncer", "postgres", "services")
	// A server of backups is in nobody's defaults, and may be in the fleet's.
	return append(c.Ports(), PortUse{Port: c.Backup.ServerPort, Document: backupPort, Field: "server_port"})
}

// BlockDocuments are the documents that move a cluster's ports by offset, by the
// tail of their key; none for 0.
func BlockDocuments(offset int) map[string][]byte {
	if offset == 0 {
		return nil
	}
	out := map[string][]byte{}
	for _, u := range defaultPorts() {
		out[u.Document] = fmt.Appendf(out[u.Document], "%s: %d\n", u.Field, u.Port+offset)
	}
	return out
}

package desired

import (
	"slices"

	"github.com/pgctrl/pgctrl/pkg/keys"
)

// Node is a host that runs pgagent: nodes/<node>.
type Node struct {
	Meta    `yaml:"-"`
	Address string   `yaml:"address" format:"ip" required:"true" effect:"move" example:"10.10.10.11" says:"The IP address at which the other nodes and the clients reach this host."`
	Roles   []string `yaml:"roles" enum:"infra,proxy" effect:"reload" example:"[infra]" says:"What the host does besides running members: proxy runs HAProxy for clusters that need no member there; infra runs what serves all clusters: dnsmasq with their names, Prometheus, and Loki where it is installed."`
	// Clusters narrows role proxy; see Proxies.
	Clusters []string `yaml:"clusters" effect:"move" example:"[pg-test]" says:"Which clusters a node with role proxy serves; none named: every cluster. It means nothing without the role. Clusters behind one proxy need ports of their own there."`
}

// The roles a node can have.
const (
	roleInfra = "infra"
	roleProxy = "proxy"
)

// Proxies reports whether the node has role proxy for the cluster. Without a list it
// serves every cluster, so that the first proxy of a fleet needs one word; with many
// clusters the list keeps apart those that have the same ports on nodes of their own.
func (n *Node) Proxies(cluster string) bool {
	return n.HasRole(roleProxy) && (len(n.Clusters) == 0 || slices.Contains(n.Clusters, cluster))
}

// HasRole reports whether the node has a role ("infra", "proxy").
func (n *Node) HasRole(role string) bool { return slices.Contains(n.Roles, role) }

var _ = register(Kind{
	Name: "nodes", Named: true, Fleet: true,
	Meaning:   "A Linux host that runs pgagent.",
	checkName: keys.CheckNode,
	check:     checkNode,
	store:     func(c *Cluster, name string, doc any) { c.Nodes[name] = doc.(*Node) },
}, Node{}, nil)

func checkNode(d *resolved) []Problem {
	n := d.doc.(*Node)
	var out []Problem
	for _, c := range n.Clusters {
		if err := keys.CheckCluster(c); err != nil {
			out = append(out, d.problem("clusters", "%s", err))
		}
	}
	return out
}

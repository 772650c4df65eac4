package desired

import (
	"slices"

	"github.com/pgctrl/pgctrl/pkg/keys"
)

// Node is a host that runs pgagent: nodes/<node>.
type Node struct {
	Meta    `yaml:"-"`
	Address string   `yaml:"address" format:"ip" required:"true" effect:"move" says:"The IP address at which the other nodes and the clients reach this host."`
	Roles   []string `yaml:"roles" enum:"infra,proxy" effect:"reload" says:"What the host does besides running members: infra serves DNS and monitoring, proxy runs HAProxy for every cluster."`
}

// HasRole reports whether the node has a role ("infra", "proxy").
func (n *Node) HasRole(role string) bool { return slices.Contains(n.Roles, role) }

var _ = register(Kind{
	Name: "nodes", Named: true, Fleet: true,
	Meaning:   "A Linux host that runs pgagent.",
	checkName: keys.CheckNode,
	store:     func(c *Cluster, name string, doc any) { c.Nodes[name] = doc.(*Node) },
}, Node{}, nil)

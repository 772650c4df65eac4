package desired

import (
	"slices"

	"github.com/pgctrl/pgctrl/pkg/keys"
)

// Node is a host that runs pgagent: nodes/<node>.
type Node struct {
	Meta    `yaml:"-"`
	Address string   `yaml:"address" format:"ip" required:"true" effect:"move" example:"10.10.10.11" says:"The IP address at which the other nodes and the clients reach this host."`
	Roles   []string `yaml:"roles" enum:"infra,proxy" effect:"reload" example:"[infra]" says:"What the host does besides running members: proxy runs HAProxy for every cluster; infra is for DNS and monitoring, which this version does not have."`
}

// HasRole reports whether the node has a role ("infra", "proxy").
func (n *Node) HasRole(role string) bool { return slices.Contains(n.Roles, role) }

var _ = register(Kind{
	Name: "nodes", Named: true, Fleet: true,
	Meaning:   "A Linux host that runs pgagent.",
	checkName: keys.CheckNode,
	store:     func(c *Cluster, name string, doc any) { c.Nodes[name] = doc.(*Node) },
}, Node{}, nil)

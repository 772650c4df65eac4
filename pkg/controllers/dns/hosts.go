package dns

import (
	"fmt"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Folder is where the files of hosts are, one for each cluster. Nothing else is in it.
const Folder = "/etc/pgctrl/hosts.d"

// hostsOf is the file of hosts of one node: the cluster's own name, then each member's.
func hostsOf(l keys.Layout, t *topology.Topology, node string) plan.Watched {
	d, cluster := &t.Docs.DNS, t.Docs.Name
	target := "{{primary.address}}"
	if t.Docs.NamesVIP() {
		target = t.Docs.VIP.Host()
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# Names of cluster %[1]s on node %[2]s. Written by pgctrl from %[3]s,
# which follows the documents under %[4]s; an edit here is put back.
#   change it:      pgctrl set %[1]s dns suffix=db.example.org     (pgctrl explain dns)
#   leave it alone: touch /etc/pgctrl/freeze.%[1]s     (on this node; until that file is removed)
`, cluster, node, l.PlanKey(node, cluster, Concern), l.ClusterDocs(cluster))
	fmt.Fprintf(&b, "%s %s\n", target, d.FullName(cluster))
	var from []string
	for _, m := range t.Members {
		if t.Leaving[m.Name] {
			continue
		}
		fmt.Fprintf(&b, "%s %s\n", m.Address, d.FullName(m.Name))
		if mayServe(t.Docs.Members[m.Name]) {
			from = append(from, m.Name)
		}
	}
	return plan.Watched{
		File: Folder + "/" + cluster, Mode: "0644", Content: b.String(),
		Replicas: []string{d.FullName(desired.ReplicaName(cluster))}, From: from,
	}
}

// mayServe reports whether a member serves clients that want a replica, when it is one;
// as the service replica sees it. One without a document does.
func mayServe(m *desired.Member) bool {
	return m == nil || !m.Offline && !m.Delayed() && m.Weight > 0
}

func nodeOf(in controllers.Input, node string) *desired.Node {
	return desired.LoadNode(in.Snapshot, in.Layout, node)
}

package dns

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Folder is where the files of hosts are, one for each cluster. Nothing else is in it.
const Folder = "/etc/pgctrl/hosts.d"

// hostsOf is the file of hosts of one node: the cluster's own name, then each member's,
// without those that lead elsewhere.
func hostsOf(l keys.Layout, t *topology.Topology, node string, elsewhere []string) plan.Watched {
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
		if !slices.Contains(elsewhere, m.Name) {
			fmt.Fprintf(&b, "%s %s\n", m.Address, d.FullName(m.Name))
		}
		if mayServe(t.Docs.Members[m.Name]) {
			from = append(from, m.Name)
		}
	}
	w := plan.Watched{File: Folder + "/" + cluster, Mode: "0644", Content: b.String()}
	if replica := desired.ReplicaName(cluster); !slices.Contains(elsewhere, replica) {
		w.Replicas, w.From = []string{d.FullName(replica)}, from
	}
	return w
}

// elsewhere finds the cluster's names that are another cluster's as well. dnsmasq would
// answer with the addresses of both, so one gives way: a member's name to that of a
// cluster or of its replicas, and the name of replicas to that of a cluster.
func elsewhere(in controllers.Input, t *topology.Topology) (names []string, cs []observed.Condition) {
	exists := func(cluster string) bool {
		return cluster != in.Cluster && keys.CheckCluster(cluster) == nil &&
			len(in.Snapshot.Range(in.Layout.ClusterDoc(cluster, "members/"))) > 0
	}
	look := func(name string, clusters ...string) {
		for _, c := range clusters {
			if !slices.Contains(names, name) && exists(c) {
				names = append(names, name)
				cs = append(cs, observed.Condition{
					Type: observed.Planned, Status: observed.False, Reason: observed.NameTaken, Key: in.Layout.ClusterDoc(in.Cluster, Concern),
					Message: fmt.Sprintf("the name %s leads to cluster %s, so it is none of cluster %s's", name, c, in.Cluster),
				})
			}
		}
	}
	look(desired.ReplicaName(in.Cluster), desired.ReplicaName(in.Cluster))
	for _, m := range t.Members {
		name := strings.ToLower(m.Name) // names know no case
		of, _ := strings.CutSuffix(name, desired.ReplicaName(""))
		look(m.Name, name, of)
	}
	return names, cs
}

// mayServe reports whether a member serves clients that want a replica, when it is one;
// as the service replica sees it. One without a document does.
func mayServe(m *desired.Member) bool {
	return m == nil || !m.Offline && !m.Delayed() && m.Weight > 0
}

func nodeOf(in controllers.Input, node string) *desired.Node {
	return desired.LoadNode(in.Snapshot, in.Layout, node)
}

package topology

import (
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// Concerned names the clusters, other than the given one, that a change of its
// documents may concern, because they have something on one of its nodes: those where
// it is now, and those that the documents as they were before the change named.
func Concerned(s kv.Snapshot, l keys.Layout, cluster string, before []kv.KV) []string {
	nodes := desired.Load(s, l, cluster, "members").ProxyNodes()
	for _, e := range before {
		if ref, err := l.Parse(e.Key); err != nil || !strings.HasPrefix(ref.Doc, "members/") {
			continue
		}
		if node := desired.NodeOf(e); node != "" && !slices.Contains(nodes, node) {
			nodes = append(nodes, node)
		}
	}
	return Neighbours(s, l, cluster, nodes)
}

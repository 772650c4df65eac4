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
// it is now, and those that the documents as they were before the change named; or
// because they want the same virtual address, or names that are the cluster's now.
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
	out := Neighbours(s, l, cluster, nodes)
	for _, v := range vips(s, l, cluster, before) {
		out = append(out, Rivals(s, l, cluster, v)...)
	}
	out = append(out, whoseName(s, l, cluster)...)
	slices.Sort(out)
	return slices.Compact(out)
}

// whoseName finds the cluster that a name leads to while no cluster is called so:
// pg-test-replica and pg-test-2 are pg-test's.
func whoseName(s kv.Snapshot, l keys.Layout, name string) []string {
	i := strings.LastIndexByte(name, '-')
	if i <= 0 || len(s.Range(l.ClusterDoc(name[:i], "members/"))) == 0 {
		return nil
	}
	return []string{name[:i]}
}

// vips are the virtual addresses that the cluster's documents name, now and before
// a change.
func vips(s kv.Snapshot, l keys.Layout, cluster string, before []kv.KV) []*desired.VIP {
	out := []*desired.VIP{&desired.Load(s, l, cluster, "vip").VIP}
	for _, e := range before {
		if ref, err := l.Parse(e.Key); err == nil && ref.Doc == "vip" {
			was := &kv.Map{Keys: map[string]kv.KV{e.Key: e}}
			out = append(out, &desired.Load(was, l, cluster, "vip").VIP)
		}
	}
	return out
}

package desired

import (
	"sort"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// readNodes reads every node's document.
func readNodes(s kv.Snapshot, l keys.Layout) []*resolved {
	k := registry["nodes"]
	prefix := l.Prefix(keys.Nodes)
	var out []*resolved
	for _, e := range s.Range(prefix) {
		if name := strings.TrimPrefix(e.Key, prefix); k.checkName(name) == nil {
			out = append(out, k.resolve(name, e.Key, []layer{{kv: e}}))
		}
	}
	return out
}

// Nodes reads the fleet's nodes and everything wrong with their documents.
func Nodes(s kv.Snapshot, l keys.Layout) (map[string]*Node, []Problem) {
	out := map[string]*Node{}
	var problems []Problem
	for _, d := range readNodes(s, l) {
		problems = append(problems, d.problems...)
		if len(d.problems) == 0 {
			out[d.name] = d.doc.(*Node)
		}
	}
	return out, problems
}

// Clusters lists the names of the clusters that have any document, sorted.
func Clusters(s kv.Snapshot, l keys.Layout) []string {
	set := map[string]bool{}
	prefix := l.Prefix(keys.Desired)
	for _, e := range s.Range(prefix) {
		name, doc, found := strings.Cut(strings.TrimPrefix(e.Key, prefix), "/")
		if found && doc != "" && keys.CheckCluster(name) == nil {
			set[name] = true
		}
	}
	return sortedKeys(set)
}

// LoadAll loads every cluster, for checks across them.
func LoadAll(s kv.Snapshot, l keys.Layout, kinds ...string) []*Cluster {
	nodes := readNodes(s, l)
	var out []*Cluster
	for _, name := range Clusters(s, l) {
		out = append(out, load(s, l, name, kinds, nodes))
	}
	return out
}

// Validate reads one document by itself, as it would be under the key.
func Validate(l keys.Layout, key string, data []byte) []Problem {
	k, ref, problem := place(l, key)
	if problem != nil {
		return []Problem{*problem}
	}
	_, problems := k.decode(key, data)
	if len(problems) == 0 && ref.Family == keys.Nodes {
		problems = k.resolve(ref.Node, key, []layer{{kv: kv.KV{Key: key, Value: data}}}).problems
	}
	sort.SliceStable(problems, func(i, j int) bool { return problems[i].Line < problems[j].Line })
	return problems
}

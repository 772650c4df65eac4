package topology

import (
	"maps"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// Rivals names the clusters, other than the given one, whose documents may want the
// virtual address too. Sorted.
func Rivals(s kv.Snapshot, l keys.Layout, cluster string, v *desired.VIP) []string {
	if !v.On() {
		return nil
	}
	docs := kv.Mentioning(s, l.Prefix(keys.Desired), v.Host())
	if strings.Contains(v.Host(), ":") {
		docs = s.Range(l.Prefix(keys.Desired)) // IPv6 has many spellings
	}
	out := map[string]bool{}
	for _, e := range docs {
		ref, err := l.Parse(e.Key)
		if err == nil && ref.Doc == "vip" && ref.Cluster != cluster && v.MayName(e.Value) {
			out[ref.Cluster] = true
		}
	}
	return slices.Sorted(maps.Keys(out))
}

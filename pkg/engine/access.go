package engine

import (
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// place says where in the tail of a family's keys the cluster and the part stand;
// -1: nowhere. What a part is, controllers.Access explains. dotted: the cluster is what
// stands before the first "." of its part (keys.StepID).
type place struct {
	cluster, part int
	dotted        bool
}

var places = map[keys.Family]place{
	keys.Nodes:       {cluster: -1, part: -1},
	keys.Defaults:    {cluster: -1, part: 0},
	keys.Desired:     {cluster: 0, part: 1},
	keys.Formed:      {cluster: 0, part: -1},
	keys.Plan:        {cluster: 1, part: 2},
	keys.Primary:     {cluster: 0, part: -1},
	keys.VIP:         {cluster: 0, part: -1},
	keys.Ready:       {cluster: 0, part: 1},
	keys.Hold:        {cluster: 0, part: -1},
	keys.Observed:    {cluster: 1, part: 2},
	keys.Operations:  {cluster: 0, part: -1},
	keys.Steps:       {cluster: 1, part: -1, dotted: true},
	keys.Results:     {cluster: 1, part: -1, dotted: true},
	keys.Alive:       {cluster: -1, part: -1},
	keys.Status:      {cluster: 0, part: -1},
	keys.Secrets:     {cluster: 0, part: 1},
	keys.Authorities: {cluster: 0, part: -1},
	keys.Election:    {cluster: -1, part: 0},
	keys.Store:       {cluster: -1, part: -1},
	keys.PatroniKey:  {cluster: 0, part: 1},
}

// family is one family of keys as this layout spells it.
type family struct {
	name   keys.Family
	prefix string
	place
	fast bool
}

// atlas is every family the engine mirrors.
type atlas []family

func newAtlas(l keys.Layout) atlas {
	var a atlas
	for _, f := range bulkFamilies {
		a = append(a, family{name: f, prefix: l.Prefix(f), place: places[f]})
	}
	for _, f := range fastFamilies {
		a = append(a, family{name: f, prefix: l.Prefix(f), place: places[f], fast: true})
	}
	return a
}

func (a atlas) family(name keys.Family) (family, bool) {
	for _, f := range a {
		if f.name == name {
			return f, true
		}
	}
	return family{}, false
}

// located is a key understood as far as the engine needs it. Unlike keys.Parse it
// is not strict: a document in no known place still belongs to its cluster.
type located struct {
	family        keys.Family
	cluster, part string
}

func (a atlas) locate(key string) (located, bool) {
	for _, f := range a {
		if tail, ok := f.tail(key); ok {
			return located{family: f.name, cluster: f.clusterIn(tail), part: segment(tail, f.part)}, true
		}
	}
	return located{}, false
}

// tail is what follows the family's prefix. A family without a range is one key.
func (f family) tail(key string) (string, bool) {
	tail, ok := strings.CutPrefix(key, f.prefix)
	return tail, ok && (tail == "" || strings.HasSuffix(f.prefix, "/"))
}

// clusterIn is the cluster whose key a tail is; empty when the family has none.
func (p place) clusterIn(tail string) string {
	s := segment(tail, p.cluster)
	if p.dotted {
		s, _, _ = strings.Cut(s, ".")
	}
	return s
}

// segment is the i-th part of a path, empty when there is none.
func segment(path string, i int) string {
	if i < 0 {
		return ""
	}
	for ; i > 0; i-- {
		_, rest, ok := strings.Cut(path, "/")
		if !ok {
			return ""
		}
		path = rest
	}
	s, _, _ := strings.Cut(path, "/")
	return s
}

// access is one declared Access.
type access struct {
	part  string
	fleet bool
}

// admits reports whether the access covers a key of its family. A key of another
// cluster takes Fleet, because without it nobody would wake the controller when
// that key changes. What clusters on a node share (NodeCluster) is everybody's.
func (a access) admits(cluster, part, own string) bool {
	return (a.part == "" || a.part == part) &&
		(a.fleet || cluster == "" || cluster == own || cluster == keys.NodeCluster)
}

// reading is all that one controller may read, or write, of one family.
type reading struct {
	family
	by []access
}

func (r reading) admits(tail, own string) bool {
	cluster, part := r.clusterIn(tail), segment(tail, r.part)
	for _, a := range r.by {
		if a.admits(cluster, part, own) {
			return true
		}
	}
	return false
}

// fleet reports whether the reading sees other clusters' keys.
func (r reading) fleet() bool {
	for _, a := range r.by {
		if a.fleet || r.cluster < 0 {
			return true
		}
	}
	return false
}

// readings groups declarations by family.
func (a atlas) readings(declared ...[]controllers.Access) []reading {
	var out []reading
	for _, list := range declared {
		for _, d := range list {
			f, ok := a.family(d.Family)
			if !ok {
				continue // New refuses it
			}
			i := 0
			for i < len(out) && out[i].name != f.name {
				i++
			}
			if i == len(out) {
				out = append(out, reading{family: f})
			}
			out[i].by = append(out[i].by, access{part: d.Part, fleet: d.Fleet})
		}
	}
	return out
}

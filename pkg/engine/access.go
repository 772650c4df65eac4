package engine

import (
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// place says where in the tail of a family's keys the cluster and the part stand;
// -1: nowhere. What a part is, controllers.Access explains.
type place struct{ cluster, part int }

var places = map[keys.Family]place{
	keys.Nodes:       {-1, -1},
	keys.Defaults:    {-1, 0},
	keys.Desired:     {0, 1},
	keys.Formed:      {0, -1},
	keys.Plan:        {1, 2},
	keys.Primary:     {0, -1},
	keys.VIP:         {0, -1},
	keys.Ready:       {0, 1},
	keys.Hold:        {0, -1},
	keys.Observed:    {1, 2},
	keys.Alive:       {-1, -1},
	keys.Status:      {0, -1},
	keys.Secrets:     {0, 1},
	keys.Authorities: {0, -1},
	keys.Election:    {-1, 0},
	keys.Store:       {-1, -1},
	keys.PatroniKey:  {0, 1},
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
			return located{family: f.name, cluster: segment(tail, f.cluster), part: segment(tail, f.part)}, true
		}
	}
	return located{}, false
}

// tail is what follows the family's prefix. A family without a range is one key.
func (f family) tail(key string) (string, bool) {
	tail, ok := strings.CutPrefix(key, f.prefix)
	return tail, ok && (tail == "" || strings.HasSuffix(f.prefix, "/"))
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
	cluster, part := segment(tail, r.cluster), segment(tail, r.part)
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

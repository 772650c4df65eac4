package engine

import (
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// near answers, once for each cluster in a batch of changes, whom its documents
// concern.
type near struct {
	e     *Engine
	cs    []store.Change
	known map[string][]string
}

func newNear(e *Engine, cs []store.Change) *near {
	return &near{e: e, cs: cs, known: map[string][]string{}}
}

// of names the cluster itself and those that a change of its documents may concern.
func (n *near) of(cluster string) []string {
	if out, ok := n.known[cluster]; ok {
		return out
	}
	var before []kv.KV
	for _, c := range n.cs {
		if at, ok := n.e.atlas.locate(c.Key); ok && at.cluster == cluster && c.Old != nil {
			before = append(before, *c.Old)
		}
	}
	out := append(n.e.o.Concerned(finder{n.e.bulk.Snapshot(), n.e.atlas}, n.e.o.Layout, cluster, before), cluster)
	n.known[cluster] = out
	return out
}

// finder lets a mirror's snapshot be searched by words.
type finder struct {
	store.Indexed
	atlas
}

// Mentioning implements kv.Finder.
func (f finder) Mentioning(prefix, word string) []kv.KV { return f.mentioning(f.Indexed, prefix, word) }

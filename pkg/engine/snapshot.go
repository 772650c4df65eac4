package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// UndeclaredRead is what a controller panics with that reads what it has not
// declared. It is a fault of the program: nobody would wake the controller when
// the key changes.
type UndeclaredRead struct {
	Controller, Cluster string
	// Key is the key or prefix.
	Key string
}

// Error implements error.
func (e *UndeclaredRead) Error() string {
	return fmt.Sprintf("controller %s, cluster %s: read of %s, which is not among its inputs or outputs", e.Controller, e.Cluster, e.Key)
}

// world is both mirrors at one moment. Each is exact for its own revision; they
// ride on different streams, so one may be ahead. What is decided from it is
// decided again when the other catches up.
type world struct {
	bulk, fast store.Indexed
}

func (w world) of(f family) store.Indexed {
	if f.fast {
		return w.fast
	}
	return w.bulk
}

// declared is the snapshot a controller is given: the world reduced to what it
// declared, for one cluster.
type declared struct {
	world
	atlas               atlas
	controller, cluster string
	readings            []reading
	whole               map[string]kv.KV // plans that were read to be seen whole, by key
}

// GetShort implements kv.Shortened.
func (d *declared) GetShort(key string) (kv.KV, bool) {
	for _, r := range d.readings {
		if tail, ok := r.tail(key); ok && r.admits(tail, d.cluster) {
			return d.of(r.family).Get(key)
		}
	}
	panic(&UndeclaredRead{Controller: d.controller, Cluster: d.cluster, Key: key})
}

// RangeShort implements kv.Shortened. The list is the caller's.
func (d *declared) RangeShort(prefix string) []kv.KV {
	var out []kv.KV
	known, sources := false, 0
	for _, r := range d.readings {
		tail, inside := strings.CutPrefix(prefix, r.prefix)
		switch {
		case inside && !r.mayHold(tail, d.cluster):
			continue
		case !inside && !strings.HasPrefix(r.prefix, prefix):
			continue
		}
		known = true
		if part := d.within(r, tail, inside); len(part) > 0 {
			sources++
			out = append(out, part...)
		}
	}
	if !known {
		panic(&UndeclaredRead{Controller: d.controller, Cluster: d.cluster, Key: prefix})
	}
	if sources > 1 {
		slices.SortFunc(out, func(a, b kv.KV) int { return strings.Compare(a.Key, b.Key) })
	}
	return out
}

// Revision implements kv.Snapshot.
func (d *declared) Revision() int64 { return min(d.bulk.Revision(), d.fast.Revision()) }

// within reads what one reading holds under a prefix; tail is the prefix inside
// the family, or the family is inside the prefix.
func (d *declared) within(r reading, tail string, inside bool) []kv.KV {
	w := d.of(r.family)
	if !inside {
		tail = ""
	}
	var all []kv.KV
	switch {
	case tail != "" || r.fleet():
		all = w.Range(r.prefix + tail)
	case d.cluster == keys.NodeCluster: // its own is what is shared
		all = w.RangeIndex(indexPrefix(r.name, keys.NodeCluster))
	case r.cluster == 0:
		// One cluster of a family of thousands: the rest need not be walked.
		all = append(all, w.Range(r.prefix+d.cluster)...)
		all = append(all, w.Range(r.prefix+keys.NodeCluster)...)
	default:
		all = append(all, w.RangeIndex(indexPrefix(r.name, d.cluster))...)
		all = append(all, w.RangeIndex(indexPrefix(r.name, keys.NodeCluster))...)
		slices.SortFunc(all, func(a, b kv.KV) int { return strings.Compare(a.Key, b.Key) })
	}
	return slices.DeleteFunc(all, func(e kv.KV) bool {
		tail, ok := r.tail(e.Key)
		return !ok || !r.admits(tail, d.cluster)
	})
}

// mayHold reports whether any key that begins with tail could be admitted.
func (r reading) mayHold(tail, own string) bool {
	cluster, whole := begun(tail, r.cluster)
	if before, _, ok := strings.Cut(cluster, "."); ok && r.dotted {
		cluster, whole = before, true
	}
	part, wholePart := begun(tail, r.part)
	for _, a := range r.by {
		clusterFits := a.fleet || r.cluster < 0 || fits(cluster, whole, own) || fits(cluster, whole, keys.NodeCluster)
		partFits := a.part == "" || fits(part, wholePart, a.part)
		if clusterFits && partFits {
			return true
		}
	}
	return false
}

// begun is the i-th segment of a prefix as far as it is written; whole when a "/"
// ends it.
func begun(tail string, i int) (s string, whole bool) {
	if i < 0 {
		return "", false
	}
	return segment(tail, i), strings.Count(tail, "/") > i
}

func fits(s string, whole bool, want string) bool {
	if whole {
		return s == want
	}
	return strings.HasPrefix(want, s)
}

// indexed gives plans and reports, which are sorted by node, a second place by
// cluster: what one cluster has on all nodes is asked for at every step. The
// documents of nodes, members and virtual addresses are found by their words (words.go).
func indexed(a atlas) func(kv.KV) []string {
	return func(e kv.KV) []string {
		for _, f := range a {
			tail, ok := f.tail(e.Key)
			switch {
			case !ok:
			case f.cluster > 0:
				return []string{indexPrefix(f.name, f.clusterIn(tail)) + e.Key}
			case f.name == keys.Nodes:
				return wordPlaces(e)
			case f.name == keys.Alive:
				return distrustPlaces(e)
			case f.name == keys.Desired && slices.Contains([]string{"members", "vip"}, segment(tail, f.part)):
				return wordPlaces(e)
			}
		}
		return nil
	}
}

func indexPrefix(f keys.Family, cluster string) string { return string(f) + "/" + cluster + "\x00" }

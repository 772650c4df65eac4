package store

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/store/internal/tree"
)

// view is one immutable state of a mirror; it is the kv.Snapshot handed out.
type view struct {
	keys     tree.Tree[*kv.KV]
	index    tree.Tree[*kv.KV] // the same, by MirrorOptions.Index
	prefixes []string
	// reached[i] is the revision up to which prefixes[i] is known exactly.
	reached []int64
	// rev is the least of reached: the view holds everything written up to it. To
	// some prefixes it may already hold later writes, because each is watched by
	// itself and waiting for all of them would delay every event.
	rev int64
}

func emptyView(prefixes []string) *view {
	return &view{prefixes: prefixes, reached: make([]int64, len(prefixes))}
}

// Get implements kv.Snapshot.
func (v *view) Get(key string) (kv.KV, bool) {
	e, ok := v.keys.Get(key)
	if !ok {
		return kv.KV{}, false
	}
	return *e, true
}

// Range implements kv.Snapshot.
func (v *view) Range(prefix string) []kv.KV { return within(v.keys, prefix) }

// RangeIndex implements Indexed.
func (v *view) RangeIndex(prefix string) []kv.KV { return within(v.index, prefix) }

func within(t tree.Tree[*kv.KV], prefix string) []kv.KV {
	var out []kv.KV
	for key, e := range t.From(prefix) {
		if !strings.HasPrefix(key, prefix) {
			break
		}
		out = append(out, *e)
	}
	return out
}

// Revision implements kv.Snapshot.
func (v *view) Revision() int64 { return v.rev }

func (v *view) reachedFor(key string) int64 {
	for i, p := range v.prefixes {
		if covers(p, key) {
			return v.reached[i]
		}
	}
	return 0
}

// covers reports whether the prefix, as this package reads it, includes the key.
func covers(prefix, key string) bool {
	return key == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(key, prefix)
}

// upTo returns a copy in which prefix i is known up to rev.
func (v *view) upTo(i int, rev int64) *view {
	next := *v
	next.reached = slices.Clone(v.reached)
	next.reached[i] = max(next.reached[i], rev)
	next.rev = slices.Min(next.reached)
	return &next
}

// set puts a key into a view that nobody else has seen yet.
func (m *Mirror) set(v *view, e *kv.KV) {
	places := m.o.Index(*e)
	if old, ok := v.keys.Get(e.Key); ok {
		for _, place := range m.o.Index(*old) {
			if !slices.Contains(places, place) {
				v.index = v.index.Delete(place)
			}
		}
	}
	v.keys = v.keys.Set(e.Key, e)
	for _, place := range places {
		v.index = v.index.Set(place, e)
	}
}

// remove takes a key out of a view that nobody else has seen yet.
func (m *Mirror) remove(v *view, key string) {
	old, ok := v.keys.Get(key)
	if !ok {
		return
	}
	v.keys = v.keys.Delete(key)
	for _, place := range m.o.Index(*old) {
		v.index = v.index.Delete(place)
	}
}

// list reads all prefixes at one revision.
func (m *Mirror) list(ctx context.Context) (*view, error) {
	next := emptyView(m.o.Prefixes)
	var b tree.Builder[*kv.KV]
	places := map[string]*kv.KV{}
	for i, p := range m.o.Prefixes { // sorted, so the keys are too
		rev, err := m.client.eachAt(ctx, p, next.rev, func(e kv.KV) {
			kept := m.o.Keep(e)
			b.Add(e.Key, &kept)
			for _, place := range m.o.Index(kept) {
				places[place] = &kept
			}
		})
		if err != nil {
			return nil, err
		}
		next.rev, next.reached[i] = rev, rev
	}
	next.keys = b.Tree()
	next.index = sorted(places)
	return next, nil
}

func sorted(places map[string]*kv.KV) tree.Tree[*kv.KV] {
	var b tree.Builder[*kv.KV]
	for _, place := range slices.Sorted(maps.Keys(places)) {
		b.Add(place, places[place])
	}
	return b.Tree()
}

// diff returns what changed between two views, by key.
func (m *Mirror) diff(old, new *view) []Change {
	var out []Change
	for o, n := range pairs(old.keys, new.keys) {
		if m.matters(o, n) {
			out = append(out, Change{Key: keyOf(o, n), Old: o, New: n, Initial: !m.loaded})
		}
	}
	return out
}

func keyOf(a, b *kv.KV) string {
	if a != nil {
		return a.Key
	}
	return b.Key
}

// pairs walks two trees side by side; what one of them lacks is nil.
func pairs(a, b tree.Tree[*kv.KV]) iter.Seq2[*kv.KV, *kv.KV] {
	return func(yield func(*kv.KV, *kv.KV) bool) {
		next, stop := iter.Pull2(b.From(""))
		defer stop()
		key, y, more := next()
		for k, x := range a.From("") {
			for more && key < k {
				if !yield(nil, y) {
					return
				}
				key, y, more = next()
			}
			if more && key == k {
				if !yield(x, y) {
					return
				}
				key, y, more = next()
			} else if !yield(x, nil) {
				return
			}
		}
		for ; more; key, y, more = next() {
			if !yield(nil, y) {
				return
			}
		}
	}
}

package reuse

import (
	"slices"

	"github.com/pgctrl/pgctrl/pkg/kv"
)

// read is a question to a snapshot and what the answer was.
type read struct {
	kind      kind
	key, word string // key or prefix
	found     []version
}

type kind uint8

const (
	get kind = iota
	getRange
	mentioning
)

// version tells one content of a key from every other: by the revision, and by the very
// bytes in memory, because an etcd that was put back gives revisions a second time.
type version struct {
	key              string
	found            bool
	modified, create int64
	first            *byte
	size             int
}

func versionOf(e kv.KV, found bool) version {
	v := version{key: e.Key, found: found, modified: e.ModRevision, create: e.CreateRevision, size: len(e.Value)}
	if v.size > 0 {
		v.first = &e.Value[0]
	}
	return v
}

func versionsOf(list []kv.KV) []version {
	out := make([]version, len(list))
	for i, e := range list {
		out[i] = versionOf(e, true)
	}
	return out
}

// holds reports whether everything would be read as it was.
func (a *answer) holds(s kv.Snapshot) bool {
	for i := range a.reads {
		if r := &a.reads[i]; !slices.Equal(r.found, r.again(s)) {
			return false
		}
	}
	return true
}

// again asks the question once more. Of plans the short form is looked at, which costs
// nothing and is another one whenever the plan is.
func (r *read) again(s kv.Snapshot) []version {
	switch r.kind {
	case get:
		return []version{versionOf(kv.GetShort(s, r.key))}
	case getRange:
		return versionsOf(kv.RangeShort(s, r.key))
	default:
		return versionsOf(kv.Mentioning(s, r.key, r.word))
	}
}

// recorder is a snapshot that keeps account of what is read of it.
type recorder struct {
	s     kv.Snapshot
	reads []read
	// moving: the snapshot's own revision was asked for, which no later one has.
	moving bool
}

func (r *recorder) record(k kind, key, word string, found ...version) {
	r.reads = append(r.reads, read{kind: k, key: key, word: word, found: found})
}

// Get implements kv.Snapshot.
func (r *recorder) Get(key string) (kv.KV, bool) {
	r.record(get, key, "", versionOf(kv.GetShort(r.s, key)))
	return r.s.Get(key)
}

// Range implements kv.Snapshot.
func (r *recorder) Range(prefix string) []kv.KV {
	r.record(getRange, prefix, "", versionsOf(kv.RangeShort(r.s, prefix))...)
	return r.s.Range(prefix)
}

// GetShort implements kv.Shortened.
func (r *recorder) GetShort(key string) (kv.KV, bool) {
	e, ok := kv.GetShort(r.s, key)
	r.record(get, key, "", versionOf(e, ok))
	return e, ok
}

// RangeShort implements kv.Shortened.
func (r *recorder) RangeShort(prefix string) []kv.KV {
	list := kv.RangeShort(r.s, prefix)
	r.record(getRange, prefix, "", versionsOf(list)...)
	return list
}

// Mentioning implements kv.Finder.
func (r *recorder) Mentioning(prefix, word string) []kv.KV {
	list := kv.Mentioning(r.s, prefix, word)
	r.record(mentioning, prefix, word, versionsOf(list)...)
	return list
}

// Revision implements kv.Snapshot.
func (r *recorder) Revision() int64 {
	r.moving = true
	return r.s.Revision()
}

// Package kv holds the one shape in which every other package sees etcd: a key,
// its value and the revisions that order it. It imports nothing, so that the
// packages that decide (controllers, plans, status) need no etcd to be tested.
package kv

import (
	"sort"
	"strings"
)

// KV is one key as etcd stored it.
type KV struct {
	Key   string
	Value []byte
	// ModRevision is the store revision of the last write to the key. It is the
	// generation of a document and the epoch of a leader key.
	ModRevision int64
	// CreateRevision is the store revision at which the key came to exist. A key
	// deleted and written again has a new one, which tells it from an update.
	CreateRevision int64
	// Lease is the etcd lease the key is bound to; 0 when it has none.
	Lease int64
}

// Snapshot is an immutable, consistent view of some key ranges at one revision.
type Snapshot interface {
	// Get returns the key, and false when it does not exist.
	Get(key string) (KV, bool)
	// Range returns every key that begins with prefix, sorted by key. The caller
	// must not change the values.
	Range(prefix string) []KV
	// Revision is the store revision the snapshot is exact for.
	Revision() int64
}

// Map is a Snapshot over a plain map; for tests and small views.
type Map struct {
	At   int64
	Keys map[string]KV
}

// NewMap returns a Map of the given keys; revisions that are zero are numbered
// in the order given, so that a test need not spell them.
func NewMap(kvs ...KV) *Map {
	m := &Map{Keys: make(map[string]KV, len(kvs))}
	for i, e := range kvs {
		if e.ModRevision == 0 {
			e.ModRevision = int64(i + 1)
		}
		if e.CreateRevision == 0 {
			e.CreateRevision = e.ModRevision
		}
		m.At = max(m.At, e.ModRevision)
		m.Keys[e.Key] = e
	}
	return m
}

// Get implements Snapshot.
func (m *Map) Get(key string) (KV, bool) {
	e, ok := m.Keys[key]
	return e, ok
}

// Range implements Snapshot.
func (m *Map) Range(prefix string) []KV {
	var out []KV
	for k, e := range m.Keys {
		if strings.HasPrefix(k, prefix) {
			out = append(out, e)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out
}

// Revision implements Snapshot.
func (m *Map) Revision() int64 { return m.At }

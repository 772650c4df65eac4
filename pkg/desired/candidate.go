package desired

import (
	"bytes"
	"slices"
	"sort"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// Candidate finds what would be wrong if the keys were written; a nil value deletes
// the key. It looks at one cluster, or at all when cluster is empty or a key outside
// the cluster is written (a default or a node concerns everybody).
//
// Problems that were there before have Existing set: they should not keep anybody
// from writing something else, least of all the repair of another problem.
func Candidate(s kv.Snapshot, l keys.Layout, cluster string, writes map[string][]byte) []Problem {
	next := Overlay(s, writes)
	for key := range writes {
		if cluster != "" && !strings.HasPrefix(key, l.ClusterDocs(cluster)) {
			cluster = ""
		}
	}
	before := fleetProblems(s, l, cluster)
	out := fleetProblems(next, l, cluster)
	// A default that no cluster has a use for yet, and a key in the wrong place, are
	// looked at by nobody else.
	for key, value := range writes {
		if value == nil {
			continue
		}
		for _, p := range Validate(l, key, value) {
			if !slices.ContainsFunc(out, p.same) {
				out = append(out, p)
			}
		}
	}
	out = append(out, movedMembers(s, next, l, writes)...)
	for i, p := range out {
		out[i].Existing = slices.ContainsFunc(before, p.same)
	}
	sortProblems(out)
	return out
}

// fleetProblems is everything wrong with one cluster, or with all.
func fleetProblems(s kv.Snapshot, l keys.Layout, only string) []Problem {
	all := LoadAll(s, l)
	_, out := Nodes(s, l)
	_, hooks := FleetHooks(s, l)
	out = append(out, hooks...)
	if only != "" {
		out = nil // one of the cluster is among the cluster's problems
	}
	for _, c := range all {
		if only != "" && c.Name != only {
			continue
		}
		for _, p := range append(slices.Clone(c.Problems), Check(c, all)...) {
			if !slices.ContainsFunc(out, p.same) {
				out = append(out, p)
			}
		}
	}
	return out
}

// movedMembers finds members whose node would change. What people read as a move
// would be two things under one name.
func movedMembers(s, next kv.Snapshot, l keys.Layout, writes map[string][]byte) []Problem {
	var out []Problem
	for key := range writes {
		k, ref, p := place(l, key)
		if p != nil || k.Name != "members" || ref.Family != keys.Desired {
			continue
		}
		_, name := ref.Document()
		was := Load(s, l, ref.Cluster, "members").Members[name]
		c := Load(next, l, ref.Cluster, "members")
		is := c.Members[name]
		if was == nil || is == nil || was.Node == is.Node {
			continue
		}
		q := c.memberProblem(is, "expected %s, because a member's node never changes, found %s", was.Node, is.Node)
		q.Suggestion = "add a member on " + is.Node + " and remove this one"
		out = append(out, q)
	}
	return out
}

// Overlay is the snapshot as it would be after the writes; a nil value deletes.
func Overlay(s kv.Snapshot, writes map[string][]byte) kv.Snapshot {
	return &overlay{Snapshot: s, writes: writes}
}

type overlay struct {
	kv.Snapshot
	writes map[string][]byte
}

// Get implements kv.Snapshot.
func (o *overlay) Get(key string) (kv.KV, bool) {
	value, written := o.writes[key]
	old, existed := o.Snapshot.Get(key)
	switch {
	case !written:
		return old, existed
	case value == nil:
		return kv.KV{}, false
	case existed && bytes.Equal(old.Value, value):
		return old, true
	}
	at := o.Snapshot.Revision() + 1
	e := kv.KV{Key: key, Value: value, ModRevision: at, CreateRevision: at}
	if existed {
		e.CreateRevision = old.CreateRevision
	}
	return e, true
}

// Range implements kv.Snapshot.
func (o *overlay) Range(prefix string) []kv.KV {
	var out []kv.KV
	for _, e := range o.Snapshot.Range(prefix) {
		if _, written := o.writes[e.Key]; !written {
			out = append(out, e)
		}
	}
	for key := range o.writes {
		if e, ok := o.Get(key); ok && strings.HasPrefix(key, prefix) {
			out = append(out, e)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out
}

// New returns the problems that were not there before a change.
func New(problems []Problem) Problems {
	var out Problems
	for _, p := range problems {
		if !p.Existing {
			out = append(out, p)
		}
	}
	return out
}

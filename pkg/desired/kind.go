package desired

import (
	"fmt"
	"reflect"
	"sort"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/near"
)

// Kind is one sort of document. A new one is a file with a struct and a call of
// register.
type Kind struct {
	// Name is the document's name in its key: "postgres", "members".
	Name string `json:"name"`
	// Named: there are many of it, each with a name: "members/<name>".
	Named bool `json:"named"`
	// Fleet: it belongs to no cluster (nodes).
	Fleet bool `json:"fleet,omitempty"`
	// Both: clusters have it and so has the fleet (hooks). It inherits no defaults.
	Both bool `json:"both,omitempty"`
	// Meaning is one sentence.
	Meaning string `json:"meaning"`
	// Standard are the names that exist without a document.
	Standard []string `json:"standard,omitempty"`
	// Inherits: a name in the defaults exists in every cluster.
	Inherits bool    `json:"inherits,omitempty"`
	Fields   []Field `json:"fields"`

	model     reflect.Type
	checkName func(string) error
	// builtin returns defaults that depend on the document's name or other fields.
	builtin func(name string, set settings) map[string]any
	// check looks at one merged document.
	check func(d *resolved) []Problem
	// store puts the document into the cluster; doc is a pointer to the struct.
	store func(c *Cluster, name string, doc any)
}

// Meta is what every document has besides its fields.
type Meta struct {
	// Name is the last part of the key; the kind for documents without a name.
	Name string `json:"name,omitempty"`
	// Key is the etcd key. It need not exist: what has defaults needs no document.
	Key string `json:"key,omitempty"`
	// ModRevision and CreateRevision are the key's; 0 when it does not exist.
	ModRevision    int64 `json:"mod_revision,omitempty"`
	CreateRevision int64 `json:"create_revision,omitempty"`
}

func (m *Meta) meta() *Meta { return m }

var registry = map[string]*Kind{}

// register adds a kind. entries are the rules of its map fields.
func register(k Kind, model any, entries map[string]*entryRule) *Kind {
	k.model = reflect.TypeOf(model)
	k.Fields = tableOf(model, entries)
	if registry[k.Name] != nil {
		panic("desired: two kinds are named " + k.Name)
	}
	registry[k.Name] = &k
	return &k
}

// Kinds returns every kind of this version, sorted by name.
func Kinds() []*Kind {
	out := make([]*Kind, 0, len(registry))
	for _, k := range registry {
		out = append(out, k)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// KindOf finds the kind of a document: "members", "members/pg-test-1" and
// "defaults/members" are all of kind members. The error has a near miss.
func KindOf(document string) (*Kind, error) {
	name, _, _ := strings.Cut(strings.TrimPrefix(document, "defaults/"), "/")
	if k, ok := registry[name]; ok {
		return k, nil
	}
	if hint := near.Hint(name, kindNames(func(*Kind) bool { return true })); hint != "" {
		return nil, fmt.Errorf("unknown document %q; %s", name, hint)
	}
	return nil, fmt.Errorf("unknown document %q; expected one of %s", name,
		strings.Join(kindNames(func(*Kind) bool { return true }), ", "))
}

// nameOf is the name in a document: "primary" of "services/primary" and of
// "defaults/services/primary", empty for "postgres".
func nameOf(document string) string {
	_, name, _ := strings.Cut(strings.TrimPrefix(document, "defaults/"), "/")
	return name
}

// kindNames are the names of the kinds that match, sorted.
func kindNames(match func(*Kind) bool) []string {
	var out []string
	for _, k := range Kinds() {
		if match(k) {
			out = append(out, k.Name)
		}
	}
	return out
}

// clusterKinds are the names of the kinds that a cluster has.
func clusterKinds() []string { return kindNames(func(k *Kind) bool { return !k.Fleet }) }

// Fields lists the fields of a document kind, in the order to show them; nil when
// there is no such kind.
func Fields(kind string) []Field {
	k, err := KindOf(kind)
	if err != nil {
		return nil
	}
	return append([]Field(nil), k.Fields...)
}

// Complete lists the fields of a document whose names begin with prefix.
func Complete(document, prefix string) []string {
	var out []string
	for _, f := range Fields(document) {
		if strings.HasPrefix(f.Path, prefix) {
			out = append(out, f.Path)
		}
	}
	return out
}

// field finds a field by its path; entry is what remains of the path below a map
// field, such as "pg_stat_statements.max" of "parameters.pg_stat_statements.max".
func (k *Kind) field(path string) (f *Field, entry string, ok bool) {
	for i := range k.Fields {
		f := &k.Fields[i]
		if f.Path == path {
			return f, "", true
		}
		if rest, below := strings.CutPrefix(path, f.Path+"."); below && f.Type == Map && rest != "" {
			return f, rest, true
		}
	}
	return nil, "", false
}

// children are the field names directly below a path, and whether each is a group.
func (k *Kind) children(path string) (names []string, group map[string]bool) {
	group = map[string]bool{}
	for _, f := range k.Fields {
		rest := f.Path
		if path != "" {
			var ok bool
			if rest, ok = strings.CutPrefix(f.Path, path+"."); !ok {
				continue
			}
		}
		name, _, deeper := strings.Cut(rest, ".")
		if _, seen := group[name]; !seen {
			names = append(names, name)
		}
		group[name] = deeper
	}
	return names, group
}

// Key is the key of a document of this kind.
func (k *Kind) Key(l keys.Layout, cluster, name string) string {
	switch {
	case k.Fleet:
		return l.Node(name)
	case k.Named:
		return l.ClusterDoc(cluster, k.Name+"/"+name)
	}
	return l.ClusterDoc(cluster, k.Name)
}

package keys

import (
	"fmt"
	"strings"
)

// Ref is a key understood: which family it belongs to and whom it concerns.
// Fields that a family does not have are empty.
type Ref struct {
	Family  Family
	Cluster string
	Node    string
	Concern string
	// Doc is the tail of a document's key, such as "members/pg-test-1" or
	// "postgres"; of a Patroni key, the part below the scope, such as "leader".
	Doc string
}

// Document splits Doc into its kind and name: "members/pg-test-1" is
// ("members", "pg-test-1"), "postgres" is ("postgres", "").
func (r Ref) Document() (kind, name string) {
	kind, name, _ = strings.Cut(r.Doc, "/")
	return kind, name
}

// Parse understands a key. A key under neither tree, or in no place that the
// layout knows, is an error that says where keys of that kind belong: people
// write keys by hand, and a key in the wrong place must not be silence.
func (l Layout) Parse(key string) (Ref, error) {
	if tail, ok := strings.CutPrefix(key, l.Prefix(PatroniKey)); ok {
		cluster, doc, found := strings.Cut(tail, "/")
		if !found || cluster == "" || doc == "" {
			return Ref{}, fmt.Errorf("key %s: expected %s<cluster>/<name>", key, l.Prefix(PatroniKey))
		}
		return Ref{Family: PatroniKey, Cluster: cluster, Doc: doc}, nil
	}
	tail, ok := strings.CutPrefix(key, l.RootPrefix())
	if !ok {
		return Ref{}, fmt.Errorf("key %s: expected a key under %s", key, l.RootPrefix())
	}
	parts := strings.Split(tail, "/")
	for _, p := range parts {
		if p == "" {
			return Ref{}, fmt.Errorf("key %s: has an empty part; remove the extra \"/\"", key)
		}
	}
	if parts[0] == "desired" {
		return l.parseDesired(key, parts[1:])
	}
	return l.parseDerived(key, parts)
}

func (l Layout) parseDesired(key string, parts []string) (Ref, error) {
	switch {
	case len(parts) == 2 && parts[0] == "nodes":
		return Ref{Family: Nodes, Node: parts[1]}, nil
	case len(parts) >= 2 && len(parts) <= 3 && parts[0] == "defaults":
		return Ref{Family: Defaults, Doc: strings.Join(parts[1:], "/")}, nil
	case len(parts) == 2 && parts[0] == "hooks":
		return Ref{Family: Hooks, Doc: "hooks/" + parts[1]}, nil
	case len(parts) >= 3 && len(parts) <= 4 && parts[0] == "clusters":
		return Ref{Family: Desired, Cluster: parts[1], Doc: strings.Join(parts[2:], "/")}, nil
	}
	return Ref{}, fmt.Errorf("key %s is in no known place: documents live under %s, %s and %s",
		key, l.Node("<node>"), l.DefaultsDoc("<document>"), l.ClusterDoc("<cluster>", "<document>"))
}

func (l Layout) parseDerived(key string, parts []string) (Ref, error) {
	f := Family(parts[0])
	n := len(parts) - 1
	switch f {
	case Plan, Observed:
		if n == 3 {
			return Ref{Family: f, Node: parts[1], Cluster: parts[2], Concern: parts[3]}, nil
		}
	case Steps, Results:
		if cluster, _, ok := strings.Cut(parts[min(2, n)], "."); n == 2 && ok {
			return Ref{Family: f, Node: parts[1], Cluster: cluster, Doc: parts[2]}, nil
		}
	case Moves:
		if n == 2 {
			return Ref{Family: f, Node: parts[1], Cluster: parts[2]}, nil
		}
	case Cursors:
		if n == 1 {
			return Ref{Family: f, Doc: parts[1]}, nil
		}
		if n == 2 && parts[1] == "removed" {
			return Ref{Family: f, Cluster: parts[2], Doc: parts[1]}, nil
		}
	case Deliveries: // Doc is the hook, and what of it: hook/state, hook/dead/<event>
		if n == 3 && parts[3] == "state" || n == 4 && (parts[3] == "dead" || parts[3] == "again") {
			return Ref{Family: f, Cluster: parts[1], Doc: strings.Join(parts[2:], "/")}, nil
		}
	case Operations, Events, Verdicts:
		if n == 2 {
			return Ref{Family: f, Cluster: parts[1], Doc: parts[2]}, nil
		}
	case Alive:
		if n == 1 {
			return Ref{Family: f, Node: parts[1]}, nil
		}
	case Primary, VIP, Hold, Turn, Status, Changes, Formed, Authorities:
		if n == 1 {
			return Ref{Family: f, Cluster: parts[1]}, nil
		}
	case Ready:
		if n == 2 {
			return Ref{Family: f, Cluster: parts[1], Doc: parts[2]}, nil
		}
	case Secrets: // the cluster's own by name, those of its users and certificates in parts of their own
		if n == 2 || n == 3 && (parts[2] == userSecrets || parts[2] == tlsSecrets || parts[2] == backupTLS) {
			return Ref{Family: f, Cluster: parts[1], Doc: strings.Join(parts[2:], "/")}, nil
		}
	case Election:
		return Ref{Family: f, Doc: strings.Join(parts[1:], "/")}, nil
	case Store:
		if n == 0 {
			return Ref{Family: f}, nil
		}
	}
	return Ref{}, fmt.Errorf("key %s is in no known place under %s", key, l.RootPrefix())
}

package desired

import (
	"fmt"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/near"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Misplaced finds the keys under the desired tree that mean nothing: in no known
// place, with a name that can't be, or of an unknown kind. People write keys by
// hand, and a key in the wrong place must not be silence.
func Misplaced(s kv.Snapshot, l keys.Layout) []Problem {
	var out []Problem
	for _, e := range s.Range(l.DesiredPrefix()) {
		if _, _, p := place(l, e.Key); p != nil {
			out = append(out, *p)
		}
	}
	sortProblems(out)
	return out
}

// place says which kind of document belongs under a key.
func place(l keys.Layout, key string) (*Kind, keys.Ref, *Problem) {
	ref, err := l.Parse(key)
	if err != nil {
		return nil, ref, misplacedPart(l, key, err)
	}
	switch ref.Family {
	case keys.Nodes:
		return registry["nodes"], ref, nameProblem(key, keys.CheckNode(ref.Node))
	case keys.Hooks:
		k := registry["hooks"]
		_, name := ref.Document()
		return k, ref, nameProblem(key, k.checkName(name))
	case keys.Defaults:
		k, p := placeDefault(l, key, ref)
		return k, ref, p
	case keys.Desired:
		if p := nameProblem(key, keys.CheckCluster(ref.Cluster)); p != nil {
			return nil, ref, p
		}
		k, p := placeDocument(l, key, ref)
		return k, ref, p
	}
	return nil, ref, misplaced(key, "", "expected a key under %s, which is where documents are", l.DesiredPrefix())
}

func misplaced(key, suggestion, format string, args ...any) *Problem {
	return &Problem{Key: key, Reason: observed.MisplacedKey, Suggestion: suggestion, Message: fmt.Sprintf(format, args...)}
}

func nameProblem(key string, err error) *Problem {
	if err == nil {
		return nil
	}
	return misplaced(key, "the key is ignored", "%s", err)
}

// misplacedPart finds a near miss of the part that says which sort of key it is.
func misplacedPart(l keys.Layout, key string, err error) *Problem {
	tail, ok := strings.CutPrefix(key, l.DesiredPrefix())
	if !ok {
		return misplaced(key, "", "expected a key under %s, which is where documents are", l.DesiredPrefix())
	}
	first, _, _ := strings.Cut(tail, "/")
	known := []string{"nodes", "defaults", "hooks", "clusters"}
	if hint := near.Hint(first, known); hint != "" {
		return misplaced(key, hint, "%q is in no known place; the key is ignored", first)
	}
	return misplaced(key, "the key is ignored", "%s", strings.TrimPrefix(err.Error(), "key "+key+" "))
}

func placeDocument(l keys.Layout, key string, ref keys.Ref) (*Kind, *Problem) {
	name, doc := ref.Document()
	k := registry[name]
	switch {
	case k == nil || k.Fleet:
		return nil, misplaced(key, near.Hint(name, clusterKinds()),
			"unknown document %q of cluster %s; the key is ignored", name, ref.Cluster)
	case k.Named && doc == "":
		return nil, misplaced(key, "", "expected %s, found no name; the key is ignored", l.ClusterDoc(ref.Cluster, name+"/<name>"))
	case !k.Named && doc != "":
		return nil, misplaced(key, "", "expected %s, found one more part; the key is ignored", l.ClusterDoc(ref.Cluster, name))
	case k.Named:
		return k, nameProblem(key, k.checkName(doc))
	}
	return k, nil
}

func placeDefault(l keys.Layout, key string, ref keys.Ref) (*Kind, *Problem) {
	name, doc := ref.Document()
	k := registry[name]
	switch {
	case k == nil:
		return nil, misplaced(key, near.Hint(name, clusterKinds()), "unknown document %q; the key is ignored", name)
	case k.Fleet, k.Both:
		return nil, misplaced(key, "", "%s inherit no defaults; the key is ignored", name)
	case doc != "" && !k.Inherits:
		return nil, misplaced(key, "", "expected %s, found one more part; the key is ignored", l.DefaultsDoc(name))
	case doc != "":
		return k, nameProblem(key, k.checkName(doc))
	}
	return k, nil
}

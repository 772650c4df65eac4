package certificate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Part is the part of the secrets that Mint writes; its controller also writes
// keys.Authorities.
var Part = strings.TrimSuffix(keys.TLSSecret(""), "/")

// concerns are those whose plans name certificates.
var concerns = []string{topology.Concern, topology.Pooler}

// Inputs is what Mint reads besides topology.Inputs.
func Inputs() []controllers.Access {
	var out []controllers.Access
	for _, c := range concerns {
		out = append(out, controllers.Access{Family: keys.Plan, Part: c}, controllers.Access{Family: keys.Observed, Part: c})
	}
	return append(out, controllers.Access{Family: keys.Secrets}, controllers.Access{Family: keys.Authorities})
}

// Mint asks for what the cluster's own certificate takes, and for the deletion of those
// that nobody has any more. Only one controller may.
func Mint(in controllers.Input, t *topology.Topology) ([]controllers.Output, []observed.Condition) {
	keep := map[string]bool{keys.TLSAuthority: true}
	var out []controllers.Output
	var cs []observed.Condition
	if own(t) {
		authority, public, wanted := in.Layout.AuthorityKey(in.Cluster), in.Layout.Secret(in.Cluster, keys.TLSAuthority), Wanted(in, t)
		keep[wanted] = true
		_, signs := in.Snapshot.Get(authority)
		_, trusted := in.Snapshot.Get(public)
		switch {
		case !signs && named(in, t):
			cs = append(cs, lost(in, authority))
		case !signs && trusted: // of an authority that is gone, and nobody uses it
			out = []controllers.Output{{Key: public, Mode: controllers.Delete}}
		default:
			out = []controllers.Output{
				mint(authority, controllers.Recipe{Kind: controllers.Authority, Name: "pgctrl authority of " + in.Cluster}),
				mint(public, controllers.Recipe{Kind: controllers.AuthorityCertificate, From: authority}),
				mint(in.Layout.Secret(in.Cluster, wanted), controllers.Recipe{
					Kind: controllers.Certificate, From: authority, Name: in.Cluster, Names: Names(in, t),
				}),
			}
		}
	}
	return append(out, Unused(in, t, in.Layout.TLSSecrets(in.Cluster), concerns, keep)...), cs
}

func mint(key string, r controllers.Recipe) controllers.Output {
	return controllers.Output{Key: key, Mode: controllers.Mint, Recipe: r}
}

// named reports whether any plan names the authority: clients may trust it.
func named(in controllers.Input, t *topology.Topology) bool {
	return slices.ContainsFunc(concerns, func(concern string) bool {
		return slices.ContainsFunc(t.AllStored(in, concern), func(s *topology.Stored) bool {
			return s.Head.UID == t.Formed.UID && slices.ContainsFunc(slices.Collect(maps.Keys(s.Head.Secrets)), isCertificate)
		})
	})
}

// lost says that another authority would be trusted by nobody.
func lost(in controllers.Input, key string) observed.Condition {
	return observed.Condition{
		Type: observed.Planned, Status: observed.False, Reason: observed.RecordLost, Key: key,
		Message: "the authority that signs the cluster's certificates is gone, and clients would not trust another one; put the key back from a backup of etcd",
		Next:    fmt.Sprintf("pgctrl set %s postgres tls=off (and back, to begin with an authority that every client has to be given)", in.Cluster),
	}
}

// Unused asks for the deletion of the secrets in a range that no plan of the concerns names,
// once every node has said that its plans are in force: what a host has at the moment must be
// there for its agent to read again.
func Unused(in controllers.Input, t *topology.Topology, secrets string, concerns []string, keep map[string]bool) []controllers.Output {
	prefix := in.Layout.ClusterSecrets(in.Cluster)
	var left []string
	for _, e := range in.Snapshot.Range(secrets) {
		if name := strings.TrimPrefix(e.Key, prefix); !keep[name] {
			left = append(left, name)
		}
	}
	if len(left) == 0 {
		return nil // nearly always; looking at all plans takes longer
	}
	named := map[string]bool{}
	for _, concern := range concerns {
		for _, s := range t.AllStored(in, concern) {
			if s.Report == nil || !s.Report.Done(s.Revision) {
				return nil
			}
			for name := range s.Head.Secrets {
				named[name] = true
			}
		}
	}
	var out []controllers.Output
	for _, name := range left {
		if !named[name] {
			out = append(out, controllers.Output{Key: prefix + name, Mode: controllers.Delete})
		}
	}
	return out
}

// Forget deletes all that Mint made; the cluster is gone.
func Forget(in controllers.Input) []controllers.Output {
	var out []controllers.Output
	for _, e := range in.Snapshot.Range(in.Layout.TLSSecrets(in.Cluster)) {
		out = append(out, controllers.Output{Key: e.Key, Mode: controllers.Delete})
	}
	return append(out, controllers.Output{Key: in.Layout.AuthorityKey(in.Cluster), Mode: controllers.Delete})
}

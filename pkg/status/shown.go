package status

import (
	"maps"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// shown is a snapshot as the engine shows it to a concern, for a reader who can't see
// secrets: that they exist, and at which revision, is read from the stored plans. So a
// rotation that no server has planned yet is not seen; nothing else is missed.
type shown struct {
	kv.Snapshot
	secrets   string // the prefix of the cluster's
	authority string // the key that signs its certificates
	revisions map[string]int64
	// plans is the prefix of all plans, and of the concerns are those that it declared;
	// none: all of them.
	plans string
	of    []string
}

// secretRevisions are those that the stored plans were made with.
func (c *computer) secretRevisions() map[string]int64 {
	revisions := map[string]int64{}
	for _, concerns := range c.plans {
		for _, p := range concerns {
			for name, rev := range p.Secrets {
				revisions[name] = max(revisions[name], rev)
			}
		}
	}
	return revisions
}

func (c *computer) shownTo(concern controllers.Controller, secrets map[string]int64) kv.Snapshot {
	s := &shown{
		Snapshot: c.Snapshot, secrets: c.Layout.ClusterSecrets(c.Cluster), authority: c.Layout.AuthorityKey(c.Cluster), revisions: secrets, plans: c.Layout.Prefix(keys.Plan),
	}
	for _, a := range slices.Concat(concern.Inputs(), concern.Outputs()) {
		if a.Family == keys.Plan && a.Part != "" {
			s.of = append(s.of, a.Part)
		}
	}
	return s
}

// Get implements kv.Snapshot.
func (s *shown) Get(key string) (kv.KV, bool) {
	name, secret := strings.CutPrefix(key, s.secrets)
	if key == s.authority { // if it is gone, the server finds that
		return kv.KV{Key: key}, true
	}
	if !secret {
		return s.Snapshot.Get(key)
	}
	rev := s.revisions[name]
	return kv.KV{Key: key, ModRevision: rev, CreateRevision: rev}, true
}

// Range implements kv.Snapshot. Of secrets it shows those that a plan names.
func (s *shown) Range(prefix string) []kv.KV {
	if strings.HasPrefix(prefix, s.secrets) {
		return s.named(prefix)
	}
	return s.declared(prefix, s.Snapshot.Range(prefix))
}

func (s *shown) named(prefix string) (out []kv.KV) {
	for _, name := range slices.Sorted(maps.Keys(s.revisions)) {
		if key := s.secrets + name; strings.HasPrefix(key, prefix) {
			e, _ := s.Get(key)
			out = append(out, e)
		}
	}
	return out
}

// GetShort and RangeShort implement kv.Shortened.
func (s *shown) GetShort(key string) (kv.KV, bool) {
	if strings.HasPrefix(key, s.secrets) || key == s.authority {
		return s.Get(key)
	}
	return kv.GetShort(s.Snapshot, key)
}

// RangeShort implements kv.Shortened.
func (s *shown) RangeShort(prefix string) []kv.KV {
	if strings.HasPrefix(prefix, s.secrets) {
		return s.named(prefix)
	}
	return s.declared(prefix, kv.RangeShort(s.Snapshot, prefix))
}

// Mentioning implements kv.Finder.
func (s *shown) Mentioning(prefix, word string) []kv.KV {
	return kv.Mentioning(s.Snapshot, prefix, word)
}

// declared leaves out other concerns' plans.
func (s *shown) declared(prefix string, list []kv.KV) []kv.KV {
	if prefix != s.plans || len(s.of) == 0 {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(e kv.KV) bool {
		return !slices.Contains(s.of, e.Key[strings.LastIndexByte(e.Key, '/')+1:])
	})
}

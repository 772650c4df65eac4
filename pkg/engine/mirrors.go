package engine

import (
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// bulkFamilies is what may be large, or come in waves.
var bulkFamilies = []keys.Family{
	keys.Nodes, keys.Defaults, keys.Desired, keys.Formed, keys.Plan, keys.Observed, keys.Operations, keys.Steps, keys.Results, keys.Alive, keys.Status,
	keys.Secrets, keys.Authorities, keys.Election, keys.Store,
}

// fastFamilies is what a failover consists of. They ride on a stream of their own,
// so that a thousand new plans can't stand before a new leader.
var fastFamilies = []keys.Family{keys.PatroniKey, keys.Primary, keys.VIP, keys.Ready, keys.Hold}

func (e *Engine) newMirrors() {
	o := e.o
	// Documents are one range with whatever lies beside the known places, because a
	// key in the wrong place must be seen to be reported.
	prefixes := []string{o.Layout.DesiredPrefix()}
	for _, f := range bulkFamilies {
		prefixes = append(prefixes, o.Layout.Prefix(f))
	}
	secrets, authorities, plans := o.Layout.Prefix(keys.Secrets), o.Layout.Prefix(keys.Authorities), o.Layout.Prefix(keys.Plan)
	e.bulk = store.NewMirror(o.Client, store.MirrorOptions{
		Name: "bulk", Prefixes: prefixes, Stream: "bulk", ProbeEvery: o.ProbeEvery, Log: o.Log,
		Keep: func(k kv.KV) kv.KV {
			switch {
			case strings.HasPrefix(k.Key, secrets), strings.HasPrefix(k.Key, authorities):
				k.Value = nil // R11: no controller, log or dump of the snapshot can hold it
			case strings.HasPrefix(k.Key, plans):
				k.Value = plan.Shorten(k.Value) // a fleet's plans don't fit into memory
			}
			return k
		},
		// A document's generation is its revision, so rewriting it with the same
		// content is a change as well; and of a secret nothing else is known.
		Project: func(k kv.KV) []byte { return strconv.AppendInt(nil, k.ModRevision, 10) },
		Index:   indexed(e.atlas),
	})
	prefixes = nil
	for _, f := range fastFamilies {
		prefixes = append(prefixes, o.Layout.Prefix(f))
	}
	pg := o.Layout.Prefix(keys.PatroniKey)
	e.fast = store.NewMirror(o.Client, store.MirrorOptions{
		Name: "fast", Prefixes: prefixes, Stream: "fast", ProbeEvery: o.ProbeEvery, Log: o.Log,
		Project: func(k kv.KV) []byte {
			if len(k.Key) > len(pg) && k.Key[:len(pg)] == pg {
				return patroni.Project(k.Key, k.Value)
			}
			return k.Value
		},
	})
	e.bulk.OnChange(func(_ int64, cs []store.Change) { e.changed(cs) })
	e.fast.OnChange(func(_ int64, cs []store.Change) { e.changed(cs) })
}

func (e *Engine) world() world { return world{bulk: e.bulk.Snapshot(), fast: e.fast.Snapshot()} }

func (e *Engine) mirrorOf(f family) *store.Mirror {
	if f.fast {
		return e.fast
	}
	return e.bulk
}

package cli

import (
	"context"
	"slices"
	"sort"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// The words that stand where a cluster stands and mean documents without one.
const (
	scopeDefaults = "defaults"
	scopeNodes    = "nodes"
	scopeHooks    = "hooks" // of the fleet
)

// documentFamilies are what writing a document needs to be judged against: every
// document of the fleet, and which agents there are.
// and the ports that clusters took when they formed.
var documentFamilies = []keys.Family{keys.Nodes, keys.Defaults, keys.Desired, keys.Alive, keys.Formed}

// statusFamilies are all that status computes from: everything but the secrets.
var statusFamilies = []keys.Family{
	keys.Nodes, keys.Defaults, keys.Desired, keys.Formed, keys.Plan, keys.Primary, keys.VIP, keys.Ready, keys.Hold,
	keys.Observed, keys.Operations, keys.Steps, keys.Results, keys.Alive, keys.Status, keys.Changes, keys.Election, keys.Store, keys.PatroniKey,
}

// live is what etcd holds at one moment.
type live struct {
	kv.Snapshot
	layout keys.Layout
}

// read lists families. Each is one moment; documents come first, so that what is
// made of them is never older than they are.
func (a *app) read(ctx context.Context, families ...keys.Family) (*live, error) {
	c, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	m := kv.NewMap()
	for _, p := range prefixes(a.settings.Layout, families) {
		es, rev, err := c.List(ctx, p)
		if err != nil {
			return nil, a.unreachable(err)
		}
		for _, e := range es {
			m.Keys[e.Key] = e
		}
		m.At = max(m.At, rev)
	}
	return &live{Snapshot: m, layout: a.settings.Layout}, nil
}

// prefixes are the ranges of families. Documents are one range with whatever lies
// beside the known places, because a key in the wrong place must be shown.
func prefixes(l keys.Layout, families []keys.Family) []string {
	var out []string
	for _, f := range families {
		p := l.Prefix(f)
		if f == keys.Nodes || f == keys.Defaults || f == keys.Desired {
			p = l.DesiredPrefix()
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// follower is a live view that keeps up with etcd until it is stopped.
type follower struct {
	*store.Mirror
	// poke has a value when something changed since it was last received from.
	poke chan struct{}
	stop context.CancelFunc
}

// follow starts a live view of everything but secrets, and returns when it is whole.
func (a *app) follow(ctx context.Context) (*follower, error) {
	c, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(ctx)
	f := &follower{
		Mirror: store.NewMirror(c, store.MirrorOptions{Name: "cli", Prefixes: prefixes(a.settings.Layout, statusFamilies)}),
		poke:   make(chan struct{}, 1), stop: stop,
	}
	f.OnChange(func(int64, []store.Change) {
		select {
		case f.poke <- struct{}{}:
		default:
		}
	})
	go func() { _ = f.Run(running) }() // it ends with its context and returns nothing worth saying
	select {
	case <-f.Ready():
		return f, nil
	case <-ctx.Done():
		stop()
		return nil, ctx.Err()
	}
}

func (l *live) clusters() []string { return desired.Clusters(l, l.layout) }

// cluster checks that a cluster exists; the error has a near miss.
func (l *live) cluster(name string) error {
	all := l.clusters()
	if slices.Contains(all, name) {
		return nil
	}
	if len(all) == 0 {
		return fail("no cluster %s; there is none yet", name).then("pgctrl create %s --on <node>,<node>,<node>", name)
	}
	return fail("no cluster %s%s", name, didYouMean(name, all)).then("pgctrl status (lists all)")
}

// documents are the tails of the keys of a cluster, of the defaults or of the nodes.
func (l *live) documents(scope string) []string {
	prefix := l.layout.ClusterDocs(scope)
	switch scope {
	case scopeDefaults:
		prefix = l.layout.Prefix(keys.Defaults)
	case scopeNodes:
		prefix = l.layout.Prefix(keys.Nodes)
	case scopeHooks:
		prefix = l.layout.Prefix(keys.Hooks)
	}
	var out []string
	for _, e := range l.Range(prefix) {
		out = append(out, strings.TrimPrefix(e.Key, prefix))
	}
	return out
}

// names collects a part of the keys of a family, once each, sorted.
func (l *live) names(f keys.Family, part func(keys.Ref) string) []string {
	set := map[string]bool{}
	for _, e := range l.Range(l.layout.Prefix(f)) {
		if r, err := l.layout.Parse(e.Key); err == nil && r.Family == f {
			set[part(r)] = true
		}
	}
	out := sortedKeys(set)
	sort.Strings(out)
	return out
}

// alive is a node's presence.
func (l *live) alive(node string) (observed.Alive, bool) {
	return observed.Read[observed.Alive](l, l.layout.AliveKey(node))
}

// present lists the nodes whose agent is there.
func (l *live) present() []string {
	return l.names(keys.Alive, func(r keys.Ref) string { return r.Node })
}

// fleetScope reports whether a scope is no cluster: its documents concern all of them.
func fleetScope(scope string) bool {
	return scope == scopeDefaults || scope == scopeNodes || scope == scopeHooks
}

// schemaName is the document as package desired names it: without the scope that
// belongs to no cluster.
func schemaName(scope, document string) string {
	if scope == scopeNodes || scope == scopeHooks {
		return scope + "/" + document
	}
	return document
}

// hookKey is the key of a hook's document in a scope.
func hookKey(l keys.Layout, scope, hook string) string {
	if scope == scopeHooks {
		return l.FleetHook(hook)
	}
	return l.ClusterDoc(scope, scopeHooks+"/"+hook)
}

// keyOf is the etcd key of a document in a scope.
func keyOf(l keys.Layout, scope, document string) string {
	switch scope {
	case scopeDefaults:
		return l.DefaultsDoc(document)
	case scopeNodes:
		return l.Node(document)
	case scopeHooks:
		return l.FleetHook(document)
	}
	return l.ClusterDoc(scope, document)
}

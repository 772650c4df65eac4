package desired

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Cluster is what people want of one cluster: its documents with the defaults.
// Only the kinds that were asked for are loaded; the fields of others are zero.
type Cluster struct {
	Name    string
	Members map[string]*Member
	// Postgres has its defaults when there is no document.
	Postgres Postgres
	// Services has every service but stats, the standard ones included; those that
	// are switched off have Enabled false.
	Services map[string]*Service
	// Users and Databases are what has a document.
	Users     map[string]*User
	Databases map[string]*Database
	// HBA has every rule about who may connect, the standard ones included; those that
	// are switched off have Enabled false.
	HBA map[string]*HBA
	// Hooks is what has a document.
	Hooks map[string]*Hook
	// Freeze is what is left alone, and until when.
	Freeze Freeze
	// Stats is HAProxy's own page; only Port and Enabled mean something.
	Stats Service
	// PgBouncer has its defaults when there is no document.
	PgBouncer PgBouncer
	// VIP is the virtual address; without a document it has none.
	VIP VIP
	// DNS has its defaults when there is no document.
	DNS DNS
	// Monitor has its defaults when there is no document.
	Monitor Monitor
	// Log has its defaults when there is no document.
	Log Log
	// Restore is the backup of another cluster that this one begins with, if with any.
	Restore Restore
	// Backup has its defaults when there is no document.
	Backup Backup
	// Nodes are those of the members and those with role proxy that serve the cluster,
	// as far as their documents can be used, with dns and monitor those with role infra as
	// well.
	// Clusters share them: do not change one.
	Nodes map[string]*Node
	// Revision is the newest mod revision of what the cluster is made of: its
	// documents, the defaults, and the nodes of its members. A node elsewhere in the
	// fleet does not count, or every plan would change with it.
	Revision int64
	// CreateRevision is the oldest member's; 0 when members were not loaded.
	CreateRevision int64
	// Problems is everything wrong with the documents that were read.
	Problems []Problem
	// Declared are the keys that were read, by key.
	Declared map[string]kv.KV

	ports []PortUse
	// formed is what the cluster took when it formed; nil before, or when nobody asks.
	formed *observed.Formed
	// strangers are the nodes there are, when a member names one that is not there.
	strangers []string
	kinds     []string
	invalid   map[string]bool
	resolved  map[string]*resolved
}

// Invalid reports whether a document of the kind, or a default for it, can't be
// used. The controller then returns no outputs, so the last good plans stay (R4).
func (c *Cluster) Invalid(kind string) bool { return c.invalid[kind] }

// Loaded reports whether a kind was asked for.
func (c *Cluster) Loaded(kind string) bool { return slices.Contains(c.kinds, kind) }

// Exists reports whether anybody wants the cluster: it has a member's document.
func (c *Cluster) Exists() bool { return c.CreateRevision > 0 }

// byName returns documents sorted by name.
func byName[T any](named map[string]*T) []*T {
	out := make([]*T, 0, len(named))
	for _, n := range sortedKeys(named) {
		out = append(out, named[n])
	}
	return out
}

// MemberList returns the members, sorted by name.
func (c *Cluster) MemberList() []*Member { return byName(c.Members) }

// ServiceList returns the services that are switched on, sorted by name; not stats.
func (c *Cluster) ServiceList() []*Service {
	out := make([]*Service, 0, len(c.Services))
	for _, n := range sortedKeys(c.Services) {
		if c.Services[n].Enabled {
			out = append(out, c.Services[n])
		}
	}
	return out
}

// ProxyNodes returns the names of the nodes that are to run the cluster's HAProxy:
// those of its members and those with role proxy; sorted. None when the cluster is
// to be removed.
func (c *Cluster) ProxyNodes() []string {
	set := map[string]bool{}
	if c.Removing() {
		return nil
	}
	for _, m := range c.Members {
		if !m.Absent() {
			set[m.Node] = true
		}
	}
	for _, n := range c.Nodes {
		if n.Proxies(c.Name) {
			set[n.Name] = true
		}
	}
	return sortedKeys(set)
}

// Load reads one cluster's documents of some kinds; all kinds when none is named.
// It reads those documents, their defaults and nodes, with postgres also the record of
// how the cluster formed, and nothing else, because a controller's snapshot refuses
// what the controller has not declared.
func Load(s kv.Snapshot, l keys.Layout, cluster string, kinds ...string) *Cluster {
	return load(s, l, cluster, kinds, &someNodes{s: s, l: l})
}

// load takes the nodes from its caller: reading all of them for every cluster of a
// fleet would be quadratic.
func load(s kv.Snapshot, l keys.Layout, cluster string, kinds []string, nodes nodeSource) *Cluster {
	if len(kinds) == 0 {
		kinds = clusterKinds()
	}
	c := &Cluster{
		Name: cluster, Members: map[string]*Member{}, Services: map[string]*Service{}, Nodes: map[string]*Node{},
		HBA: map[string]*HBA{}, Users: map[string]*User{}, Databases: map[string]*Database{}, Hooks: map[string]*Hook{},
		Declared: map[string]kv.KV{}, kinds: kinds, invalid: map[string]bool{}, resolved: map[string]*resolved{},
	}
	ld := &loader{Snapshot: s, layout: l, c: c}
	for _, name := range kinds {
		k := registry[name]
		if k == nil || k.Fleet {
			panic(fmt.Sprintf("desired: a cluster has no documents of kind %q", name))
		}
		ld.load(k)
	}
	ld.nodes(s, nodes)
	if c.Loaded("postgres") {
		if f, ok := observed.Read[observed.Formed](s, l.FormedKey(cluster)); ok {
			c.formed = &f
		}
	}
	c.ports = c.listPorts()
	sortProblems(c.Problems)
	return c
}

// loader reads keys and keeps account of them.
type loader struct {
	kv.Snapshot
	layout keys.Layout
	c      *Cluster
}

func (ld *loader) use(e kv.KV) kv.KV {
	ld.c.Declared[e.Key] = e
	ld.c.Revision = max(ld.c.Revision, e.ModRevision)
	return e
}

func (ld *loader) load(k *Kind) {
	var shared []layer
	if e, ok := ld.Get(ld.layout.DefaultsDoc(k.Name)); ok && !k.Both {
		shared = append(shared, layer{kv: ld.use(e), shared: true})
	}
	if !k.Named {
		key := ld.layout.ClusterDoc(ld.c.Name, k.Name)
		if e, ok := ld.Get(key); ok {
			shared = append(shared, layer{kv: ld.use(e)})
		}
		ld.add(k.resolve(k.Name, key, shared), k.Name)
		return
	}
	layers := map[string][]layer{}
	for _, name := range k.Standard {
		layers[name] = slices.Clone(shared)
	}
	prefixes := []string{ld.layout.ClusterDoc(ld.c.Name, k.Name+"/")}
	if k.Inherits {
		prefixes = append([]string{ld.layout.DefaultsDoc(k.Name + "/")}, prefixes...)
	}
	for _, prefix := range prefixes {
		for _, e := range ld.Range(prefix) {
			name := strings.TrimPrefix(e.Key, prefix)
			if k.checkName(name) != nil {
				continue // Misplaced says so; such a key means nothing
			}
			if layers[name] == nil {
				layers[name] = slices.Clone(shared)
			}
			layers[name] = append(layers[name], layer{kv: ld.use(e)})
		}
	}
	for _, name := range sortedKeys(layers) {
		ld.add(k.resolve(name, k.Key(ld.layout, ld.c.Name, name), layers[name]), k.Name+"/"+name)
	}
	if len(layers) == 0 {
		// Nobody is there to find a fault in the defaults for all.
		ld.problems(k, k.sharedProblems(shared))
	}
}

func (k *Kind) sharedProblems(shared []layer) []Problem {
	var out []Problem
	for _, l := range shared {
		set, problems := k.decode(l.kv.Key, l.kv.Value)
		out = append(append(out, problems...), dropOwn(k, set)...)
	}
	return out
}

// add keeps a document. One that can't be used is left out, unless there is exactly
// one of its kind; then it is there as far as it could be read.
func (ld *loader) add(d *resolved, document string) {
	ld.problems(d.kind, d.problems)
	ld.c.resolved[document] = d
	if m, ok := d.doc.(*Member); ok && m.CreateRevision > 0 {
		// A member that can't be read is one all the same: its PostgreSQL runs.
		ld.c.CreateRevision = cmp.Or(min(ld.c.CreateRevision, m.CreateRevision), m.CreateRevision)
	}
	if len(d.problems) == 0 || !d.kind.Named {
		d.kind.store(ld.c, d.name, d.doc)
	}
}

// problems keeps problems once: a fault in the defaults is found by every document.
func (ld *loader) problems(k *Kind, ps []Problem) {
	for _, p := range ps {
		ld.c.invalid[k.Name] = true
		if !slices.ContainsFunc(ld.c.Problems, func(q Problem) bool { return q.same(p) && q.Line == p.Line }) {
			ld.c.Problems = append(ld.c.Problems, p)
		}
	}
}

// nodes takes the nodes that the cluster needs. One whose document can't be used
// concerns the cluster only when one of its members is there.
func (ld *loader) nodes(s kv.Snapshot, nodes nodeSource) {
	used := map[string]bool{}
	for _, m := range ld.c.Members {
		used[m.Node] = true
	}
	for _, name := range sortedKeys(used) {
		d := nodes.node(name)
		if d == nil {
			ld.c.strangers = nodes.names()
			continue
		}
		if e, ok := s.Get(d.key); ok {
			ld.use(e)
		}
		ld.problems(d.kind, d.problems)
		if len(d.problems) == 0 {
			d.kind.store(ld.c, d.name, d.doc)
		}
	}
	for _, d := range nodes.withRole(roleProxy) {
		if n := d.doc.(*Node); len(d.problems) == 0 && n.Proxies(ld.c.Name) {
			d.kind.store(ld.c, d.name, d.doc)
		}
	}
	if !ld.c.Loaded("dns") && !ld.c.Loaded("monitor") {
		return
	}
	for _, d := range nodes.withRole(roleInfra) {
		if n := d.doc.(*Node); len(d.problems) == 0 && n.HasRole(roleInfra) {
			d.kind.store(ld.c, d.name, d.doc)
		}
	}
}

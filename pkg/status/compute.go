package status

import (
	"strings"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// computer holds what the parts of one computation share.
type computer struct {
	Input
	docs    *desired.Cluster
	formed  *observed.Formed
	plans   map[string]map[string]stored          // by node and concern
	reports map[string]map[string]observed.Report // by node and concern
	// live is Patroni's side: its members, and the confirmed primary if any.
	live    map[string]patroni.Member
	primary *observed.Primary
	config  patroni.Config

	out ClusterStatus
}

type stored struct {
	plan.Short
	key      string
	revision int64
}

// newComputer is one that has read nothing.
func newComputer(in Input) *computer {
	return &computer{
		Input: in, plans: map[string]map[string]stored{}, reports: map[string]map[string]observed.Report{}, live: map[string]patroni.Member{},
	}
}

// Compute is the status of one cluster.
func Compute(in Input) ClusterStatus {
	c := newComputer(in)
	c.docs = desired.Load(in.Snapshot, in.Layout, in.Cluster)
	c.read()
	c.out = ClusterStatus{Cluster: in.Cluster, Exists: c.docs.Exists(), Revision: c.docs.Revision, Paused: c.config.Pause}
	if c.formed != nil {
		c.out.PostgreSQL = c.formed.Version
	}
	if e, ok := in.Snapshot.Get(in.Layout.Leader(in.Cluster)); ok {
		c.out.Leader, c.out.Epoch = string(e.Value), e.ModRevision
		c.out.Timeline = c.live[c.out.Leader].Timeline
	}
	// A confirmation is worth what the leader key says.
	rec, _ := observed.Read[observed.Store](in.Snapshot, in.Layout.StoreKey())
	if p := c.primary; p != nil && (p.Store == "" || p.Store == rec.Incarnation) && p.Writable && p.Member == c.out.Leader && p.Epoch <= c.out.Epoch {
		c.out.Primary = p.Member
		// The record has the new timeline about a second before the member key.
		c.out.Timeline = max(c.out.Timeline, p.Timeline)
	}
	c.freeze()
	c.members()
	c.services()
	c.vip()
	c.backups()
	c.tasks()
	unfinished := c.planned()
	c.hosts()
	c.leadership()
	c.misplaced()
	c.hooks()
	c.server()
	c.store()
	c.count(unfinished)
	c.out.Conditions = worstFirst(c.out.Conditions)
	c.out.Ready = c.out.Exists
	for _, cond := range c.out.Conditions {
		c.out.Ready = c.out.Ready && !cond.Blocking()
	}
	return c.out
}

// read collects the cluster's keys.
func (c *computer) read() {
	if f, ok := observed.Read[observed.Formed](c.Snapshot, c.Layout.FormedKey(c.Cluster)); ok {
		c.formed = &f
	}
	if p, ok := observed.Read[observed.Primary](c.Snapshot, c.Layout.PrimaryKey(c.Cluster)); ok && p.Of(c.uid(), c.system()) {
		c.primary = &p
	}
	for _, e := range c.Snapshot.Range(c.Layout.Members(c.Cluster)) {
		name := strings.TrimPrefix(e.Key, c.Layout.Members(c.Cluster))
		if m, err := patroni.ParseMember(name, e.Value); err == nil {
			c.live[name] = m
		}
	}
	if e, ok := c.Snapshot.Get(c.Layout.Scope(c.Cluster) + "config"); ok {
		c.config, _ = patroni.ParseConfig(e.Value) // one that can't be read says nothing
	}
	// A plan of another store's time says nothing about what this one's documents want.
	store, _ := observed.Read[observed.Store](c.Snapshot, c.Layout.StoreKey())
	c.each(keys.Plan, func(ref keys.Ref, e kv.KV) {
		p, err := plan.ReadShort(e.Value)
		ours := (c.formed == nil || p.UID == c.formed.UID) && (store.Incarnation == "" || p.Store == store.Incarnation)
		if err == nil && ours {
			put(c.plans, ref, stored{Short: p, key: e.Key, revision: e.ModRevision})
		}
	})
	c.each(keys.Observed, func(ref keys.Ref, e kv.KV) {
		if r, err := observed.Decode[observed.Report](e); err == nil && r.Of(c.uid()) {
			put(c.reports, ref, r)
		}
	})
}

// uid is the cluster's, empty before it formed.
func (c *computer) uid() string {
	if c.formed == nil {
		return ""
	}
	return c.formed.UID
}

// system is the cluster's system identifier, empty before it has one.
func (c *computer) system() string {
	e, _ := c.Snapshot.Get(c.Layout.Scope(c.Cluster) + "initialize")
	return string(e.Value)
}

// alive reports whether the node's agent has its presence.
func (c *computer) alive(node string) bool {
	_, ok := c.Snapshot.Get(c.Layout.AliveKey(node))
	return ok
}

// each calls f for every key of the family that concerns the cluster; values may be
// short.
func (c *computer) each(family keys.Family, f func(keys.Ref, kv.KV)) {
	for _, e := range kv.RangeShort(c.Snapshot, c.Layout.Prefix(family)) {
		// Parsing is dearer than looking, and most keys are other clusters'.
		if !strings.Contains(e.Key, "/"+c.Cluster+"/") {
			continue
		}
		if ref, err := c.Layout.Parse(e.Key); err == nil && ref.Cluster == c.Cluster {
			f(ref, e)
		}
	}
}

func put[V any](m map[string]map[string]V, ref keys.Ref, v V) {
	if m[ref.Node] == nil {
		m[ref.Node] = map[string]V{}
	}
	m[ref.Node][ref.Concern] = v
}

func (c *computer) add(concern, node string, cond observed.Condition) {
	c.out.Conditions = append(c.out.Conditions, Condition{Concern: concern, Node: node, Condition: cond})
}

// misplaced adds keys among the cluster's documents that mean nothing.
func (c *computer) misplaced() {
	for _, p := range desired.Misplaced(&within{c.Snapshot, c.Layout.ClusterDocs(c.Cluster)}, c.Layout) {
		cond := p.Condition()
		cond.Reason = observed.MisplacedKey
		c.add("", "", cond)
	}
}

// within is a snapshot of one range, so that one cluster's status does not read
// the documents of all.
type within struct {
	kv.Snapshot
	prefix string
}

// Range implements kv.Snapshot.
func (w *within) Range(string) []kv.KV { return w.Snapshot.Range(w.prefix) }

// server says which server plans, or that none does.
func (c *computer) server() {
	id, cond := Server(c.Input)
	c.out.Controller, c.out.Standbys = id, Standbys(c.Input)
	if cond != nil {
		c.add("", "", *cond)
	}
}

// Server is the id of the server that plans at present, and the condition when
// there is none.
func Server(in Input) (string, *observed.Condition) {
	key := in.Layout.ElectionKey()
	if e, ok := in.Snapshot.Get(key); ok {
		return string(e.Value), nil
	}
	return "", &observed.Condition{
		Type: observed.Planned, Status: observed.Unknown, Reason: observed.NoServer, Key: key,
		Message: observed.Meaning[observed.NoServer], Next: "systemctl start pgctrl-server",
	}
}

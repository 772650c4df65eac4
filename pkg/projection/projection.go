// Package projection finds events in what was written to etcd: a pure function of what one
// transaction changed. Nobody has to announce anything, and nobody can forget to: a document put
// with etcdctl, a key of Patroni's and a report of an agent's are events by being written.
//
// The answer depends on nothing but the changes and on which clusters a node has members of, so
// whichever server asks, and however often, finds the same events under the same names.
package projection

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// Change is one key that a transaction wrote; New is nil when it deleted it, Old when it did not
// exist.
type Change struct {
	Key      string
	Old, New *kv.KV
}

// Projection finds events. It remembers which clusters a node has members of, by the reports that
// there are, and nothing else.
type Projection struct {
	layout keys.Layout
	homes  map[string]map[string]bool // node -> clusters
}

// New returns a projection that knows the reports with these keys.
func New(l keys.Layout, reports []string) *Projection {
	p := &Projection{layout: l, homes: map[string]map[string]bool{}}
	for _, key := range reports {
		p.home(key, true)
	}
	return p
}

// Prefixes are what is to be read of etcd.
func Prefixes(l keys.Layout) []string {
	out := []string{l.DesiredPrefix()}
	for _, f := range []keys.Family{
		keys.PatroniKey, keys.Primary, keys.Ready, keys.Moves, keys.Observed, keys.Operations, keys.Status, keys.Alive,
		keys.Election, keys.Changes, keys.Deliveries, keys.Verdicts,
	} {
		out = append(out, l.Prefix(f))
	}
	return out
}

// Of returns the events in what one transaction changed, in order: the leader's first, because
// what follows from a leadership names its event by the epoch (Cause).
func (p *Projection) Of(revision int64, changes []Change, seen time.Time, past bool) []events.Event {
	m := &moment{Projection: p, by: writerOf(p.layout, changes)}
	for _, c := range slices.SortedStableFunc(slices.Values(changes), func(a, b Change) int {
		return cmp.Compare(p.order(a.Key), p.order(b.Key))
	}) {
		m.change(c)
	}
	for i := range m.found {
		e := &m.found[i]
		e.Schema, e.Seen, e.Late = events.Schema, seen, past
		e.ID = events.ID{Revision: revision, N: i}.String()
		if e.Severity == "" {
			d, _ := events.Describe(e.Kind)
			e.Severity = d.Severity
		}
		if e.At.IsZero() {
			e.At = seen
		}
		e.Message = short(e.Message, maxMessage)
		// Of keys that somebody writes by hand anything may be a name.
		for _, s := range []*string{&e.Node, &e.Member, &e.Concern, &e.Subject, &e.From, &e.To, &e.Cause, &e.By, &e.Reason, &e.Next} {
			*s = short(*s, maxWord)
		}
	}
	return m.found
}

// order is which keys of a transaction come first.
func (p *Projection) order(key string) int {
	if strings.HasPrefix(key, p.layout.Prefix(keys.PatroniKey)) {
		return 0
	}
	return 1
}

// moment is one transaction being looked at.
type moment struct {
	*Projection
	by    writer
	found []events.Event
}

func (m *moment) add(e events.Event) { m.found = append(m.found, e) }

func (m *moment) change(c Change) {
	ref, err := m.layout.Parse(c.Key)
	if err != nil {
		return // Patroni may write more keys than we know, and a document in the wrong place is a condition
	}
	switch ref.Family {
	case keys.Desired, keys.Defaults, keys.Nodes, keys.Hooks:
		m.document(ref, c)
	case keys.PatroniKey:
		m.patroni(ref, c)
	case keys.Primary:
		m.primary(ref, c)
	case keys.Ready:
		m.pooler(ref, c)
	case keys.Moves:
		m.moves(ref, c)
	case keys.Observed:
		m.home(c.Key, c.New != nil)
		m.report(ref, c)
	case keys.Status:
		m.status(ref, c)
	case keys.Operations:
		m.operation(ref, c)
	case keys.Alive:
		m.agent(ref, c)
	case keys.Election:
		m.server(ref, c)
	case keys.Deliveries:
		m.delivery(ref, c)
	case keys.Verdicts:
		m.verdict(ref, c)
	}
}

// home notes that a node has, or has no more, a member of a cluster: agents report on postgres
// where there is one.
func (p *Projection) home(key string, there bool) {
	ref, err := p.layout.Parse(key)
	if err != nil || ref.Family != keys.Observed || ref.Concern != "postgres" {
		return
	}
	if !there {
		delete(p.homes[ref.Node], ref.Cluster)
		return
	}
	if p.homes[ref.Node] == nil {
		p.homes[ref.Node] = map[string]bool{}
	}
	p.homes[ref.Node][ref.Cluster] = true
}

// each adds an event about a node to the streams of the clusters that have a member there, and to
// the fleet's when none has.
func (m *moment) each(node string, e events.Event) {
	e.Node = node
	clusters := make([]string, 0, 1)
	for c := range m.homes[node] {
		clusters = append(clusters, c)
	}
	slices.Sort(clusters)
	if len(clusters) == 0 {
		clusters = append(clusters, events.Fleet)
	}
	for _, c := range clusters {
		e.Cluster = c
		m.add(e)
	}
}

// How long a message may be, because programs' own words can be pages, and anything else.
const (
	maxMessage = 1000
	maxWord    = 300
)

func short(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + " ..."
}

// underEpoch is the cause of what follows from a leadership: Patroni writes the leader key alone,
// so its event is the first of that revision.
func underEpoch(epoch int64) string {
	if epoch == 0 {
		return ""
	}
	return events.ID{Revision: epoch}.String()
}

// revision is the cause of what follows from something written then.
func revision(rev int64) string {
	if rev == 0 {
		return ""
	}
	return strconv.FormatInt(rev, 10)
}

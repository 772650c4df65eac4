// Package hooks decides who is told of which events, in which words, and how often it is tried:
// types and pure functions only. Package delivery does it.
//
// Promises: an event is delivered at least once, in the order in which events were written, one
// at a time per hook; a receiver tells repeats by the event's id. What is not taken within
// retry_for is kept as a dead letter.
package hooks

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// Schema is the version of the records and of the body.
const Schema = 1

// MaxHops is how many events caused by hooks may follow from one another. Past that hooks feed
// one another, and nothing of it is delivered any more.
const MaxHops = 3

// Scope is the cluster under which a hook's records live: its own, or Fleet.
func Scope(l keys.Layout, h *desired.Hook) string {
	if ref, err := l.Parse(h.Key); err == nil && ref.Cluster != "" {
		return ref.Cluster
	}
	return keys.Fleet
}

// Subject is what events about a hook name as their subject.
func Subject(hook string) string { return "hooks/" + hook }

// Wants reports whether a hook of a scope gets an event. Events about hooks go to those that ask
// for them by name, and never to the hook that they are about: telling a receiver that it does
// not answer is one more thing that it does not answer. Looping are those that a hook wants and
// does not get because hooks caused them, one after the other.
func Wants(scope string, h *desired.Hook, e events.Event) (wants, looping bool) {
	if scope != keys.Fleet && e.Cluster != scope || !asked(scope, h, e) || !passes(h.Filter, e) {
		return false, false
	}
	return e.Hops <= MaxHops, e.Hops > MaxHops
}

func asked(scope string, h *desired.Hook, e events.Event) bool {
	ofHooks := strings.HasPrefix(string(e.Kind), "hook.")
	if ofHooks && e.Cluster == scope && (e.Subject == Subject(h.Name) || e.Subject == h.Name) {
		return false
	}
	return slices.ContainsFunc(h.Events, func(pattern string) bool {
		return events.Matches(pattern, e.Kind) && !(ofHooks && events.IsAll(pattern))
	})
}

func passes(f desired.HookFilter, e events.Event) bool {
	in := func(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }
	return e.Severity.Rank() >= events.Severity(f.Severity).Rank() &&
		in(f.Node, e.Node) && in(f.Member, e.Member) && in(f.Concern, e.Concern) && in(f.Subject, e.Subject)
}

// ID names an event among those of all clusters, as a key's part: <cluster>.<id>.
func ID(e events.Event) string { return e.Cluster + "." + e.ID }

// After reports whether an event, whose key was written at rev, comes after the cursor.
func After(c Cursor, rev int64, e events.Event) bool {
	if rev != c.Revision || c.Event == "" {
		return rev >= c.Revision
	}
	cluster, id, _ := strings.Cut(c.Event, ".")
	return Compare(e, events.Event{Cluster: cluster, ID: id}) > 0
}

// Compare orders events of one transaction, whose keys etcd gives in no order: as they happened,
// clusters by name.
func Compare(a, b events.Event) int {
	x, _ := events.ParseID(a.ID)
	y, _ := events.ParseID(b.ID)
	return cmp.Or(x.Compare(y), strings.Compare(a.Cluster, b.Cluster), strings.Compare(a.ID, b.ID))
}

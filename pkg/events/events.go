// Package events says what happened: the typed, ordered record of everything that a person or a
// program may want to know of a cluster. Types and pure functions only.
//
// Events are a projection of etcd's own revision history (Projection): which ones there are, and
// their names, follow from what was written and from nothing else, so whichever server looks, and
// however often, finds the same ones. They are kept under /pgctrl/events/<cluster>/<id>, which is
// an interface: people watch it with etcdctl, and docs/EVENTS.md promises its fields.
package events

import (
	"cmp"
	"fmt"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Schema is the version of the record. A reader ignores fields that it does not know; a field
// never changes its meaning within a version.
const Schema = 1

// Fleet is the stream of what concerns no cluster: documents of nodes and defaults, servers, and
// the agents of nodes without a member.
const Fleet = keys.Fleet

// Removed is up to where a cluster's oldest events had to go: /pgctrl/cursors/removed/<cluster>.
type Removed struct {
	Schema int `json:"schema"`
	// Revision is the mod revision that the newest of them had.
	Revision int64 `json:"revision"`
}

// Event is the stored record: one thing that happened.
type Event struct {
	Schema int `json:"schema"`
	// ID is <revision>-<n>: the etcd revision that it was seen in, and a number within that.
	ID string `json:"id"`
	// Cluster is the cluster's name, or Fleet.
	Cluster  string   `json:"cluster"`
	Kind     Kind     `json:"kind"`
	Severity Severity `json:"severity"`
	// At is when it happened: the time stamp of the node that it happened on where there is one,
	// else when a server saw it, which then is Seen as well.
	At time.Time `json:"at"`
	// Seen is when a server saw it. With Late it had happened before that, while no server ran.
	Seen time.Time `json:"seen"`
	Late bool      `json:"late,omitempty"`
	// Node, Member and Concern are where it happened; empty: nowhere in particular.
	Node    string `json:"node,omitempty"`
	Member  string `json:"member,omitempty"`
	Concern string `json:"concern,omitempty"`
	// Subject is what it happened to: a document, an operation, a service, an address.
	Subject string `json:"subject,omitempty"`
	// From and To are what was and what is now, of things that move.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Epoch is the mod revision of Patroni's leader key that it happened under; 0: not known.
	Epoch int64 `json:"epoch,omitempty"`
	// Cause is what it follows from: an event's ID, or a revision.
	Cause string `json:"cause,omitempty"`
	// Hops is how many events caused by hooks lie between this one and something that no hook did.
	Hops int `json:"hops,omitempty"`
	// By is who did it, as in root@pg1.
	By string `json:"by,omitempty"`
	// Reason is the reason of a condition (docs/conditions.md).
	Reason string `json:"reason,omitempty"`
	// Message is one sentence for people, and Next the command to run next, when there is one.
	Message string `json:"message"`
	Next    string `json:"next,omitempty"`
	// Repeats is how many like it were left out since the last one that was kept (Damper).
	Repeats int `json:"repeats,omitempty"`
}

// Severity is how much an event matters.
type Severity string

// The severities, mildest first.
const (
	Info     Severity = "info"     // as it should be
	Notice   Severity = "notice"   // people may want to know
	Warning  Severity = "warning"  // something is not as it should be
	Critical Severity = "critical" // clients are in trouble, or soon will be
)

// Severities are all of them, mildest first.
var Severities = []Severity{Info, Notice, Warning, Critical}

// Rank orders severities; an unknown one is the mildest.
func (s Severity) Rank() int {
	for i, x := range Severities {
		if x == s {
			return i
		}
	}
	return 0
}

// ID is a revision and a number within it.
type ID struct {
	Revision int64
	N        int
}

// ParseID reads <revision>-<n>.
func ParseID(s string) (ID, error) {
	rev, n, ok := strings.Cut(s, "-")
	r, err1 := strconv.ParseInt(rev, 10, 64)
	i, err2 := strconv.Atoi(n)
	if !ok || err1 != nil || err2 != nil || r < 1 || i < 0 || (ID{r, i}).String() != s {
		return ID{}, fmt.Errorf("event id %q: expected <revision>-<n>, as in 1042-0", s)
	}
	return ID{Revision: r, N: i}, nil
}

// String is the stored form.
func (id ID) String() string { return fmt.Sprintf("%d-%d", id.Revision, id.N) }

// Compare orders events as they happened.
func (id ID) Compare(o ID) int {
	return cmp.Or(cmp.Compare(id.Revision, o.Revision), cmp.Compare(id.N, o.N))
}

// Sort orders events as they happened.
func Sort(list []Event) {
	slices.SortStableFunc(list, func(a, b Event) int {
		x, _ := ParseID(a.ID)
		y, _ := ParseID(b.ID)
		return cmp.Or(x.Compare(y), strings.Compare(a.Cluster, b.Cluster))
	})
}

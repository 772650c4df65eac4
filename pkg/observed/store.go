package observed

import (
	"slices"
	"time"
)

// FillingAt is the part of etcd's quota, in percent, from which on StoreFilling is said and
// nothing of the past is kept (ROLES section 7): early enough to look for what fills it before
// anything is refused.
const FillingAt = 50

// Filling reports a database of etcd, of its size and quota in bytes, that is so full. One without
// a quota is not.
func Filling(size, quota int64) bool { return quota > 0 && size*100 >= quota*FillingAt }

// Store identifies this etcd.
type Store struct {
	Incarnation string `json:"incarnation"`
	// Newest is the newest program version that wrote here.
	Newest string `json:"newest"`
	// Endpoints are the client URLs by which nodes reach etcd; Patroni gets them.
	Endpoints []string `json:"endpoints"`
	// Replaces are the incarnations that a person accepted this one in place of, the
	// newest first, at most MaxReplaces. An agent that knows one of them takes this one.
	Replaces []string `json:"replaces,omitempty"`
	// Restored is there from a restore until somebody accepts it.
	Restored *Restored `json:"restored,omitempty"`
	// SnapshotFailed is why the last hourly snapshot could not be made; empty when it
	// could.
	SnapshotFailed string `json:"snapshot_failed,omitempty"`
}

// Restored says what a store was put back from.
type Restored struct {
	// Revision is the newest that the snapshot has, Taken when the snapshot was made,
	// and At when it was put back; both wall times of the host that did it.
	Revision int64     `json:"revision"`
	Taken    time.Time `json:"taken"`
	At       time.Time `json:"at"`
}

// StoreSeen is an etcd as somebody last trusted it.
type StoreSeen struct {
	Incarnation string `json:"incarnation"`
	// Revision is the highest one seen, at the wall time At of the one who saw it.
	Revision int64     `json:"revision"`
	At       time.Time `json:"at"`
}

// MaxReplaces bounds the list of replaced incarnations. A node that slept through
// more restores than this needs its kept plans removed by hand.
const MaxReplaces = 32

// Stands reports whether this store stands in the place of the one with the given
// incarnation: it is the same, or a person said so.
func (s Store) Stands(incarnation string) bool {
	return s.Incarnation == incarnation || slices.Contains(s.Replaces, incarnation)
}

// Accept is the store as a person accepts it: under a new incarnation, in place of
// its present one and of every other that is given.
func (s Store) Accept(incarnation string, others ...string) Store {
	var all []string
	for _, old := range slices.Concat([]string{s.Incarnation}, others, s.Replaces) {
		if old != "" && old != incarnation && !slices.Contains(all, old) {
			all = append(all, old)
		}
	}
	s.Incarnation, s.Replaces, s.Restored = incarnation, all[:min(len(all), MaxReplaces)], nil
	return s
}

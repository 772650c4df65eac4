package status

import (
	"maps"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// notesOf are what a node's agent says of the host itself.
func notesOf(in Input, node string) []observed.Condition {
	key := in.Layout.AliveKey(node)
	a, ok := observed.Read[observed.Alive](in.Snapshot, key)
	if !ok {
		return nil
	}
	for i := range a.Notes {
		a.Notes[i].Key = key
	}
	return a.Notes
}

// hosts adds what is said of the hosts that the cluster has members on.
func (c *computer) hosts() {
	for _, node := range slices.Sorted(maps.Keys(c.plans)) {
		for _, cond := range notesOf(c.Input, node) {
			c.add("", node, cond)
		}
	}
}

// serverNotes are what the servers say of etcd. Each sees the same disks, so the first
// that says anything is enough.
func serverNotes(in Input) []observed.Condition {
	for _, e := range in.Snapshot.Range(in.Layout.Servers()) {
		s, err := observed.Decode[observed.Server](e)
		if err != nil || len(s.Notes) == 0 {
			continue
		}
		for i := range s.Notes {
			s.Notes[i].Key = in.Layout.StoreKey()
		}
		return s.Notes
	}
	return nil
}

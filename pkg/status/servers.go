package status

import "github.com/pgctrl/pgctrl/pkg/observed"

// Standbys are the servers that would take over from the one that plans at present,
// sorted: those that run beside it and whose view of etcd is complete and fresh.
func Standbys(in Input) []string {
	leader, _ := in.Snapshot.Get(in.Layout.ElectionKey())
	var out []string
	for _, e := range in.Snapshot.Range(in.Layout.Servers()) {
		if s, err := observed.Decode[observed.Server](e); err == nil && s.Warm && s.ID != string(leader.Value) {
			out = append(out, s.ID)
		}
	}
	return out
}

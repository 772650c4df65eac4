package status

import (
	"fmt"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// StoreHealth is how etcd itself is; nobody but a client of etcd can tell.
type StoreHealth struct {
	Members int `json:"members"`
	// Size and Quota are in bytes; Quota is 0 when etcd does not tell.
	Size  int64 `json:"size"`
	Quota int64 `json:"quota"`
	// NoSpace and Corrupt are etcd's own alarms.
	NoSpace bool `json:"no_space,omitempty"`
	Corrupt bool `json:"corrupt,omitempty"`
	// Silent are endpoints that do not answer.
	Silent []string `json:"silent,omitempty"`
}

// used is how full the database is, in percent.
func (h StoreHealth) used() int64 {
	if h.Quota <= 0 {
		return 0
	}
	return h.Size * 100 / h.Quota
}

// StoreConditions are what is not well with etcd, or should be known of it.
func StoreConditions(in Input) []observed.Condition {
	key := in.Layout.StoreKey()
	rec, _ := observed.Read[observed.Store](in.Snapshot, key)
	out := changed(in, rec)
	healthy := func(s observed.Status, r observed.Reason, next, format string, args ...any) {
		out = append(out, observed.Condition{
			Type: observed.Healthy, Status: s, Reason: r, Key: key, Next: next, Message: fmt.Sprintf(format, args...),
		})
	}
	if rec.SnapshotFailed != "" {
		healthy(observed.True, observed.SnapshotFailed, "df -h (on the host of etcd), or: pgctrl etcd backup <file>", "%s; the older ones stay", rec.SnapshotFailed)
	}
	redundant := len(rec.Endpoints) != 1
	if h := in.Store; h != nil {
		redundant = h.Members != 1
		size := fmt.Sprintf("%d %% of its quota (%d of %d MB)", h.used(), h.Size>>20, h.Quota>>20)
		switch {
		case h.NoSpace:
			healthy(observed.False, observed.NoSpace, "pgctrl etcd compact (compacts, defragments and ends the alarm)",
				"etcd is full, at %s: every write but deletions is refused, so a failover would find no leader; what runs goes on, and routes follow", size)
		case observed.Filling(h.Size, h.Quota):
			healthy(observed.True, observed.StoreFilling, "pgctrl etcd compact, or a larger etcd.quota", "etcd's database is at %s", size)
		}
		if h.Corrupt {
			healthy(observed.False, observed.StoreCorrupt, "", "etcd's members disagree about the data (alarm CORRUPT)")
		}
		if len(h.Silent) > 0 {
			healthy(observed.True, observed.NotAnswering, "", "etcd does not answer at %s", strings.Join(h.Silent, ", "))
		}
	}
	if !redundant {
		healthy(observed.True, observed.StoreNotRedundant, "", "%s", observed.Meaning[observed.StoreNotRedundant])
	}
	return out
}

// distrust is the field of a presence record that is there while its agent trusts
// another store. Of a fleet's records only those that have it are read.
const distrust = "store"

// changed says that the store is not the one that was trusted: it was restored, or
// agents say so.
func changed(in Input, rec observed.Store) []observed.Condition {
	why := ""
	if rec.Restored != nil {
		why = fmt.Sprintf("etcd was put back from a snapshot of %s", rec.Restored.Taken.UTC().Format("2006-01-02 15:04 MST"))
	}
	var nodes []string
	back := rec.Restored != nil
	for _, e := range kv.Mentioning(in.Snapshot, in.Layout.Prefix(keys.Alive), distrust) {
		a, err := observed.Decode[observed.Alive](e)
		if err != nil || a.Store == nil {
			continue
		}
		if same := a.Store.Incarnation == rec.Incarnation; same || !rec.Stands(a.Store.Incarnation) {
			nodes, back = append(nodes, a.Node), back || same
		}
	}
	switch {
	case why == "" && len(nodes) == 0:
		return nil
	case why == "":
		why = "etcd is not the one, or not in the state, that is known on " + strings.Join(nodes, ", ")
	}
	// An agent that knows another etcd altogether may itself be the stranger: that is
	// its node's trouble and nobody else's.
	bad := observed.True
	if back {
		bad = observed.False
	}
	return []observed.Condition{{
		Type: observed.Healthy, Status: bad, Reason: observed.StoreChanged, Key: in.Layout.StoreKey(),
		Message: why + "; everything is kept, nothing is acquired or removed until it is accepted", Next: "pgctrl etcd accept",
	}}
}

// store adds to a cluster what is bad about etcd: it keeps documents from every host.
func (c *computer) store() {
	for _, cond := range StoreConditions(c.Input) {
		if cond.Bad() {
			c.add("", "", cond)
		}
	}
}

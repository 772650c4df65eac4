package plan

import (
	"slices"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Removal says that a node is to have nothing of a concern any more. It is written
// only because a document said so; that a document or a plan is gone never is one.
//
// The agent answers with an Applied condition that is true with reason Removed, and
// only then may the plan's key be deleted. An agent of an earlier program does not
// know the field, goes on as before and never says Removed; so nothing is lost.
type Removal struct {
	// Whole: the whole cluster is being removed, so its leader may be stopped too.
	Whole bool `json:"whole,omitempty"`
	// Data is the data directory that stays on the host, set aside under another name
	// so that no later member takes it for its own. Empty: the concern has no data.
	Data string `json:"data,omitempty"`
}

// Removes returns a plan of the same cluster and node under which nothing of the
// resources stays. Only what names them is kept.
func Removes(p Plan, r Removal) Plan {
	p.Removal, p.Secrets = &r, nil
	var names Resources
	for _, res := range p.Resources {
		switch r := res.(type) {
		case Unit:
			names = append(names, Unit{Unit: r.Unit, Program: r.Program, Files: []File{}, Adopted: r.Adopted})
		case Address:
			names = append(names, r)
		case Watched:
			names = append(names, Watched{File: r.File})
		case SQL:
			names = append(names, SQL{SQL: r.SQL}) // what is in the databases is data, and stays
		}
	}
	p.Resources = names
	return p
}

// resolveRemoval says what may be removed now, last first. Removing is the one act
// that can't be made up for by doing it again, so it takes a view of this moment:
// a leader is not stopped unless the whole cluster goes, and nobody is while it is
// not known who leads.
func resolveRemoval(p Plan, v View, now time.Time) (drop []Resource, why []observed.Condition) {
	wait := func(reason observed.Reason, msg string) ([]Resource, []observed.Condition) {
		return nil, []observed.Condition{{Type: observed.Applied, Status: observed.False, Reason: reason, Message: msg}}
	}
	own := p.Cluster.Member
	switch {
	case !v.fresh(now):
		return wait(observed.StaleView, "the view of etcd is too old to remove anything by it")
	case p.Removal.Whole || own == "" || inNobodysWay(p.Resources):
	case v.Leader.Member == own:
		return wait(observed.Leading, own+" leads; it is removed when another member does")
	case v.Leader.Member == "":
		return wait(observed.NoLeader, "Patroni's leader key is absent; "+own+" may be the one to lead next, so it is left as it is")
	}
	drop = slices.Clone(p.Resources)
	slices.Reverse(drop)
	return drop, nil
}

// inNobodysWay: no client goes through what goes, whoever leads.
func inNobodysWay(rs Resources) bool {
	return !slices.ContainsFunc(rs, func(r Resource) bool {
		switch r := r.(type) {
		case Watched:
			return false
		case Unit:
			return r.Program != PostgresExporter && r.Program != PoolerExporter && r.Program != BackupServer
		}
		return true
	})
}

package postgres

import (
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// reloadsRestore is the first PostgreSQL that takes another restore_command without a
// restart; Patroni restarts an older one by itself when it changes. Without that command a
// restored replica lacks the WAL that it begins with.
const reloadsRestore = 14

// fromRepository is what replicas take out of the backup repository; empty: nothing.
type fromRepository struct {
	// Data fills the data directory of a new one, WAL gives one that fell behind what it lacks.
	Data, WAL string
}

// repositoryOf goes by the documents and by whether PostgreSQL archives, which changes once.
// What the repository holds changes with every backup, and whether it is faster with every
// hour: the command asks that in the moment itself, or each backup would have every Patroni
// reload.
func repositoryOf(in controllers.Input, t *topology.Topology, m *desired.Member) fromRepository {
	docs := desired.Load(in.Snapshot, in.Layout, in.Cluster, topology.Backup)
	b := &docs.Backup
	switch {
	case docs.Invalid(topology.Backup):
		return repositoryNow(in, t, m) // whatever it was meant to say (R4)
	case !b.Shared() || t.Formed.Version < reloadsRestore || !archives(in, t):
		return fromRepository{}
	}
	return ways(in.Cluster)[b.ReplicasFromRepository]
}

// ways are the commands, by the document's word.
func ways(cluster string) map[string]fromRepository {
	fill, wal := "pgagent replica "+cluster, plan.RestoreCommand(cluster)
	return map[string]fromRepository{
		desired.ReplicasAuto:   {fill, wal},
		desired.ReplicasAlways: {fill + " --always", wal},
	}
}

// repositoryNow is what the member's file says that is in force, or about to be.
func repositoryNow(in controllers.Input, t *topology.Topology, m *desired.Member) fromRepository {
	s := t.Stored(in, m.Node, Concern)
	if s == nil || s.Head.UID != t.Formed.UID {
		return fromRepository{}
	}
	p, _ := s.Whole()
	for _, r := range p.Resources {
		u, is := r.(plan.Unit)
		if !is || len(u.Files) == 0 {
			continue
		}
		for _, way := range ways(in.Cluster) {
			if strings.Contains(u.Files[0].Content, "\n    command: "+quote(way.Data)+"\n") {
				return way
			}
		}
	}
	return fromRepository{}
}

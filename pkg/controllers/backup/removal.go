package backup

import (
	"fmt"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// leaving says of which nodes the file is to go. What archives goes first: a member that is
// removed is stopped, and where backups are switched off Patroni's configuration names the
// command no more. Without its file pgBackRest takes no WAL, so a PostgreSQL that stops
// would leave its last behind.
//
// The repository stays in any case, and so do the secrets without which nobody can read it.
func leaving(in controllers.Input, t *topology.Topology) (goes func(node string) bool, waits []observed.Condition) {
	stored := t.AllStored(in, Concern)
	off := !t.Removing && !t.Docs.Backup.On()
	if (off || t.Removing) && len(stored) > 0 {
		kept := "the backups that were made are kept"
		if t.Formed != nil {
			kept = fmt.Sprintf("the backups in %s are kept", t.Docs.Backup.Where(plan.BackupFolder(in.Cluster, t.Formed.UID)))
		}
		key := in.Layout.ClusterDoc(in.Cluster, Concern)
		switch {
		case t.Removing:
			waits = append(waits, topology.RemovingCondition(key, "the cluster is to be removed; %s, with the secrets that they take", kept))
		case archives(in, t):
			waits = append(waits, topology.RemovingCondition(key, "backups are switched off; PostgreSQL still archives; %s", kept))
			off = false
		default:
			waits = append(waits, topology.RemovingCondition(key, "backups are switched off; %s", kept))
		}
	}
	return func(node string) bool {
		if off {
			return true
		}
		return t.Goes(node) && stopped(t.Stored(in, node, topology.Concern))
	}, waits
}

// stopped reports whether no member is on a node any more.
func stopped(member *topology.Stored) bool { return member == nil || member.Removed() }

// archives reports whether Patroni's configuration has the archive command still.
func archives(in controllers.Input, t *topology.Topology) bool {
	e, ok := in.Snapshot.Get(in.Layout.Scope(t.Formed.Scope) + "config")
	if !ok {
		return false
	}
	c, err := patroni.ParseConfig(e.Value)
	if err != nil {
		return true
	}
	postgresql, _ := c.All["postgresql"].(map[string]any)
	parameters, _ := postgresql["parameters"].(map[string]any)
	return parameters["archive_command"] == plan.ArchiveCommand(in.Cluster)
}

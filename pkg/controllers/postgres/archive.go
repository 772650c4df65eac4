package postgres

import (
	"slices"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const (
	archivesNothing = "/bin/true"
	// archiveTimeout is after how long a segment of WAL in which something was written is
	// archived although it is not full: with every host of a cluster gone, or its data
	// deleted by mistake, that much is lost at most. It costs a segment a minute, 16 MB on
	// each member's disk and network and a few kB in the repository, where little is
	// written; where nothing is, PostgreSQL finishes no segment.
	archiveTimeout = "60s"
)

// archiving are the parameters by which PostgreSQL archives; none: it does not.
func archiving(in controllers.Input, t *topology.Topology) map[string]any {
	if !archives(in, t) {
		return nil
	}
	return map[string]any{"archive_command": plan.ArchiveCommand(in.Cluster), "archive_timeout": archiveTimeout}
}

// archives decides. It begins when every member could go on with it as the leader, and ends
// only when a document says so: an agent that is away, a program that is gone or a secret
// that was deleted would otherwise end archiving without a word, and with it point-in-time
// recovery. As long as it can't be done PostgreSQL keeps its WAL and tries again.
func archives(in controllers.Input, t *topology.Topology) bool {
	docs := desired.Load(in.Snapshot, in.Layout, in.Cluster, topology.Backup)
	if docs.Invalid(topology.Backup) {
		return archivesNow(in, t) // whatever it was meant to say (R4)
	}
	return docs.Backup.On() && (canArchive(in, t, &docs.Backup) || archivesNow(in, t))
}

// canArchive reports whether the nodes of all members have the program, as far as their
// agents are there to say so, and whether the repository can be got into.
func canArchive(in controllers.Input, t *topology.Topology, b *desired.Backup) bool {
	if b.Repository == desired.RepositoryS3 {
		for _, name := range []string{keys.BackupS3Key, keys.BackupS3Secret} {
			// Status, which can't see secrets, shows those in no plan at revision 0.
			if e, ok := in.Snapshot.Get(in.Layout.Secret(in.Cluster, name)); !ok || e.ModRevision <= 0 {
				return false
			}
		}
	}
	asked := false
	for _, m := range t.Members {
		a, alive := t.Alive(m.Node)
		if !alive || t.Leaving[m.Name] {
			continue
		}
		if asked = true; a.Programs[topology.BackupProgram] == "" {
			return false
		}
	}
	return asked
}

// archivesNow reports whether a plan that is in force, or about to be, archives.
func archivesNow(in controllers.Input, t *topology.Topology) bool {
	for _, s := range t.AllStored(in, Concern) {
		// Of one that archives the short form tells this much; the whole is dear to read.
		if !slices.Contains(s.Head.Parameters, "archive_timeout") {
			continue
		}
		p, ok := s.Whole()
		if !ok || p.UID != t.Formed.UID || p.Removal != nil {
			continue
		}
		for _, r := range p.Resources {
			c, is := r.(plan.Patroni)
			if !is {
				continue
			}
			postgresql, _ := c.Config["postgresql"].(map[string]any)
			parameters, _ := postgresql["parameters"].(map[string]any)
			if parameters["archive_command"] == plan.ArchiveCommand(in.Cluster) {
				return true
			}
		}
	}
	return false
}

package plan

import (
	"strconv"
	"time"
)

// A backup is stopped when nobody looks after it: its node's agent is cut off from etcd,
// hangs or is gone. Two hosts that share a repository know nothing of each other, so
// whoever asks another node for a backup must know that the first one's has ended.
const (
	// BackupCutOff is how long after its agent's last contact with etcd nothing of a backup
	// runs any more, the stop included. Whoever asks another node waits longer.
	BackupCutOff = time.Minute
	// BackupLost is how long after the last contact it is stopped: by the agent, or by systemd
	// where the agent does not live to do it. Its upgrade takes a few seconds.
	BackupLost = 45 * time.Second
	// BackupStop is how long pgBackRest may take to end when told to; then it is killed.
	// What counts as contact may be FreshFor old, so BackupLost + BackupStop + FreshFor
	// must be less than BackupCutOff.
	BackupStop = 10 * time.Second
)

// The names by which controllers, agents and people know a cluster's backups. The stanza
// has the cluster's own name.

// BackupConfig is the file that pgBackRest reads of a cluster, on every member's node.
// It is complete: ours run it with --config and nothing beside it, and pgbackrest started
// by hand finds it in the folder that it includes by itself.
func BackupConfig(cluster string) string { return "/etc/pgbackrest/conf.d/" + cluster + ".conf" }

// BackupFolder is the name of a cluster's folder in a repository, and in the spool: after
// its uid as well, because a cluster of the same name that comes later has another database
// and must find nothing of this one's.
func BackupFolder(cluster, uid string) string { return cluster + "-" + uid[:min(len(uid), 8)] }

// ArchiveCommand is what PostgreSQL runs for each finished segment of WAL. The path in it
// is PostgreSQL's own %p.
func ArchiveCommand(cluster string) string {
	return "pgbackrest --config=" + BackupConfig(cluster) + " --stanza=" + cluster + ` archive-push "%p"`
}

// BackupUnit is the systemd unit that a backup runs in, so that it outlives the agent.
func BackupUnit(cluster string) string { return "pgctrl-backup@" + cluster + ".service" }

// BackupServerUnit is pgBackRest's server on a member's node, BackupServerConfig what it reads,
// and BackupPeerFile the certificate with its key by which members know one another.
func BackupServerUnit(cluster string) string { return "pgbackrest-server@" + cluster + ".service" }

// BackupServerConfig is in a folder that pgBackRest does not include by itself.
func BackupServerConfig(cluster string) string { return BackupServerDir + "/" + cluster + ".conf" }

// BackupPeerFile is readable by postgres, whom pgBackRest runs as.
func BackupPeerFile(cluster string) string { return BackupServerDir + "/" + cluster + ".pem" }

// BackupServerDir has the files of pgBackRest's servers, and nothing else.
const BackupServerDir = "/etc/pgbackrest/server.d"

// StreamsFile is there while a member has no need of the archive: it streams, or it led last.
// The agent makes it, and takes it away when the member follows a confirmed primary and has not
// streamed from it for a while. It is in memory: after a boot it is not there.
func StreamsFile(cluster string) string { return "/run/pgctrl/streams/" + cluster }

// ArchiveGetWithin is how many seconds a question to the archive may take: one more than a segment
// that is fetched in the background is waited for.
const ArchiveGetWithin = 6

// RestoreCommand is what PostgreSQL runs on a replica for each segment of WAL or history that
// it looks for. PostgreSQL asks the archive before it asks the primary: at every start, when a
// stream breaks, and three times and more while it is promoted, where the archive of a store
// that is away would cost seconds each. So it is asked only when the primary does not do, and no
// question lasts longer than ArchiveGetWithin: pgBackRest's own bound is not for histories, which
// took 50 s each with a store that hangs (measured).
// %f and %p are PostgreSQL's own.
func RestoreCommand(cluster string) string {
	return "test ! -e " + StreamsFile(cluster) + " && timeout --foreground " + strconv.Itoa(ArchiveGetWithin) + " pgbackrest --config=" + BackupConfig(cluster) + " --stanza=" + cluster + ` archive-get %f "%p"`
}

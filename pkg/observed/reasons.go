package observed

// The reasons, each with what it means. `pgctrl explain <reason>` prints these.
const (
	InvalidDocument       Reason = "InvalidDocument"
	MisplacedKey          Reason = "MisplacedKey"
	UnknownNode           Reason = "UnknownNode"
	PortConflict          Reason = "PortConflict"
	PortInUse             Reason = "PortInUse"
	PlanTooLarge          Reason = "PlanTooLarge"
	MissingProgram        Reason = "MissingProgram"
	NodeAbsent            Reason = "NodeAbsent"
	WaitingForLeader      Reason = "WaitingForLeader"
	WaitingForNode        Reason = "WaitingForNode"
	WaitingForSecret      Reason = "WaitingForSecret"
	WaitingForPooler      Reason = "WaitingForPooler"
	PoolerNotServing      Reason = "PoolerNotServing"
	RollingOut            Reason = "RollingOut"
	Rejected              Reason = "Rejected"
	RolledBack            Reason = "RolledBack"
	NotAnswering          Reason = "NotAnswering"
	Stopped               Reason = "Stopped"
	ApplyFailed           Reason = "ApplyFailed"
	UnsupportedSchema     Reason = "UnsupportedSchema"
	PendingRestart        Reason = "PendingRestart"
	NotLeader             Reason = "NotLeader"
	NoLeader              Reason = "NoLeader"
	NotConfirmed          Reason = "NotConfirmed"
	StandbyCluster        Reason = "StandbyCluster"
	Unsupported           Reason = "Unsupported"
	PatroniPaused         Reason = "PatroniPaused"
	PatroniTooOld         Reason = "PatroniTooOld"
	DuplicateMember       Reason = "DuplicateMember"
	LeaderFlapping        Reason = "LeaderFlapping"
	WrongSystem           Reason = "WrongSystem"
	StaleView             Reason = "StaleView"
	StoreChanged          Reason = "StoreChanged"
	StoreNotRedundant     Reason = "StoreNotRedundant"
	StoreFilling          Reason = "StoreFilling"
	StoreCorrupt          Reason = "StoreCorrupt"
	NoSpace               Reason = "NoSpace"
	SnapshotFailed        Reason = "SnapshotFailed"
	NotKept               Reason = "NotKept"
	Overridden            Reason = "Overridden"
	Unmanaged             Reason = "Unmanaged"
	NoServer              Reason = "NoServer"
	NotPlanned            Reason = "NotPlanned"
	NotApplied            Reason = "NotApplied"
	VersionUnavailable    Reason = "VersionUnavailable"
	NotStreaming          Reason = "NotStreaming"
	Forked                Reason = "Forked"
	FixedAtForming        Reason = "FixedAtForming"
	RouteDiffers          Reason = "RouteDiffers"
	Frozen                Reason = "Frozen"
	NoInterface           Reason = "NoInterface"
	DriftReturns          Reason = "DriftReturns"
	Rotating              Reason = "Rotating"
	Internal              Reason = "Internal"
	AddressTaken          Reason = "AddressTaken"
	NameTaken             Reason = "NameTaken"
	AddressConflict       Reason = "AddressConflict"
	AddressNotHeld        Reason = "AddressNotHeld"
	AgentCutOff           Reason = "AgentCutOff"
	Removed               Reason = "Removed"
	Removing              Reason = "Removing"
	Leading               Reason = "Leading"
	RecordLost            Reason = "RecordLost"
	LeaderChanged         Reason = "LeaderChanged"
	AlteredByHand         Reason = "AlteredByHand"
	CertificateExpires    Reason = "CertificateExpires"
	StoreSlow             Reason = "StoreSlow"
	DiskFilling           Reason = "DiskFilling"
	ClockWrong            Reason = "ClockWrong"
	RepositorySplit       Reason = "RepositorySplit"
	WALGap                Reason = "WALGap"
	BackupDamaged         Reason = "BackupDamaged"
	BackupOverdue         Reason = "BackupOverdue"
	DeadlineExceeded      Reason = "DeadlineExceeded"
	OperationUnderWay     Reason = "OperationUnderWay"
	RepositoryUnreachable Reason = "RepositoryUnreachable"
	ArchiveFailing        Reason = "ArchiveFailing"
	StanzaMissing         Reason = "StanzaMissing"
	ArchivingOff          Reason = "ArchivingOff"
	BackupRunning         Reason = "BackupRunning"
	BackupFailed          Reason = "BackupFailed"
	RestoreFailed         Reason = "RestoreFailed"
	NoRoom                Reason = "NoRoom"
	RecoveryFailed        Reason = "RecoveryFailed"
	VerificationFailed    Reason = "VerificationFailed"
	VerificationStale     Reason = "VerificationStale"
	HookRefused           Reason = "HookRefused"
	HookFailed            Reason = "HookFailed"
	HookBusy              Reason = "HookBusy"
)

// Meaning explains every reason in one sentence.
var Meaning = map[Reason]string{
	InvalidDocument:       "a document can't be read or contradicts another one; nothing changes on any host until it is put right",
	MisplacedKey:          "a key under the desired tree is in no place that means anything; it is ignored",
	UnknownNode:           "a member names a node that has no document and no agent",
	PortConflict:          "two clusters on one node want the same port; the one created later changes nothing on the host",
	PortInUse:             "a program that pgctrl does not manage holds a port that is needed",
	PlanTooLarge:          "a plan would be over 512 KiB; the last good plan stays",
	MissingProgram:        "a program that the plan needs is not installed on the node",
	NodeAbsent:            "the node's agent has no presence in etcd; its last good state stays",
	WaitingForLeader:      "the cluster has no leader yet that new members could copy from",
	WaitingForNode:        "an agent has not announced itself yet",
	WaitingForSecret:      "a password that the plan refers to does not exist yet",
	WaitingForPooler:      "a service leads to PostgreSQL directly until every member's pooler runs",
	PoolerNotServing:      "a member's PgBouncer does not answer, and pooled services leave the member out until it does",
	RollingOut:            "a change goes from node to node; this node's turn has not come",
	Rejected:              "the program itself refused the new configuration; the last good one stays",
	RolledBack:            "the program accepted the new configuration but did not live with it; the last good one is back",
	NotAnswering:          "the program could not be asked, which says nothing about its configuration",
	Stopped:               "a unit that only people and Patroni stop is stopped; pgctrl does not start it",
	ApplyFailed:           "the host refused an act of the agent",
	UnsupportedSchema:     "the plan was written by a newer program than this agent understands; the last good plan stays",
	PendingRestart:        "a value waits for a restart of PostgreSQL; nothing restarts it as a side effect",
	NotLeader:             "this is done by the leader's agent",
	NoLeader:              "Patroni's leader key is absent",
	NotConfirmed:          "the leader's PostgreSQL has not been seen to accept writes",
	StandbyCluster:        "the cluster follows another one, so nothing here takes writes",
	Unsupported:           "this is known and left alone, because pgctrl does not manage it in this version",
	PatroniPaused:         "Patroni is paused: no configuration of it, no restart, and nothing is taken away from a PostgreSQL that takes writes",
	PatroniTooOld:         "this Patroni can overwrite a leader key that it lost (fixed in 3.0.3); 3.0.4 refuses a duplicate name",
	DuplicateMember:       "a second Patroni runs under the member's name",
	LeaderFlapping:        "the leader changed more than 3 times in 10 seconds",
	WrongSystem:           "the PostgreSQL that answers is not this cluster's (its system identifier differs)",
	StaleView:             "the agent's view of etcd is too old to act on; HAProxy's own checks decide",
	StoreChanged:          "etcd is another one, or went back in time; everything is kept and nothing is acquired",
	StoreNotRedundant:     "etcd has one member; production wants three",
	StoreFilling:          "etcd's database is over half of its quota; at the whole of it every write is refused",
	StoreCorrupt:          "etcd's members disagree about the data",
	NoSpace:               "etcd is full: it refuses every write but deletions; what runs goes on and routes follow the leader, but documents have no effect and a failover would find no leader",
	SnapshotFailed:        "the hourly snapshot of etcd could not be made; the older ones stay",
	NotKept:               "a plan is in force and could not be put on the node's disk; a start without etcd would use an older one",
	Overridden:            "a person holds something on a node by hand for a while; it ends by itself",
	Unmanaged:             "no document describes it any more; it is left as it is and keeps following its leader",
	NoServer:              "no pgctrl server runs; routing still follows the leader, documents have no effect",
	NotPlanned:            "the controllers have not yet turned the documents into plans",
	NotApplied:            "the agent has not yet applied the newest plan",
	VersionUnavailable:    "no PostgreSQL version is installed on all the cluster's nodes",
	NotStreaming:          "a replica does not stream from the leader",
	Forked:                "a member led on a timeline whose number another member took as well, so it has WAL that its leader never had and can't follow; Patroni and pg_rewind see nothing of it",
	RouteDiffers:          "a node does not send a read-write service to the confirmed primary",
	Frozen:                "a freeze (pgctrl freeze, or a file on the node) says to leave it alone: nothing is applied or repaired until it ends or the file is removed; routes still follow the leader",
	DriftReturns:          "what is put right on a host is changed again each time; it is repaired less often until that stops",
	FixedAtForming:        "a setting that was taken once, when the cluster formed, says something else now; that has no effect",
	NameTaken:             "another cluster is found under this name, so it leads there; only this name is left out",
	AddressTaken:          "another cluster has this virtual address too; neither changes anything on any host",
	AddressConflict:       "a host that should not have the virtual address answers for it on the network",
	AddressNotHeld:        "the virtual address is not on the confirmed primary's node",
	AgentCutOff:           "the agent can't reach etcd, and Patroni on the same node can",
	NoInterface:           "no network interface of the node is fit for the virtual address",
	Removed:               "it was removed from the host as a document said; its data are kept",
	Removing:              "a document says that it is to be removed, which goes step by step: routes first, the data stay",
	Leading:               "a member that is to be removed leads; it is left as it is until another one does",
	RecordLost:            "Patroni has the cluster and pgctrl's record of how it formed is gone; nothing is planned until the record is put back",
	LeaderChanged:         "the leader is another one than when an act was asked for; nothing was done",
	AlteredByHand:         "ALTER SYSTEM set a parameter past the documents; it is left so and wins over them on that member until it is reset",
	CertificateExpires:    "the certificate that a member shows to clients is good for less than 30 days, or not at all; clients that check it will be refused",
	StoreSlow:             "etcd's disk is slow: a hundredth of its writes takes 100 ms or more, from where on elections and Patroni's leader key are at risk",
	DiskFilling:           "a member's file system has little room left; PostgreSQL stops when there is none",
	ClockWrong:            "a node's clock and etcd's differ by 2 s or more: logs, certificates, backups and freezes go by clocks",
	OperationUnderWay:     "another operation of the cluster goes on; this one begins when that has ended",
	DeadlineExceeded:      "it was not done in the time it had and was given up",
	BackupOverdue:         "a backup that was due has not been made for over an hour",
	RepositorySplit:       "a failover left the older backups on another node: what is archived now restores only from the next backup on, which is made at once",
	WALGap:                "WAL is missing from the archive since the newest backup: no moment after it can be restored until the next backup, which is made at once",
	BackupDamaged:         "pages failed their checksums when the newest backup was made: the database that it copied may be damaged; older backups are kept until a sound one is made",
	Rotating:              "a password is being changed: one role takes over from its twin, which stays open until nobody uses it any more",
	RepositoryUnreachable: "the backup repository could not be read or written; PostgreSQL goes on and keeps the WAL that is not archived",
	ArchiveFailing:        "finished WAL waits for the archive for more than a minute: the disk fills, and nothing since can be restored",
	StanzaMissing:         "the backup repository has nothing for this database yet, or for another one under the cluster's name",
	ArchivingOff:          "PostgreSQL does not archive as the documents say, so no backup could be restored",
	BackupRunning:         "pgBackRest already does something for this cluster, and one thing at a time is all it does",
	BackupFailed:          "pgBackRest ended a backup with an error, or was stopped; what it copied so far is taken up by the next one",
	RestoreFailed:         "a backup could not be restored or recovered up to its target; what ran before is as it was, or is put back",
	NoRoom:                "a file system has too little room for what was asked, so nothing was begun",
	RecoveryFailed:        "a backup that was restored beside the cluster could not be recovered to its target, or is not what it should be",
	VerificationFailed:    "the newest proof that a backup can be restored failed: it may be that nothing can be restored",
	VerificationStale:     "that a backup can be restored was proved too long ago, or never",
	Internal:              "a fault in pgctrl itself; the log has the details",
	HookRefused:           "a program that a hook names is not in the node's folder of hooks, or others than root could change it; it was not run",
	HookFailed:            "a program that a hook names ended with another exit code than 0, or was ended",
	HookBusy:              "a node has too many programs of hooks to run; this one was not, and is asked for again",
}

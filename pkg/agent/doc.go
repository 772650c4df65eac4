// Package agent is what runs on every node: it makes the host what the node's
// plans say and follows the leader of each of its clusters by itself, with or
// without controllers (R1).
//
// The decisions are pure and elsewhere or in files of their own: plan.Resolve
// (what applies now), decideConfirm (who is confirmed), state.fold (what an event
// means). The goroutines here only bring inputs to them and carry out answers. The
// host is reached through the small interfaces of host.go; package command wires
// the real ones.
//
// # Goroutines
//
// The agent has one mirror of its own plans and of the store's identity ("bulk"
// stream), one goroutine that keeps the presence key, one that writes reports.
// Each cluster has:
//
//	follow       a mirror of Patroni's scope, the primary key and the ready keys,
//	             on the "fast" stream that all clusters share and no bulk enters
//	routeLoop    the only one that tells this cluster's HAProxy where clients go
//	confirmLoop  the only one that writes this cluster's primary key
//	proofLoop    looks for proof of its own while HAProxy gets no answer from the primary's
//	             Patroni; at rest otherwise
//	keepLed      puts on disk on which timeline this node's PostgreSQL led
//	watchPostgres  the standing connection to this node's own PostgreSQL
//	workLoop     plans: compare, apply, report; one concern after another
//	sql.run      the only one that makes what is in the databases so, while this node's
//	             member is the confirmed primary; nothing waits for its locks
//	logins.run   asks this node's PostgreSQL, a replica too, which of pgctrl's own roles it
//	             lets in, for whoever is to log in as them
//	backups.run  reads what the backup repository holds, which may take a minute, and says
//	             when archiving fails
//	moves.run    writes what this node saw and did in a move of the leader, once it is over
//	stepLoop     acts that people's commands ask for, one after the other; beside it one for
//	             each stanza, backup and archive step, which may last for hours
//	Watch        one for each unit: notes that it may have drifted, wakes workLoop
//	vip.run      the only one that adds, refreshes and removes the virtual address, by
//	             plan.Hold; beside it, while there is one, five that ask: the kernel for
//	             changes, the local Patroni, etcd for the leader key's lease, the network
//	             for other holders, now and then and when one is taken by hand; and one for
//	             each write of the record
//
// # Ordering
//
// A mirror's callback folds its batch into the cluster's state under the cluster's
// lock and fills the one-slot wake channels; it does nothing else. Whoever wakes
// copies the newest state. So events are never queued: the latest view wins, a view
// that came and went while HAProxy was being told is skipped, and no consumer sees
// views out of order. Within a key events are ordered by mod revision (R7); between
// keys etcd promises nothing here, so a confirmation that arrives before its leader
// event waits for it in the state. Between "PostgreSQL takes writes" and the write
// to etcd there is one channel slot.
//
// The agent's own confirmation is folded in when etcd has accepted it, before its
// echo, so its own routes move first.
//
// # Who may block
//
// The mirrors' callbacks: never. routeLoop: for one Assert, at most AssertTimeout.
// vip.run: for the kernel, never for etcd or Patroni. confirmLoop: for one transaction, nothing else; the question to another member's
// Patroni is a goroutine of its own. workLoop: for a driver, at most ApplyTimeout;
// nothing that is urgent waits for it. The reporter: for etcd. A slow reader of the
// control socket holds up nobody: it reads a copy.
//
// # When things fail
//
//	what fails                         what the agent does
//	etcd, or the way to it             keeps everything; after 3 s stops asserting, so HAProxy's checks
//	                                   decide; plans in force are still compared with the host
//	its disk has an older plan         asks etcd first, for 3 s at most
//	etcd, already at boot              applies the files of kept plans; no routes, no Patroni
//	                                   configuration; a stopped Patroni stays stopped
//	this agent, killed or hung         "health down" lapses and HAProxy's checks decide; others go on; 1 s
//	                                   after the next leader change another agent confirms in its place
//	the leader's agent, after it       the record stays withdrawn and routes stay down until that agent
//	withdrew                           is back: nobody else is better informed about that PostgreSQL
//	own PostgreSQL does not answer     withdraws nothing: silence is no statement, and HAProxy holds new
//	                                   connections while it restarts
//	own PostgreSQL is in recovery      withdraws at once
//	another PostgreSQL on the port     never confirms it: WrongSystem
//	a second Patroni under our name    never confirms it: DuplicateMember
//	the leader's Patroni does not      holds its server up while the lease lasts, PostgreSQL answers and the
//	answer HAProxy's checks            leader's agent is there; then the checks decide
//	HAProxy does not answer            asserts again every 500 ms, as an edge; the report says NotAnswering
//	a driver refuses                   the last good state stays; tried again after 0.5 s to 30 s, at once
//	                                   when a newer plan comes; the report has the program's words
//	a plan is unreadable or newer      the last good one stays, on disk and in force (R4)
//	a plan's key vanishes              the same: absence is not deletion (R6); the report says Unmanaged
//	a plan is a removal                undoes it, last concern first, while a fresh view has another member
//	                                   leading (or the whole cluster goes); says Removed; forgets it when the
//	                                   plan's key is gone, and only then
//	another etcd, or one gone back     keeps everything, acquires nothing: StoreChanged, over restarts
//	                                   too, until a person accepts it; then it follows anew
//	etcd is full                       keeps everything, holds routes; says so, and tries to write seldom
//	own disk is full                   what is planned is applied; the report says NotKept
//	a person holds a route by hand     holds it, whatever etcd says, until its time is over
//	a person takes the address by hand takes and keeps it while PostgreSQL takes writes, until its time
//	                                   is over, or etcd or the network names another holder
//	another machine has our node name  at the start: waits and says so; later: stands still until it is free
//	the virtual address, etcd away     kept while the lease lasts (its seconds - 5) or Patroni on loopback
//	                                   says yes; not taken
//	this agent, with the address       the kernel drops it 5 s after the last refresh; an agent that is back
//	                                   before keeps it
//	the wall clock steps               no proof counts until etcd was read again; a second without drops
//	a freeze file exists               applies and repairs nothing of the cluster, takes plans in, answers
//	                                   them with Frozen and what differs; follows the leader as ever
//	a plan carries a freeze            the same for that concern, until its time by this clock
//	a freeze ends                      repairs what drifted in its turn among the cluster's nodes; without
//	                                   etcd by the clock, 1.5 s apart
//	PostgreSQL refuses an SQL object   says so of that object; makes the others; tries again after 2 to 30 s
//	drift comes back again and again   repairs it after 2, 4 ... 30 s and says DriftReturns
//	this agent, while a backup runs    the backup goes on in a unit of its own; an agent started anew follows it
//	nobody looks after a backup        the agent stops it 45 s after its last contact with etcd; an agent that
//	                                   is gone has systemd do it, so that no two run at once on one repository
//	another leads while a backup runs  stops it; what it copied is taken up by the next one
//	the backup repository is away      says so; what was known of it stays; tried again every 5 minutes
//	inotify or D-Bus is away           compares every 2 s, as ever
//	a secret is absent                 WaitingForSecret; looked for every second; what is loaded is kept so
//
// # Stopping
//
// SIGTERM keeps everything on the host; the virtual address lives for its 5 s. The presence key is left to its lease (10
// s) instead of being removed: a restart takes less, and a key that came and went
// would be NodeAbsent at every upgrade. An agent that stays away is absent after
// those 10 s, as it would be had it crashed.
package agent

// Package simulation runs real servers and real agents against models of everything
// around them, in fake time, with faults drawn from a seed, and checks the rules at
// every step.
//
// Real are: engine, controllers, agents with Resolve, the store package, and etcd's
// client above the wire. Modelled are: etcd (pkg/store/model), Patroni and
// PostgreSQL (patroni.go), HAProxy with its checks, state file and runtime commands
// (haproxy.go), the network, systemd's restarts, and people, who also take and drop the
// virtual address by hand.
//
// # What is checked
//
//	R1   HAProxy finds the primary in the end whoever of ours is dead, and within a
//	     second of the confirmation where the agent is in touch; nor is it lost to a
//	     Patroni that is stopped, while proof says that it leads
//	R2   no two members take writes through the services
//	R3   a read-write service leads to a server in recovery for at most 1 s, never
//	     after the confirmation; a confirmation is true
//	R6   nothing is removed and no plan deleted because a key is missing
//	R7   what an agent does can be explained by revisions that never go down; every
//	     write of a server is guarded by its election
//	R8   in the end nothing under /pgctrl is written any more
//	R13  while only our own programs restart, are cut off or get new documents, no
//	     route, leader or primary changes
//
// and that everything is in order again within 90 s of the last fault.
//
// # Same seed, same run
//
// The driver's decisions depend on the seed alone. Links to etcd have different
// delays, so what reaches several programs reaches them at different instants, and
// pauses are not uneven (internal/jitter). What remains is Go's choice among
// goroutines of one program that are ready at one instant, and among ready cases of
// a select; it can move an act by the width of a pause. No check depends on it, and
// the trace holds no revisions and sorts what happened in one millisecond.
//
// # What is not
//
// All hosts share one clock, because synctest has one: clocks that run at different
// speeds are simulated only as leases that etcd ends early. The wall clock is not
// stepped. Sessions that are open are not modelled, new connections are.
package simulation

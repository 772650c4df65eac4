// Package holders watches who has a virtual address: it hears what the kernel says
// about addresses in the network namespaces of all hosts and judges the timeline.
// "0 moments with two holders and 0 flaps" is measured with it.
//
// # One clock
//
// All namespaces are heard on one socket (NETLINK_LISTEN_ALL_NSID), so the messages
// come in the order in which the kernel sent them: however late this program gets to
// run, an overlap of microseconds is one and a hand-over without overlap is none.
// The kernel changes addresses of all namespaces under one lock and tells about it
// before it lets go, so that order is the order of the changes. The one exception: a
// new IPv6 address is told by a kernel worker, in well under a millisecond. The times
// are those of reading, on this program's monotonic clock.
//
// # What is no holder
//
// A namespace that is taken down has no addresses. A new one at a host's path (a
// reboot) is heard within 10 ms of its making; an address that is in it by then
// counts from that moment. A host that is cut off or without power has what its
// kernel says it has: the bound of R2 is the address's lifetime, not the cable.
package holders

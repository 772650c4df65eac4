// Package address puts virtual IP addresses on this host and takes them off again,
// over netlink and with packets of its own.
//
// # What keeps an address from being in two places
//
// The kernel is the watchdog: an address is added with a finite lifetime and lives
// on only as long as Hold is called again. The lifetime counts from the call, not
// from the moment when the kernel got to it: a call that was held up (a stopped
// process, a kernel busy with other people's network changes) gives what is left of
// it, and when nothing is left takes the address back. The kernel counts whole
// seconds and looks at what is over when it suits it: measured on 6.18 an address
// goes 0 to 0.25 s late, and its code allows 1 s.
//
// # What an address looks like
//
// A host prefix (/32, /128), so that it brings no route and is no other address's
// primary. One that is there already without a lifetime, under another prefix or on
// another interface (added by hand, by vip-manager) is taken over: first the new
// one, then the old ones go, so there is no gap. IPv6 addresses skip duplicate
// address detection, which would keep them unusable for a second or two, and are
// deprecated from the start (preferred lifetime 0): they answer like any other, but
// the kernel does not choose them for connections that this host opens. It would
// otherwise, since a /128 next to the peer's address is the longest match (RFC 6724,
// rule 8), and the agent's own connections would end with the address.
//
// # What becomes of connections
//
// They are reset before the address goes, while the kernel can still send from it:
// after that a reset of an IPv4 connection has no route and the client would wait
// for an answer for hours. Those that were accepted in the last moment are ended
// after it, and their clients are asked something that only the next holder can
// answer, with a reset (see tickle.go).
//
// # What it needs
//
// CAP_NET_ADMIN (addresses, ending sockets) and CAP_NET_RAW (packets); sockets of
// the families AF_NETLINK, AF_PACKET, AF_INET and AF_INET6. Nothing is executed.
package address

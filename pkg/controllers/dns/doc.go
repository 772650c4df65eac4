// Package dns plans the names of a cluster: one file of hosts on each node with role
// infra, which the node's dnsmasq reads. The file names no primary; agents fill in
// who is confirmed and who serves as a replica, so names follow the leader with no
// controller there, and a failover changes no plan.
//
// What dnsmasq 2.90 (Debian 12) and 2.91 (Debian 13) do with such files, measured; both
// do the same:
//
//	dnsmasq -k --conf-file=/dev/null --no-resolv --no-hosts --port=5399 \
//	  --listen-address=127.0.0.1 --bind-interfaces --hostsdir=/tmp/h [--local-ttl=1] [--local=/test/]
//
//	change in the folder                      what is answered, and when
//	--------------------                      --------------------------
//	new file, written in place or by rename   the name, at the first question (0.1 to 1.7 ms)
//	replaced by rename, another address       the new address alone; the old one does not stay beside it:
//	                                          200 of 200, four times; median 0.4 ms, longest 5.1 ms
//	replaced by rename, a name left out       the name is gone with the same event; no SIGHUP is needed
//	rewritten in place, deleted               the same
//	file moved out of the folder (mv)         the old answer, for 2 s and on: nothing is noticed
//	SIGHUP                                    reads the folder again; changes are noticed as before
//	folder not there at the start             dnsmasq runs on and notices nothing; with one SIGHUP it reads
//	                                          the folder and notices changes from then on
//	folder deleted and made anew              nothing is noticed; SIGHUP reads it once (0.1 to 1.2 ms), and
//	                                          later changes are not noticed: only a restart helps
//	files named .x, #x#, x~                   are not read, so ours may be staged beside their place
//	a line that is no host                    is logged with its number; the other lines count
//	a name in two lines, or in two files      both addresses are answered, so names must not collide
//	TTL                                       0; with --local-ttl=1 it is 1, for all files alike
//	another type (AAAA of a name with an A)   sent on to the servers of resolv.conf, without any REFUSED;
//	                                          with --local=/<suffix>/ answered as empty, and NXDOMAIN for
//	                                          a name that nobody has
//
// So a file is replaced by rename and removed by unlink, nothing is ever reloaded, and
// the folder is made once and never removed. What a node's dnsmasq needs to have the names
// (the folder first):
//
//	hostsdir=/etc/pgctrl/hosts.d
//	local-ttl=1
//	local=/<suffix>/        for each suffix that no other server answers for
package dns

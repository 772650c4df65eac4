// Package lab runs real hosts on one machine: systemd-nspawn machines with systemd inside, each in its own network namespace, on
// copy-on-write overlays over a base image that holds the packages as Debian ships them. Tests and demos use it in place of a rack.
//
//	machine (root namespace)              10.10.10.1   pgctrl0 ──┐
//	switch  (netns pgctrl-<lab>)          bridge br0 with one port per host: p-machine, p-infra1, p-pg1 ...
//	host    (netns pgctrl-<lab>-<host>)   10.10.10.10  infra1  eth0
//	                                      10.10.10.11  pg1     eth0
//
// The switch has a namespace of its own so that cuts are rules of its own packet filter, by port: they stop every frame (ARP too, as a
// broken switch does), hosts can't see or undo them, and the machine's own firewall neither helps nor harms. Tests on the machine dial
// hosts directly. Hosts have no default route: nothing inside can reach beyond the lab.
//
// What exists is read from the system (cgroups, namespaces, mounts), not remembered, so a lab process may be killed at any instruction:
// machines run on, [Attach] finds them, and [Lab.Down] or the next [Up] removes what is left. Only names, addresses and cuts are in a
// state file. Each lab name has a lock that the process that called [Up] holds until [Lab.Down], [Lab.Close] or its end; a second process
// waits. All paths are below one cache folder (see [CacheDir]); it needs root and Linux 5.11 or later (volatile overlays), and installs
// the few Debian packages it needs itself.
//
// Fidelity, where it ends: the clock, kernel and page cache are shared; the disk ignores fsync (a crash of a host keeps what was written,
// as with a battery-backed controller); hosts of one image share Debian's own `main` database cluster's system identifier and snakeoil
// certificate; units can't get rt priorities, and there is no watchdog device.
package lab

// Package monitor plans what measures a cluster: an exporter of PostgreSQL and one of
// PgBouncer beside each member, and on nodes with role infra a file that says where
// everything of the cluster is measured, which the node's Prometheus notices by itself.
// Prometheus itself is planned once for each infra node (Server), and so is what is
// measured of nodes (OfNodes).
//
// Who is measured is a matter of membership: a member is a target from the moment in which
// it has a plan, before it is ready, and is none when it leaves. What it is, primary or
// replica, agents fill in as it is confirmed (plan.RoleOf), so a failover changes no plan
// and labels follow it with no controller there.
//
// What Prometheus 2.42 (Debian 12) and 2.53 (Debian 13) do with such files:
//
//	change in the folder            what becomes of it
//	--------------------            ------------------
//	new, replaced by rename, gone   noticed at once by inotify; targets are brought up to date every 5 s
//	label job                       takes the place of the scrape configuration's own name
//	__scrape_interval__ and         are the target's; a timeout above the interval is an error of the
//	__scrape_timeout__              target, so both are set
//	folder not there at the start   is looked for again every refresh_interval
//	rules                           are read at a reload only, so they are files of Prometheus's unit
//
// An exporter logs in with a password, in a file that only its unit reads. The way without
// one, peer over the socket, would take an operating system user of the exporter's own on
// every host, and Debian's is Prometheus's and postgres's; the role and its twin were
// there, so rotation covers it (pgctrl secret rotate <cluster> monitor).
package monitor

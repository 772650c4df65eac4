package dashboards

func cluster() Dashboard {
	return Dashboard{
		Name: "cluster", Title: "pgctrl: cluster", PerCluster: true,
		Says: "One cluster: who leads, where clients go, how far behind replicas are, what is not done and why.",
		Panels: []Panel{
			{Title: "Leader since", Kind: Number, Width: 5, Unit: "dateTimeFromNow", Answers: []int{1}, Says: "As the first agent saw it that runs since then.", Asks: []Ask{
				{`min by (leader) (pgagent_leader_since_timestamp_seconds{cluster="$cluster"}) * 1000`, "{{leader}}"}}},
			{Title: "Confirmed", Kind: Number, Width: 3, Red: 1, Below: true, Answers: []int{1}, Says: "1: an agent with a fresh view saw that the leader takes writes.", Asks: []Ask{
				{`cluster:primary_confirmed:max{cluster="$cluster"}`, "primary"}}},
			{Title: "Take writes", Kind: Number, Width: 3, Red: 2, Answers: []int{1}, Says: "Members whose PostgreSQL is out of recovery. More than one is TwoPrimaries.", Asks: []Ask{
				{`cluster:postgres_writable:sum{cluster="$cluster"}`, "members"}}},
			{Title: "Virtual address", Kind: Number, Width: 5, Answers: []int{5}, Says: "The node that it is on.", Asks: []Ask{
				{`max by (node, address) (pgagent_vip_held{cluster="$cluster"}) == 1`, "{{address}} on {{node}}"}}},
			{Title: "Ready", Kind: Number, Width: 3, Red: 1, Below: true, Answers: []int{6}, Says: "1: everything asked for is in force, and the cluster takes writes.", Asks: []Ask{
				{`max by (cluster) (pgctrl_cluster_ready{cluster="$cluster"})`, "{{cluster}}"}}},
			{Title: "Last WAL archived", Kind: Number, Width: 5, Unit: "s", Answers: []int{7}, Says: "How long ago.", Asks: []Ask{
				{`min by (cluster) (pg_stat_archiver_last_archive_age{cluster="$cluster"})`, "ago"}}},

			{Title: "Where services lead", Kind: Table, Width: 14, Answers: []int{2}, Says: "On which node each service leads to which member now, by that node's own HAProxy.", Asks: []Ask{
				{`max by (proxy, node, server) (haproxy_server_status{cluster="$cluster",state="UP",server!="_hold"}) == 1`, ""}}},
			{Title: "What is not done, and notes", Kind: Table, Width: 10, Quiet: true, Answers: []int{6}, Says: "Blocking ones stand between the cluster and Ready: pgctrl explain <reason>.", Asks: []Ask{
				{`max by (concern, on_node, reason, blocking) (pgctrl_cluster_condition{cluster="$cluster"})`, ""}}},

			{Title: "Lag of replicas", Kind: Graph, Width: 12, Unit: "bytes", Red: 16 << 20, Answers: []int{4}, Says: "How far each one's replay is behind the primary's WAL. At 16 MiB it leaves the service replica by default.", Asks: []Ask{
				{`cluster_member:replay_lag_bytes:max{cluster="$cluster"}`, "{{member}}"}}},
			{Title: "WAL held by slots", Kind: Graph, Width: 12, Unit: "bytes", Answers: []int{8}, Says: "What a member keeps because somebody has not read it.", Asks: []Ask{
				{`max by (member, slot_name) (pg_replication_slots_pg_wal_lsn_diff{cluster="$cluster"})`, "{{slot_name}} on {{member}}"}}},

			{Title: "Newest backup", Kind: Number, Width: 7, Unit: "s", Answers: []int{7}, Says: "How long ago the newest of each type ended, in the primary's repository.", Asks: []Ask{
				{`time() - max by (type) (pgctrl_backup_last_stop_timestamp_seconds{cluster="$cluster"})`, "{{type}}"}}},
			{Title: "Backup due", Kind: Number, Width: 5, Unit: "dateTimeFromNow", Answers: []int{7}, Says: "When the schedule wants the next one; in the past while it is late or being made.", Asks: []Ask{
				{`max by (cluster) (pgctrl_backup_due_timestamp_seconds{cluster="$cluster"}) * 1000`, "due"}}},
			{Title: "Operations", Kind: Table, Width: 12, Quiet: true, Answers: []int{6, 7}, Says: "Those that go on or wait, and those that failed: pgctrl operation list.", Asks: []Ask{
				{`max by (kind, state) (pgctrl_operations{cluster="$cluster"})`, ""}}},

			{Title: "Size of the newest backup", Kind: Graph, Width: 8, Unit: "bytes", Answers: []int{7, 8}, Says: "Of the database, and what the backup takes in the repository beside those that it builds on.", Asks: []Ask{
				{`max by (cluster) (pgctrl_backup_last_size_bytes{cluster="$cluster"})`, "database"},
				{`max by (cluster) (pgctrl_backup_last_stored_bytes{cluster="$cluster"})`, "in the repository"}}},
			{Title: "How long the newest backup took", Kind: Graph, Width: 8, Unit: "s", Answers: []int{7}, Says: "Each step is another backup.", Asks: []Ask{
				{`max by (cluster) (pgctrl_backup_last_duration_seconds{cluster="$cluster"})`, "took"}}},
			{Title: "WAL that waits for the archive", Kind: Graph, Width: 8, Answers: []int{7, 8}, Says: "Finished segments that the archive has not; some are normal, a slope is not.", Asks: []Ask{
				{`max by (node) (pgagent_archive_ready_files{cluster="$cluster"})`, "segments on {{node}}"},
				{`max by (node) (pgagent_archive_failing{cluster="$cluster"})`, "failing on {{node}}"}}},

			{Title: "Clients at poolers", Kind: Graph, Width: 8, Answers: []int{3}, Says: "Active: they have a connection to PostgreSQL or want none. Waiting: they want one.", Asks: []Ask{
				{`sum by (member) (pgbouncer_pools_client_active_connections{cluster="$cluster"})`, "active {{member}}"},
				{`sum by (member) (pgbouncer_pools_client_waiting_connections{cluster="$cluster"})`, "waiting {{member}}"}}},
			{Title: "Longest wait at poolers", Kind: Graph, Width: 8, Unit: "s", Red: 1, Answers: []int{3}, Says: "By pool.", Asks: []Ask{
				{`max by (member, database, user) (pgbouncer_pools_client_maxwait_seconds{cluster="$cluster"})`, "{{database}} {{user}} {{member}}"}}},
			{Title: "Poolers' connections to PostgreSQL", Kind: Graph, Width: 8, Answers: []int{3}, Says: "In use and free.", Asks: []Ask{
				{`sum by (member) (pgbouncer_pools_server_active_connections{cluster="$cluster"})`, "in use {{member}}"},
				{`sum by (member) (pgbouncer_pools_server_idle_connections{cluster="$cluster"})`, "free {{member}}"}}},

			{Title: "Poolers", Kind: Timeline, Width: 12, Answers: []int{3}, Says: "1: up, by the word of the member's own agent.", Asks: []Ask{
				{`max by (member) (pgagent_pooler{cluster="$cluster",state="up"})`, "{{member}}"}}},
			{Title: "Sessions through services", Kind: Graph, Width: 12, Answers: []int{2}, Says: "By service, over all nodes' HAProxys.", Asks: []Ask{
				{`sum by (proxy) (haproxy_frontend_current_sessions{cluster="$cluster",proxy!="stats"})`, "{{proxy}}"}}},

			{Title: "Room left", Kind: Graph, Width: 8, Unit: "percentunit", Red: 0.15, Below: true, Answers: []int{8}, Says: "On the file systems of data and WAL.", Asks: []Ask{
				{`min by (member, folder) (cluster_member_folder:disk_free:ratio{cluster="$cluster"})`, "{{folder}} {{member}}"}}},
			{Title: "Transactions", Kind: Graph, Width: 8, Unit: "ops", Says: "Committed and rolled back, by member.", Asks: []Ask{
				{`sum by (member) (rate(pg_stat_database_xact_commit{cluster="$cluster"}[$__rate_interval]))`, "commit {{member}}"},
				{`sum by (member) (rate(pg_stat_database_xact_rollback{cluster="$cluster"}[$__rate_interval]))`, "rollback {{member}}"}}},
			{Title: "Size of databases", Kind: Graph, Width: 8, Unit: "bytes", Says: "All of a member.", Asks: []Ask{
				{`sum by (member) (pg_database_size_bytes{cluster="$cluster"})`, "{{member}}"}}},

			{Title: "PostgreSQL", Kind: Timeline, Width: 12, Answers: []int{1}, Says: "1: it answers its agent.", Asks: []Ask{
				{`max by (member) (pgagent_postgres_up{cluster="$cluster"})`, "{{member}}"}}},
			{Title: "Plans that wait for their host", Kind: Graph, Width: 12, Unit: "s", Answers: []int{6}, Says: "For how long; 0 is as it should be.", Asks: []Ask{
				{`max by (node, concern) (pgagent_plan_unapplied_seconds{cluster="$cluster"})`, "{{concern}} on {{node}}"}}},
		},
	}
}

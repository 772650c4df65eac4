package dashboards

func fleet() Dashboard {
	return Dashboard{
		Name: "fleet", Title: "pgctrl: fleet",
		Says: "All clusters, nodes, and the parts that they share.",
		Panels: []Panel{
			{Title: "Clusters Ready", Kind: Number, Width: 4, Answers: []int{6}, Says: "Of how many documents ask for.", Asks: []Ask{
				{`sum(max by (cluster) (pgctrl_cluster_ready))`, "Ready"}, {`count(max by (cluster) (pgctrl_cluster_ready))`, "all"}}},
			{Title: "Nodes present", Kind: Number, Width: 4, Answers: []int{6}, Says: "Nodes whose agent is present in etcd, of those with a document.", Asks: []Ask{
				{`sum(max by (on_node) (pgctrl_node_present))`, "present"}, {`count(max by (on_node) (pgctrl_node_present))`, "all"}}},
			{Title: "Targets down", Kind: Number, Width: 4, Answers: []int{6}, Red: 1, Says: "Programs that do not answer Prometheus.", Asks: []Ask{
				{`count(up == 0) or vector(0)`, "down"}}},
			{Title: "Server that plans", Kind: Number, Width: 4, Answers: []int{6}, Says: "Without one documents have no effect; clusters serve and fail over all the same.", Asks: []Ask{
				{`max by (node) (pgctrl_engine_leader) == 1`, "{{node}}"}}},
			{Title: "etcd members with a leader", Kind: Number, Width: 4, Answers: []int{10}, Says: "Of all members.", Asks: []Ask{
				{`sum(etcd_server_has_leader)`, "with a leader"}, {`count(etcd_server_has_leader)`, "all"}}},
			{Title: "Clusters with a confirmed primary", Kind: Number, Width: 4, Answers: []int{1}, Says: "Of those whose agents answer.", Asks: []Ask{
				{`sum(cluster:primary_confirmed:max)`, "confirmed"}, {`count(cluster:primary_confirmed:max)`, "all"}}},

			{Title: "Alerts", Kind: Table, Width: 12, Quiet: true, Answers: []int{6}, Says: "What fires now; docs/runbooks has a page for each.", Asks: []Ask{
				{`max by (alertname, severity, cluster, member, node, job) (ALERTS{alertstate="firing"})`, ""}}},
			{Title: "Not Ready, and why", Kind: Table, Width: 12, Quiet: true, Answers: []int{6}, Says: "Reasons that stand between clusters and their documents: pgctrl explain <reason>.", Asks: []Ask{
				{`max by (cluster, concern, on_node, reason) (pgctrl_cluster_condition{blocking="true"})`, ""}}},

			{Title: "Who leads, since when", Kind: Table, Width: 12, Unit: "dateTimeFromNow", Answers: []int{1}, Says: "As the first agent saw it that runs since then.", Asks: []Ask{
				{`min by (cluster, leader) (pgagent_leader_since_timestamp_seconds) * 1000`, ""}}},
			{Title: "Least room on disks", Kind: Table, Width: 12, Unit: "percentunit", Answers: []int{8}, Says: "The ten fullest file systems of data and WAL.", Asks: []Ask{
				{`bottomk(10, min by (cluster, member, node, folder) (cluster_member_folder:disk_free:ratio))`, ""}}},

			{Title: "Oldest of the newest backups", Kind: Table, Width: 8, Unit: "s", Answers: []int{7}, Says: "The ten clusters whose newest backup is the oldest. One that has none is not among them: Backups late.", Asks: []Ask{
				{`topk(10, time() - max by (cluster) (pgctrl_backup_last_stop_timestamp_seconds))`, ""}}},
			{Title: "Backups late", Kind: Table, Width: 8, Unit: "s", Quiet: true, Answers: []int{7}, Says: "By how much, against each cluster's schedule; one that is being made is late until it is done.", Asks: []Ask{
				{`time() - max by (cluster) (pgctrl_backup_due_timestamp_seconds) > 0`, ""}}},
			{Title: "Archives that fail, repositories that are split", Kind: Table, Width: 8, Quiet: true, Answers: []int{7}, Says: "WAL that can't be archived or is missing since the newest backup, and newer backups elsewhere than with the primary.", Asks: []Ask{
				{`max by (cluster, node) (pgagent_archive_failing) == 1 or max by (cluster) (pgctrl_backup_repository_split) == 1 or max by (cluster) (pgctrl_backup_wal_gap) == 1`, ""}}},

			{Title: "etcd: 99 of 100 fsyncs are faster", Kind: Graph, Width: 8, Unit: "s", Red: 0.1, Answers: []int{10}, Says: "Every renewal of a leader key waits for one.", Asks: []Ask{
				{`instance:etcd_wal_fsync_seconds:p99`, "{{instance}}"}}},
			{Title: "etcd: part of its quota", Kind: Graph, Width: 8, Unit: "percentunit", Red: 0.5, Answers: []int{10}, Says: "At the whole of it every write is refused.", Asks: []Ask{
				{`instance:etcd_quota_used:ratio`, "{{instance}}"}}},
			{Title: "etcd: leaders seen", Kind: Graph, Width: 8, Answers: []int{10}, Says: "Each step is an election.", Asks: []Ask{
				{`max by (instance) (etcd_server_leader_changes_seen_total)`, "{{instance}}"}}},

			{Title: "How old each node's view of etcd is", Kind: Graph, Width: 8, Unit: "s", Red: 3, Answers: []int{10}, Says: "An agent acts on nothing older than 3 s.", Asks: []Ask{
				{`max by (node) (pgagent_view_age_seconds)`, "agent {{node}}"}, {`max by (node) (pgctrl_store_watch_staleness_seconds)`, "server {{node}}"}}},
			{Title: "How wrong clocks are", Kind: Graph, Width: 8, Unit: "s", Answers: []int{10}, Says: "Against the clock of this Prometheus's host.", Asks: []Ask{
				{`node:clock_skew_seconds:max`, "{{node}}"}}},
			{Title: "Repairs of drift", Kind: Graph, Width: 8, Answers: []int{6}, Says: "Things found changed by hand and put back, in 5 minutes.", Asks: []Ask{
				{`sum by (cluster, concern, node) (increase(pgagent_repairs_total[5m]))`, "{{cluster}} {{concern}} on {{node}}"}}},

			{Title: "Memory of what pgctrl runs", Kind: Graph, Width: 12, Unit: "bytes", Says: "Agents, servers, exporters, etcd and Prometheus.", Asks: []Ask{
				{`max by (job, instance) (process_resident_memory_bytes)`, "{{job}} {{instance}}"}}},
			{Title: "Processor of what pgctrl runs", Kind: Graph, Width: 12, Unit: "percentunit", Says: "1 is one core.", Asks: []Ask{
				{`max by (job, instance) (rate(process_cpu_seconds_total[$__rate_interval]))`, "{{job}} {{instance}}"}}},
		},
	}
}

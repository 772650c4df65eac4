package dashboards

// took is the mean time of what was done in a time span, from a histogram.
func took(metric, by string) string {
	return `sum by (` + by + `) (increase(` + metric + `_sum{cluster="$cluster"}[$__range])) / (sum by (` + by + `) (increase(` + metric + `_count{cluster="$cluster"}[$__range])) > 0)`
}

func failover() Dashboard {
	return Dashboard{
		Name: "failover", Title: "pgctrl: failover", PerCluster: true,
		Says: "What happened in a move of the leader, and how long each step took. Set the time range around it.",
		Panels: []Panel{
			{Title: "Who leads", Kind: Timeline, Width: 24, Answers: []int{1, 9}, Says: "A line for each member that led: the epoch of its leadership, as agents see it.", Asks: []Ask{
				{`max by (leader) (pgagent_leader_epoch{cluster="$cluster"})`, "{{leader}}"}}},
			{Title: "Is a primary confirmed", Kind: Timeline, Width: 24, Answers: []int{9}, Says: "0 from the old leader's end until the new one was seen to take writes.", Asks: []Ask{
				{`cluster:primary_confirmed:max{cluster="$cluster"}`, "confirmed"}}},
			{Title: "Which PostgreSQL takes writes", Kind: Timeline, Width: 12, Answers: []int{9}, Says: "By the word of each member's own agent.", Asks: []Ask{
				{`max by (member) (pgagent_postgres_writable{cluster="$cluster"})`, "{{member}}"}}},
			{Title: "Where the virtual address is", Kind: Timeline, Width: 12, Answers: []int{5, 9}, Says: "By the word of each node's agent.", Asks: []Ask{
				{`max by (node) (pgagent_vip_held{cluster="$cluster"})`, "{{node}}"}}},

			{Title: "Step 1: confirmed", Kind: Number, Width: 6, Unit: "s", Answers: []int{9}, Says: "From the answer of PostgreSQL that it takes writes to the confirmation being in etcd; mean of the time range.", Asks: []Ask{
				{took("pgagent_confirm_seconds", "node"), "{{node}}"}}},
			{Title: "Step 2: routes", Kind: Number, Width: 6, Unit: "s", Answers: []int{9}, Says: "From the event to this node's HAProxy being told; mean of the time range.", Asks: []Ask{
				{took("pgagent_route_move_seconds", "node"), "{{node}}"}}},
			{Title: "Step 3: virtual address", Kind: Number, Width: 6, Unit: "s", Answers: []int{9}, Says: "From the own member seen confirmed to the address added; mean of the time range.", Asks: []Ask{
				{took("pgagent_vip_take_seconds", "node"), "{{node}}"}}},
			{Title: "Moves of servers", Kind: Number, Width: 6, Answers: []int{9}, Says: "Servers whose state was changed in HAProxy in the time range.", Asks: []Ask{
				{`sum by (node) (increase(pgagent_route_moves_total{cluster="$cluster"}[$__range]))`, "{{node}}"}}},

			{Title: "Where the service primary leads", Kind: Timeline, Width: 24, Answers: []int{2, 9}, Says: "By each node's own HAProxy: which member is up.", Asks: []Ask{
				{`max by (node, server) (haproxy_server_status{cluster="$cluster",proxy="primary",state="UP",server!="_hold"})`, "{{server}} through {{node}}"}}},
			{Title: "Connections that were tried again", Kind: Graph, Width: 12, Answers: []int{9}, Says: "Clients that HAProxy held while nobody was there: retries and redispatches, by service.", Asks: []Ask{
				{`sum by (proxy) (rate(haproxy_backend_retry_warnings_total{cluster="$cluster"}[$__rate_interval]))`, "tried again {{proxy}}"},
				{`sum by (proxy) (rate(haproxy_backend_connection_errors_total{cluster="$cluster"}[$__rate_interval]))`, "failed {{proxy}}"}}},
			{Title: "Sessions of the primary's services", Kind: Graph, Width: 12, Answers: []int{9}, Says: "By node.", Asks: []Ask{
				{`sum by (node, proxy) (haproxy_frontend_current_sessions{cluster="$cluster",proxy=~"primary|default"})`, "{{proxy}} through {{node}}"}}},

			{Title: "Timelines", Kind: Graph, Width: 8, Answers: []int{9}, Says: "A member that stays on an older one has to be rewound.", Asks: []Ask{
				{`max by (member) (pgagent_postgres_timeline{cluster="$cluster"})`, "{{member}}"}}},
			{Title: "WAL position", Kind: Graph, Width: 8, Answers: []int{4, 9}, Says: "Written by the primary, replayed by replicas, by Patroni's word.", Asks: []Ask{
				{`max by (member) (patroni_xlog_location{cluster="$cluster"} > 0)`, "written {{member}}"},
				{`max by (member) (patroni_xlog_replayed_location{cluster="$cluster"} > 0)`, "replayed {{member}}"}}},
			{Title: "Patroni and etcd", Kind: Graph, Width: 8, Unit: "s", Answers: []int{9, 10}, Says: "How long ago each Patroni last heard etcd.", Asks: []Ask{
				{`time() - max by (member) (patroni_dcs_last_seen{cluster="$cluster"})`, "{{member}}"}}},
		},
	}
}

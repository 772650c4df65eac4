package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// gauges is what holds at this moment, worked out when somebody scrapes: between
// scrapes it costs nothing, and a cluster, leader or condition that is gone leaves no
// series behind. What an alert adds up is there with 0 from the start.
type gauges struct {
	a    *Agent
	room *rooms

	clock, announced, plansAge                   *prometheus.Desc
	confirmed, viewAge, leader, leads            *prometheus.Desc
	postgres, writable, streaming, timeline      *prometheus.Desc
	pooler, vip, repairs, waits, plan, condition *prometheus.Desc
	certificate                                  *prometheus.Desc
	archiveReady, archiveLast, archiveFailing    *prometheus.Desc
	archiveAwaits                                *prometheus.Desc
}

// localFor is how old the last answer of PostgreSQL may be to be called the present.
// It is asked every 250 ms and answers at once or, hanging, after 2 s.
const localFor = 5 * time.Second

func newGauges(a *Agent) *gauges {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &gauges{
		a: a, room: newRooms(),
		clock:          d("pgagent_time_seconds", "This node's clock; beside the time of the scrape it shows how wrong it is."),
		announced:      d("pgagent_announced", "1 while the node's presence is in etcd."),
		plansAge:       d("pgagent_plans_age_seconds", "Age of the newest proof that the node's plans are current; since the agent's start before the first."),
		confirmed:      d("pgagent_primary_confirmed", "1 while the agent's fresh view has a confirmed primary; absent for a standby cluster, which has none.", "cluster"),
		viewAge:        d("pgagent_view_age_seconds", "Age of the newest proof that the view of etcd is current; since the agent's start before the first.", "cluster"),
		leader:         d("pgagent_leader_epoch", "Epoch of the leadership that this agent sees: the mod revision of Patroni's leader key. Absent while nobody leads.", "cluster", "leader"),
		leads:          d("pgagent_leader_since_timestamp_seconds", "When this agent saw the present leadership begin, which is after its own start.", "cluster", "leader"),
		postgres:       d("pgagent_postgres_up", "1 while the node's own PostgreSQL answers its agent.", "cluster", "member"),
		writable:       d("pgagent_postgres_writable", "1 while the node's own PostgreSQL answers and is not in recovery.", "cluster", "member"),
		streaming:      d("pgagent_replica_streaming", "1 while the node's own replica gets WAL from the leader; absent unless it is in recovery.", "cluster", "member"),
		timeline:       d("pgagent_postgres_timeline", "Timeline that the node's own PostgreSQL is on.", "cluster", "member"),
		pooler:         d("pgagent_pooler", "1 for the state that the node's own pooler is in: up, down, or alone (it lives, its PostgreSQL takes no connections).", "cluster", "member", "state"),
		vip:            d("pgagent_vip_held", "1 while the cluster's virtual address is on this host; absent where it can never be.", "cluster", "address"),
		repairs:        d("pgagent_repairs_total", "Times that something was found changed by hand and put back.", "cluster", "concern"),
		waits:          d("pgagent_plan_unapplied_seconds", "Since when a plan waits for the host to be so; 0 when it is.", "cluster", "concern"),
		plan:           d("pgagent_plan_revision", "Revision of the plan that is worked with.", "cluster", "concern"),
		condition:      d("pgagent_condition", "1 for each condition that has a reason, of the plans of this node.", "cluster", "concern", "type", "status", "reason"),
		archiveReady:   d("pgagent_archive_ready_files", "Finished files of WAL that wait for the archive, as of some seconds ago; absent unless the node's own PostgreSQL is a primary that archives.", "cluster"),
		archiveLast:    d("pgagent_archive_last_success_timestamp_seconds", "When the archive last took a file; absent before the first.", "cluster"),
		archiveFailing: d("pgagent_archive_failing", "1 while finished WAL has waited for the archive for more than a minute.", "cluster"),
		archiveAwaits:  d("pgagent_archive_awaits", "1 while WAL that the archive lacks may be on its way, or the next segment will tell whether any is missing; what stays away is said then.", "cluster"),
		certificate: d("pgagent_certificate_expires_timestamp_seconds",
			"Until when the certificate is good that the node's own PostgreSQL shows to clients; absent without one.", "cluster", "member"),
	}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		g.clock, g.announced, g.plansAge, g.confirmed, g.viewAge, g.leader, g.leads, g.postgres, g.writable, g.streaming, g.timeline,
		g.pooler, g.vip, g.repairs, g.waits, g.plan, g.condition, g.certificate, g.archiveReady, g.archiveLast, g.archiveFailing, g.archiveAwaits, g.room.free, g.room.size, g.room.inode, g.room.all,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	st := g.a.Status()
	s := sayer{ch}
	s.say(g.clock, float64(now.UnixNano())/1e9)
	s.say(g.announced, number(st.Announced))
	s.say(g.plansAge, ageOr(st.PlansAge, st.Uptime))
	said := map[told]bool{}
	for _, c := range []*observed.Condition{st.Distrust, st.Full} {
		if c != nil {
			g.tell(s, said, "", "", *c)
		}
	}
	for _, c := range st.Clusters {
		g.cluster(s, said, st, c, now)
	}
	for _, c := range g.a.all() {
		g.inside(s, c, now)
	}
	g.room.collect(g.a, ch)
}

// cluster is what the status of a cluster says.
func (g *gauges) cluster(s sayer, said map[told]bool, st Status, c ClusterStatus, now time.Time) {
	if !c.Standby && c.Name != keys.NodeCluster {
		s.say(g.confirmed, number(c.Fresh && c.Confirmed), c.Name)
	}
	s.say(g.viewAge, ageOr(c.ViewAge, st.Uptime), c.Name)
	if c.Leader != "" {
		s.say(g.leader, float64(c.Epoch), c.Name, c.Leader)
		s.say(g.leads, float64(now.UnixNano())/1e9-max(0, c.LeaderAge), c.Name, c.Leader)
	}
	if p := c.PostgreSQL; c.Member != "" {
		up := p.Reachable && p.Age >= 0 && p.Age < localFor.Seconds()
		s.say(g.postgres, number(up), c.Name, c.Member)
		s.say(g.writable, number(up && !p.InRecovery), c.Name, c.Member)
		if up && p.InRecovery {
			s.say(g.streaming, number(p.Streaming), c.Name, c.Member)
		}
		if up {
			s.say(g.timeline, float64(p.Timeline), c.Name, c.Member)
		}
	}
	if c.VIP != nil {
		s.say(g.vip, number(c.VIP.Here), c.Name, c.VIP.Address)
	}
	for _, con := range c.Concerns {
		s.say(g.plan, float64(con.Plan), c.Name, con.Concern)
		for _, cond := range con.Conditions {
			g.tell(s, said, c.Name, con.Concern, cond)
		}
	}
	for _, cond := range c.Why {
		g.tell(s, said, c.Name, "", cond)
	}
}

// inside is what no status shows.
func (g *gauges) inside(s sayer, c *cluster, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	own, member := c.info.Own()
	if member {
		s.say(g.archiveAwaits, number(c.backups.gaps.unsettled || c.backups.gaps.waits), c.name)
	}
	if c.watcher != nil {
		if a := c.watcher.Last().Archiving; a.On {
			s.say(g.archiveReady, float64(a.Ready), c.name)
			s.say(g.archiveFailing, number(a.Late()), c.name)
			if !a.Archived.IsZero() {
				s.say(g.archiveLast, float64(a.Archived.Unix()), c.name)
			}
		}
	}
	if r, known := c.pool.said(c.uid, g.a.o.Node); known {
		for _, state := range []string{observed.PoolerUp, observed.PoolerDown, observed.PoolerAlone} {
			s.say(g.pooler, number(r.Pooler == state), c.name, r.Member, state)
		}
	}
	for name, con := range c.concerns {
		s.count(g.repairs, float64(con.repairs), c.name, name)
		waits := 0.0
		if !con.received.IsZero() {
			waits = now.Sub(con.received).Seconds()
		}
		s.say(g.waits, waits, c.name, name)
		if at := con.shown.until; !at.IsZero() && own.Name != "" {
			s.say(g.certificate, float64(at.Unix()), c.name, own.Name)
		}
	}
}

// told is a condition without its words, of which there are without number.
type told struct {
	cluster, concern string
	kind             observed.Type
	status           observed.Status
	reason           observed.Reason
}

// tell says each condition that has a reason once: two with other words are one here.
func (g *gauges) tell(s sayer, said map[told]bool, cluster, concern string, c observed.Condition) {
	t := told{cluster, concern, c.Type, c.Status, c.Reason}
	if c.Reason == "" || said[t] {
		return
	}
	said[t] = true
	s.say(g.condition, 1, cluster, concern, string(c.Type), string(c.Status), string(c.Reason))
}

// sayer makes metrics.
type sayer struct{ ch chan<- prometheus.Metric }

func (s sayer) say(d *prometheus.Desc, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s sayer) count(d *prometheus.Desc, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// ageOr is an age; that of what was never proven is that of the agent.
func ageOr(age, uptime float64) float64 {
	if age < 0 {
		return uptime
	}
	return age
}

package status

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// members joins documents, plans and what Patroni says. The role comes from the
// leader key alone.
func (c *computer) members() {
	rows := map[string]*Member{}
	row := func(name string) *Member {
		if rows[name] == nil {
			rows[name] = &Member{Name: name, Unmanaged: true}
		}
		return rows[name]
	}
	for _, concerns := range c.plans {
		for _, p := range concerns {
			if own, ok := p.Cluster.Own(); ok {
				c.place(row(own.Name), own)
			}
		}
	}
	for _, m := range c.docs.MemberList() {
		_, planned := rows[m.Name]
		if _, live := c.live[m.Name]; m.Absent() && !planned && !live {
			continue // it is gone; only its document is left
		}
		r := row(m.Name)
		r.Unmanaged = false
		if m.Delayed() {
			r.Delay = m.Delay.String()
		}
		c.place(r, plan.Member{Node: m.Node, Offline: m.Offline, Address: r.Address})
	}
	for name, m := range c.live {
		c.lively(row(name), m)
	}
	for name, r := range rows {
		if c.alive(r.Node) { // what it said last is of an unknown age otherwise
			r.Pooler = c.reports[r.Node][plan.Pooler].Facts[observed.FactPooler]
		}
		switch {
		case c.out.Leader == "":
		case name != c.out.Leader:
			r.Role = Replica
		case c.config.StandbyCluster != nil:
			r.Role = StandbyLeader
		default:
			r.Role, r.Confirmed = Leader, name == c.out.Primary
		}
		c.out.Members = append(c.out.Members, *r)
	}
	slices.SortFunc(c.out.Members, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
}

func (c *computer) place(r *Member, m plan.Member) {
	r.Node, r.Offline, r.Address = m.Node, m.Offline, m.Address
	if n := desired.LoadNode(c.Snapshot, c.Layout, m.Node); n != nil {
		r.Address = n.Address
	}
}

func (c *computer) lively(r *Member, m patroni.Member) {
	r.State, r.Timeline, r.PendingRestart, r.Patroni = m.State, m.Timeline, m.PendingRestart, m.Version
	leader := c.live[c.out.Leader]
	if r.Name == c.out.Leader {
		return
	}
	if m.State == "running" && m.Replication != "" {
		r.State = m.Replication // 3.x: "streaming" is a word of its own there
	}
	// Before 3.0.3 Patroni has no such word, and "running" is all that it says.
	streams := m.Replication == "" || m.Replication == streaming
	switch c.replication(r.Node) {
	case observed.ReplicationStreaming:
		streams = true
		if m.Running() {
			r.State = streaming
		}
	case observed.ReplicationWaiting:
		streams = false
		if r.State == streaming {
			r.State = "running"
		}
	}
	r.Follows = m.Running() && streams && m.Timeline >= c.out.Timeline && c.forked(r.Node) == 0
	// Projected snapshots have no WAL positions.
	if leader.XLogLocation > 0 && m.XLogLocation > 0 {
		lag := max(0, leader.XLogLocation-m.XLogLocation)
		r.Lag = &lag
	}
}

// streaming is Patroni's word for it.
const streaming = "streaming"

// replication is how the node's own agent sees its member follow, which it knows
// within a quarter of a second and Patroni's member key within ten; empty when
// no agent says.
func (c *computer) replication(node string) string {
	if !c.alive(node) {
		return "" // what it said last is of an unknown age
	}
	return c.reports[node]["postgres"].Facts[observed.FactReplication]
}

// recoveryTimeline is the timeline that the node's member recovers along while it does
// not stream; 0 when its agent does not say.
func (c *computer) recoveryTimeline(node string) int64 {
	return c.timelineFact(node, observed.FactRecoveryTimeline)
}

// forked is the timeline of which the node's member has WAL of its own, although it
// does not lead on it; 0 when its agent knows of none.
func (c *computer) forked(node string) int64 { return c.timelineFact(node, observed.FactForked) }

func (c *computer) timelineFact(node, fact string) int64 {
	if !c.alive(node) {
		return 0
	}
	t, _ := strconv.ParseInt(c.reports[node]["postgres"].Facts[fact], 10, 64)
	return t
}

// leadership adds what is wrong with who leads and who follows.
func (c *computer) leadership() {
	if c.formed == nil || !c.out.Exists && len(c.live) == 0 || c.docs.Removing() {
		return
	}
	leaderKey := c.Layout.Leader(c.Cluster)
	switch {
	case c.out.Leader == "":
		c.add("postgres", "", observed.Condition{
			Type: observed.HasPrimary, Status: observed.False, Reason: observed.NoLeader, Key: leaderKey,
			Message: observed.Meaning[observed.NoLeader] + c.candidates(), Next: fmt.Sprintf("journalctl -u patroni@%s (on the members' nodes)", c.Cluster),
		})
	case c.config.StandbyCluster != nil:
		c.add("postgres", "", observed.Condition{
			Type: observed.HasPrimary, Status: observed.False, Reason: observed.StandbyCluster, Key: c.Layout.Scope(c.Cluster) + "config",
			Message: observed.Meaning[observed.StandbyCluster],
		})
	case c.out.Primary == "":
		c.add("postgres", c.nodeOf(c.out.Leader), observed.Condition{
			Type: observed.HasPrimary, Status: observed.False, Reason: observed.NotConfirmed, Key: c.Layout.PrimaryKey(c.Cluster),
			Message: fmt.Sprintf("%s leads; its PostgreSQL has not been seen to accept writes", c.out.Leader),
		})
	}
	if c.out.Leader != "" {
		c.following()
	}
	c.versions()
	if c.out.Paused {
		c.add("postgres", "", observed.Condition{
			Type: observed.Applied, Status: observed.Unknown, Reason: observed.PatroniPaused, Key: c.Layout.Scope(c.Cluster) + "config",
			Message: observed.Meaning[observed.PatroniPaused],
		})
	}
}

// candidates says who is there while nobody leads.
func (c *computer) candidates() string {
	if names := patroni.Names(c.live); len(names) > 0 {
		return "; Patroni runs for " + strings.Join(names, ", ")
	}
	return "; no Patroni of the cluster runs"
}

func (c *computer) nodeOf(member string) string {
	for _, m := range c.out.Members {
		if m.Name == member {
			return m.Node
		}
	}
	return ""
}

// following finds members that do not follow the leader, and values that wait.
func (c *computer) following() {
	for _, m := range c.out.Members {
		if m.PendingRestart {
			c.add("postgres", m.Node, observed.Condition{
				Type: observed.Applied, Status: observed.False, Reason: observed.PendingRestart, Key: c.Layout.Members(c.Cluster) + m.Name,
				Message: m.Name + " runs with old values of parameters that only a restart changes",
				Next:    fmt.Sprintf("pgctrl restart %s %s", c.Cluster, m.Name),
			})
		}
		_, there := c.live[m.Name]
		planned := false
		for _, p := range c.plans[m.Node] {
			planned = planned || p.Cluster.Member == m.Name && p.Removal == nil
		}
		if m.Name == c.out.Leader || !planned || !c.alive(m.Node) || m.Follows {
			continue
		}
		reinit := fmt.Sprintf("pgctrl reinit %s %s", c.Cluster, m.Name)
		if t := c.forked(m.Node); t > 0 && there {
			c.add("postgres", m.Node, observed.Condition{
				Type: observed.Healthy, Status: observed.False, Reason: observed.Forked, Key: c.Layout.PrimaryKey(c.Cluster), Next: reinit,
				Message: fmt.Sprintf("%s can't follow %s: it led on a timeline %d of its own, and another member took that number too; what only it has is lost when it is copied anew", m.Name, c.out.Leader, t),
			})
			continue
		}
		what, next := "says "+m.State, fmt.Sprintf("journalctl -u patroni@%s (on %s)", c.Cluster, m.Node)
		has := max(m.Timeline, c.recoveryTimeline(m.Node))
		switch {
		case !there:
			what = "has no running Patroni"
		case c.live[m.Name].Running() && has > c.out.Timeline && c.out.Primary != "":
			// Measured on Patroni 3.0.2 with PostgreSQL 15: pg_rewind looks at the last
			// checkpoint only and says "no rewind required", and Patroni leaves it so.
			// A leader's member key is seconds behind its promotion, its record is not.
			what = fmt.Sprintf("recovers along timeline %d, which the leader (timeline %d) never had; what only it has is lost when it is copied anew", has, c.out.Timeline)
			next = reinit
		case m.Timeline > 0 && m.Timeline < c.out.Timeline:
			what = fmt.Sprintf("is on timeline %d, the leader on %d", m.Timeline, c.out.Timeline)
		case m.State == "running":
			what = "runs, and its WAL receiver gets nothing yet"
		}
		c.add("postgres", m.Node, observed.Condition{
			Type: observed.Healthy, Status: observed.False, Reason: observed.NotStreaming, Key: c.Layout.Members(c.Cluster) + m.Name,
			Message: fmt.Sprintf("%s does not stream from %s: it %s", m.Name, c.out.Leader, what),
			Next:    next,
		})
	}
}

// versions notes once which members run a Patroni with known faults.
func (c *computer) versions() {
	var old []string
	for _, name := range patroni.Names(c.live) {
		if v := c.live[name].Version; v != "" && patroni.ParseVersion(v).Less(patroni.OldestSafe) {
			old = append(old, name+" "+v)
		}
	}
	if len(old) > 0 {
		c.add("postgres", "", observed.Condition{
			// True: it works, a distribution ships it, and nothing should wait for it.
			Type: observed.Healthy, Status: observed.True, Reason: observed.PatroniTooOld, Key: c.Layout.Members(c.Cluster),
			Message: strings.Join(old, ", ") + ": " + observed.Meaning[observed.PatroniTooOld],
		})
	}
}

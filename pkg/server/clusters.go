package server

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgctrl/pgctrl/internal/memo"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/status"
)

// clusters is what the written status of every cluster says, as metrics: the answer of
// `pgctrl status` in numbers. Every server says the same, whichever of them leads, so
// rules take the max of them. It is worked out at the scrape, from memory. The label
// node is the server's own in a scrape, so whom something is about is on_node.
type clusters struct {
	layout keys.Layout
	see    func() kv.Snapshot
	// read remembers what a status said, by key and revision: most clusters' does not
	// change from one scrape to the next.
	read    *memo.Memo[seen, *status.ClusterStatus]
	backups *backups

	ready, nodes, applied, revision, condition, delayed, present, password *prometheus.Desc
}

type seen struct {
	key      string
	revision int64
}

// remembered is how many clusters a server is built for.
const remembered = 5000

func newClusters(l keys.Layout, see func() kv.Snapshot) *clusters {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &clusters{
		layout: l, see: see, read: memo.New[seen, *status.ClusterStatus](remembered), backups: newBackups(l),
		ready:    d("pgctrl_cluster_ready", "1 while everything asked for is in force and the cluster takes writes.", "cluster"),
		nodes:    d("pgctrl_cluster_nodes", "Nodes that the cluster has plans on.", "cluster"),
		applied:  d("pgctrl_cluster_nodes_applied", "Nodes that have everything of the cluster in force.", "cluster"),
		revision: d("pgctrl_cluster_documents_revision", "Newest revision of the cluster's documents, defaults and nodes.", "cluster"),
		condition: d("pgctrl_cluster_condition", "1 for each condition that has a reason; blocking ones stand between the cluster and ready.",
			"cluster", "concern", "on_node", "reason", "blocking"),
		delayed: d("pgctrl_member_delayed", "1 for a member that replays late on purpose.", "cluster", "member"),
		present: d("pgctrl_node_present", "1 while the agent of a node that has a document is present in etcd.", "on_node"),
		password: d("pgctrl_user_password_expires_timestamp_seconds",
			"Until when the password of a user with valid_until is good.", "cluster", "user"),
	}
}

// Describe implements prometheus.Collector.
func (c *clusters) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.ready, c.nodes, c.applied, c.revision, c.condition, c.delayed, c.present, c.password} {
		ch <- d
	}
	c.backups.describe(ch)
}

// Collect implements prometheus.Collector.
func (c *clusters) Collect(ch chan<- prometheus.Metric) {
	say := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	s := c.see()
	for _, e := range s.Range(c.layout.Prefix(keys.Status)) {
		st := c.read.Get(seen{e.Key, e.ModRevision}, func() *status.ClusterStatus {
			var st status.ClusterStatus
			if json.Unmarshal(e.Value, &st) != nil {
				return nil // somebody else's; the controller writes it anew
			}
			return &st
		})
		// By its key: what another says of itself there must not be said twice.
		ref, err := c.layout.Parse(e.Key)
		if st != nil && st.Exists && err == nil && keys.CheckCluster(ref.Cluster) == nil {
			c.cluster(say, ref.Cluster, st)
			c.backups.cluster(s, say, ref.Cluster, st)
		}
	}
	for _, e := range s.Range(c.layout.Prefix(keys.Nodes)) {
		node := strings.TrimPrefix(e.Key, c.layout.Prefix(keys.Nodes))
		if keys.CheckNode(node) != nil {
			continue // MisplacedKey says so; it need not even be text
		}
		_, here := s.Get(c.layout.AliveKey(node))
		say(c.present, number(here), node)
	}
	c.passwords(s, say)
}

func (c *clusters) cluster(say func(*prometheus.Desc, float64, ...string), name string, st *status.ClusterStatus) {
	say(c.ready, number(st.Ready), name)
	say(c.nodes, float64(st.Nodes), name)
	say(c.applied, float64(st.Applied), name)
	say(c.revision, float64(st.Revision), name)
	said := map[[3]string]bool{}
	for _, cond := range st.Conditions {
		// Two that differ in their words alone are one here.
		id := [3]string{cond.Concern, cond.Node, string(cond.Reason)}
		if cond.Reason == "" || said[id] {
			continue
		}
		said[id] = true
		blocking := "false"
		if cond.Blocking() {
			blocking = "true"
		}
		say(c.condition, 1, name, cond.Concern, cond.Node, string(cond.Reason), blocking)
	}
	for _, m := range st.Members {
		if m.Delay != "" {
			say(c.delayed, 1, name, m.Name)
		}
	}
}

// passwords reads the few documents of users that end, a cluster's all at once.
func (c *clusters) passwords(s kv.Snapshot, say func(*prometheus.Desc, float64, ...string)) {
	var docs *desired.Cluster // of the last one; keys are sorted
	for _, e := range s.Range(c.layout.Prefix(keys.Desired)) {
		if !bytes.Contains(e.Value, []byte("valid_until")) {
			continue
		}
		ref, err := c.layout.Parse(e.Key)
		name, user := strings.CutPrefix(ref.Doc, "users/")
		if err != nil || !user || keys.CheckCluster(ref.Cluster) != nil {
			continue
		}
		if docs == nil || docs.Name != ref.Cluster {
			docs = desired.Load(s, c.layout, ref.Cluster, "users")
		}
		u := docs.Users[name]
		if u == nil || u.ValidUntil == "" {
			continue
		}
		if at, err := time.Parse(time.RFC3339Nano, u.ValidUntil); err == nil {
			say(c.password, seconds(at), ref.Cluster, name)
		}
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

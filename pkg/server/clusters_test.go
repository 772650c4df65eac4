package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
)

func put(t *testing.T, m *kv.Map, key string, v any) {
	t.Helper()
	value, ok := v.(string)
	if !ok {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		value = string(b)
	}
	m.At++
	m.Keys[key] = kv.KV{Key: key, Value: []byte(value), CreateRevision: m.At, ModRevision: m.At}
}

// TestClustersInNumbers: a scrape says what status says, at the revision it has now, and
// nothing of what is gone.
func TestClustersInNumbers(t *testing.T) {
	l := keys.Default
	m := kv.NewMap()
	registry := prometheus.NewRegistry()
	registry.MustRegister(newClusters(l, func() kv.Snapshot { return m }))
	shows := func(want string) {
		t.Helper()
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
	}
	shows("")
	stopped := func(words string) status.Condition {
		return status.Condition{Concern: "postgres", Node: "pg2", Condition: observed.Condition{
			Type: observed.Applied, Status: observed.False, Reason: observed.Stopped, Message: words}}
	}
	put(t, m, l.StatusKey("pg-test"), status.ClusterStatus{
		Cluster: "pg-test", Exists: true, Revision: 41, Applied: 2, Nodes: 3,
		Conditions: []status.Condition{
			stopped("patroni is"), stopped("and more words"),
			{Condition: observed.Condition{Type: observed.Healthy, Status: observed.True, Reason: observed.PatroniTooOld}},
			{Condition: observed.Condition{Type: observed.Healthy, Status: observed.False}},
		},
		Members: []status.Member{{Name: "pg-test-1"}, {Name: "pg-test-3", Delay: "1h"}},
	})
	put(t, m, l.StatusKey("left-alone"), status.ClusterStatus{Cluster: "left-alone"})
	put(t, m, l.StatusKey("broken"), "{")
	put(t, m, l.Node("pg1"), "address: 10.0.0.1\n")
	put(t, m, l.Node("pg2"), "address: 10.0.0.2\n")
	put(t, m, l.AliveKey("pg1"), "{}")
	put(t, m, l.ClusterDoc("pg-test", "users/app"), "valid_until: 2027-01-31T00:00:00Z\n")
	put(t, m, l.ClusterDoc("pg-test", "users/ever"), "comment: no valid_until here\n")
	put(t, m, l.ClusterDoc("pg-test", "users/wrong"), "valid_until: tomorrow\n")
	const before = `
# HELP pgctrl_cluster_condition 1 for each condition that has a reason; blocking ones stand between the cluster and ready.
# TYPE pgctrl_cluster_condition gauge
pgctrl_cluster_condition{blocking="false",cluster="pg-test",concern="",on_node="",reason="PatroniTooOld"} 1
pgctrl_cluster_condition{blocking="true",cluster="pg-test",concern="postgres",on_node="pg2",reason="Stopped"} 1
# HELP pgctrl_cluster_documents_revision Newest revision of the cluster's documents, defaults and nodes.
# TYPE pgctrl_cluster_documents_revision gauge
pgctrl_cluster_documents_revision{cluster="pg-test"} 41
# HELP pgctrl_cluster_nodes Nodes that the cluster has plans on.
# TYPE pgctrl_cluster_nodes gauge
pgctrl_cluster_nodes{cluster="pg-test"} 3
# HELP pgctrl_cluster_nodes_applied Nodes that have everything of the cluster in force.
# TYPE pgctrl_cluster_nodes_applied gauge
pgctrl_cluster_nodes_applied{cluster="pg-test"} 2
# HELP pgctrl_cluster_ready 1 while everything asked for is in force and the cluster takes writes.
# TYPE pgctrl_cluster_ready gauge
pgctrl_cluster_ready{cluster="pg-test"} 0
# HELP pgctrl_member_delayed 1 for a member that replays late on purpose.
# TYPE pgctrl_member_delayed gauge
pgctrl_member_delayed{cluster="pg-test",member="pg-test-3"} 1
`
	const fleet = `
# HELP pgctrl_node_present 1 while the agent of a node that has a document is present in etcd.
# TYPE pgctrl_node_present gauge
pgctrl_node_present{on_node="pg1"} 1
pgctrl_node_present{on_node="pg2"} 0
# HELP pgctrl_user_password_expires_timestamp_seconds Until when the password of a user with valid_until is good.
# TYPE pgctrl_user_password_expires_timestamp_seconds gauge
pgctrl_user_password_expires_timestamp_seconds{cluster="pg-test",user="app"} 1.8013536e+09
`
	shows(before + fleet)
	shows(before + fleet) // from memory, the same
	put(t, m, l.StatusKey("pg-test"), status.ClusterStatus{Cluster: "pg-test", Exists: true, Revision: 41, Applied: 3, Nodes: 3, Ready: true})
	shows(`
# HELP pgctrl_cluster_documents_revision Newest revision of the cluster's documents, defaults and nodes.
# TYPE pgctrl_cluster_documents_revision gauge
pgctrl_cluster_documents_revision{cluster="pg-test"} 41
# HELP pgctrl_cluster_nodes Nodes that the cluster has plans on.
# TYPE pgctrl_cluster_nodes gauge
pgctrl_cluster_nodes{cluster="pg-test"} 3
# HELP pgctrl_cluster_nodes_applied Nodes that have everything of the cluster in force.
# TYPE pgctrl_cluster_nodes_applied gauge
pgctrl_cluster_nodes_applied{cluster="pg-test"} 3
# HELP pgctrl_cluster_ready 1 while everything asked for is in force and the cluster takes writes.
# TYPE pgctrl_cluster_ready gauge
pgctrl_cluster_ready{cluster="pg-test"} 1
` + fleet)
}

// counted counts what is read.
type counted struct {
	*kv.Map
	reads int
}

func (c *counted) Get(key string) (kv.KV, bool) { c.reads++; return c.Map.Get(key) }
func (c *counted) Range(prefix string) []kv.KV  { c.reads++; return c.Map.Range(prefix) }

// TestUsersAreReadOncePerCluster: a scrape of a cluster with many users whose passwords end
// reads no more often than with one.
func TestUsersAreReadOncePerCluster(t *testing.T) {
	m := &counted{Map: kv.NewMap()}
	registry := prometheus.NewRegistry()
	registry.MustRegister(newClusters(keys.Default, func() kv.Snapshot { return m }))
	const name = "pgctrl_user_password_expires_timestamp_seconds"
	scrape := func(users int) int {
		t.Helper()
		for i := range users {
			put(t, m.Map, keys.Default.ClusterDoc("pg-test", fmt.Sprintf("users/app%d", i)), "valid_until: 2027-01-31T00:00:00Z\n")
		}
		m.reads = 0
		if n, err := testutil.GatherAndCount(registry, name); err != nil || n != users {
			t.Errorf("%d of %d users: %v", n, users, err)
		}
		return m.reads
	}
	if one, many := scrape(1), scrape(50); many != one {
		t.Errorf("50 users take %d reads, one %d", many, one)
	}
}

// TestScrapeOutlivesStrangeKeys: a key that nobody of ours has written takes no metric of
// anybody away.
func TestScrapeOutlivesStrangeKeys(t *testing.T) {
	l := keys.Default
	m := kv.NewMap()
	s := &server{registry: prometheus.NewRegistry()}
	s.registry.MustRegister(newClusters(l, func() kv.Snapshot { return m }))
	put(t, m, l.Node("pg1"), "address: 10.0.0.1\n")
	put(t, m, l.StatusKey("pg-test"), status.ClusterStatus{Cluster: "pg-test", Exists: true})
	for _, name := range []string{"\xff", "pg 2", "a/b", ""} {
		put(t, m, l.Node(name), "address: 10.0.0.2\n")
		put(t, m, l.StatusKey(name), status.ClusterStatus{Cluster: "strange", Exists: true})
		put(t, m, l.ClusterDoc(name, "users/app"), "valid_until: 2027-01-31T00:00:00Z\n")
		put(t, m, l.ClusterDoc("pg-test", "users/"+name), "valid_until: 2027-01-31T00:00:00Z\n")
	}
	put(t, m, l.StatusKey("other"), status.ClusterStatus{Cluster: "pg-test", Exists: true, Ready: true})
	w := httptest.NewRecorder()
	s.metrics(w, httptest.NewRequest("GET", "/metrics", nil))
	var got []string
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "pgctrl_cluster_ready") || strings.HasPrefix(line, "pgctrl_node_present") || strings.HasPrefix(line, "pgctrl_user") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := []string{`pgctrl_cluster_ready{cluster="other"} 1`, `pgctrl_cluster_ready{cluster="pg-test"} 0`, `pgctrl_node_present{on_node="pg1"} 0`}
	if d := cmp.Diff(want, got); w.Code != http.StatusOK || d != "" {
		t.Errorf("%d, -want +got:\n%s", w.Code, d)
	}
}

// broken says one thing that nobody can say.
type broken struct{}

func (broken) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(broken{}, ch) }

func (broken) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(prometheus.NewDesc("broken", "x", nil, nil), errors.New("wrong"))
}

// TestOneWrongMetricTakesNoOther: what can be said is said.
func TestOneWrongMetricTakesNoOther(t *testing.T) {
	s := &server{registry: prometheus.NewRegistry()}
	s.registry.MustRegister(broken{}, prometheus.NewGauge(prometheus.GaugeOpts{Name: "right", Help: "x"}))
	w := httptest.NewRecorder()
	s.metrics(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "right 0") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}

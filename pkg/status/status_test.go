package status_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgctrl/pgctrl/pkg/controllers/all"
	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
)

const docs = "/pgctrl/desired/clusters/pg-test/"

var nodes = []string{"pg1", "pg2", "pg3"}

// healthy is a cluster in which everything asked for is so. pg-test-1 leads.
func healthy(t testing.TB) *kv.Map {
	t.Helper()
	m := controllertest.Load(t, "../controllers/postgres/testdata/small.txtar")
	settle(t, m)
	controllertest.Put(m, "/pg/pg-test/initialize", "73")
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-1")
	settle(t, m)
	for i, n := range nodes {
		role := "replica"
		if i == 0 {
			role = "master"
		}
		controllertest.Put(m, fmt.Sprintf("/pg/pg-test/members/pg-test-%d", i+1), fmt.Sprintf(
			`{"state":"running","role":%q,"version":"4.0.4","timeline":1,"xlog_location":%d}`, role, 5000-i*100))
		answer(m, n, "pg-test-1")
	}
	confirm(m, "pg-test-1")
	controllertest.Put(m, "/pgctrl/election/server", "infra1")
	return m
}

func settle(t testing.TB, m *kv.Map) {
	for _, c := range all.Concerns() {
		controllertest.Settle(t, c, m, "pg-test")
	}
}

func confirm(m *kv.Map, member string) {
	leader, _ := m.Get("/pg/pg-test/leader")
	controllertest.Put(m, "/pgctrl/primary/pg-test", string(observed.Encode(observed.Primary{
		Member: member, Epoch: leader.ModRevision, Sequence: 1, Writable: true,
	})))
}

// answer is the node's report that all its plans are in force, leading to primary.
func answer(m *kv.Map, node, primary string) {
	for _, concern := range []string{"postgres", "pgbouncer", "haproxy", "databases", "backup", "monitor"} {
		e, _ := m.Get(keys.Default.PlanKey(node, "pg-test", concern))
		r := observed.Report{Schema: 1, Concern: concern, Plan: e.ModRevision, Loaded: "x",
			Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True}}}
		if concern == "haproxy" {
			r.Facts = map[string]string{
				"route.primary": primary, "route.default": primary,
				"route.replica": "pg-test-2,pg-test-3", "route.replica_fallback": primary, "route.offline_fallback": "pg-test-2,pg-test-3",
			}
		}
		if concern == "pgbouncer" {
			r.Facts = map[string]string{observed.FactPooler: observed.PoolerUp}
		}
		controllertest.Put(m, keys.Default.ObservedKey(node, "pg-test", concern), string(observed.Encode(r)))
	}
}

func refuse(m *kv.Map, node, concern string, reason observed.Reason) {
	e, _ := m.Get(keys.Default.PlanKey(node, "pg-test", concern))
	controllertest.Put(m, keys.Default.ObservedKey(node, "pg-test", concern), string(observed.Encode(observed.Report{
		Plan: e.ModRevision, Loaded: "x", Conditions: []observed.Condition{
			{Type: observed.Applied, Status: observed.False, Reason: reason, Message: "its words"}},
	})))
}

// follows is the node's report with what its agent sees of replication.
func follows(m *kv.Map, node, fact string, timeline ...string) {
	key := keys.Default.ObservedKey(node, "pg-test", "postgres")
	e, _ := m.Get(key)
	r, _ := observed.Decode[observed.Report](e)
	r.Facts = map[string]string{observed.FactReplication: fact}
	for _, t := range timeline {
		r.Facts[observed.FactRecoveryTimeline] = t
	}
	controllertest.Put(m, key, string(observed.Encode(r)))
}

// forks is follows, of a member that led on a timeline of its own.
func forks(m *kv.Map, node, fact, timeline string) {
	follows(m, node, fact)
	key := keys.Default.ObservedKey(node, "pg-test", "postgres")
	e, _ := m.Get(key)
	r, _ := observed.Decode[observed.Report](e)
	r.Facts[observed.FactForked] = timeline
	controllertest.Put(m, key, string(observed.Encode(r)))
}

// freeze is the node's reports while a file tells it to leave things alone; waits
// is the concern in which something differs.
func freeze(m *kv.Map, node, waits string) {
	for _, concern := range []string{"postgres", "haproxy", "databases"} {
		key := keys.Default.ObservedKey(node, "pg-test", concern)
		e, _ := m.Get(key)
		r, _ := observed.Decode[observed.Report](e)
		r.Conditions = []observed.Condition{
			{Type: observed.Applied, Status: observed.True},
			{Type: observed.Healthy, Status: observed.True, Reason: observed.Frozen, Message: "nothing is applied while /f exists"},
		}
		if concern == waits {
			r.Conditions[0] = observed.Condition{Type: observed.Applied, Status: observed.False, Reason: observed.Frozen, Message: "left so"}
		}
		controllertest.Put(m, key, string(observed.Encode(r)))
	}
}

// input is what somebody who can't read secrets knows.
func input(m *kv.Map) status.Input {
	m = &kv.Map{At: m.At, Keys: maps.Clone(m.Keys)}
	maps.DeleteFunc(m.Keys, func(key string, _ kv.KV) bool { return strings.HasPrefix(key, "/pgctrl/secrets/") })
	return status.Input{Snapshot: m, Layout: keys.Default, Now: controllertest.Now, Cluster: "pg-test", Concerns: all.Concerns(), Shared: all.Shared()}
}

func TestGolden(t *testing.T) {
	b, err := json.MarshalIndent(status.Compute(input(healthy(t))), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	controllertest.Golden(t, "testdata/healthy.json", append(b, '\n'))
}

func TestConditions(t *testing.T) {
	put := controllertest.Put
	for _, c := range []struct {
		name    string
		change  func(m *kv.Map)
		worst   observed.Reason
		message string
		ready   bool
		applied int
	}{
		{"healthy", func(*kv.Map) {}, "", "", true, 3},
		{"no server", func(m *kv.Map) { delete(m.Keys, "/pgctrl/election/server") }, observed.NoServer, "no pgctrl server", true, 3},
		{"no leader", func(m *kv.Map) { delete(m.Keys, "/pg/pg-test/leader") }, observed.NoLeader, "Patroni runs for pg-test-1", false, 3},
		{"another leader, not confirmed", func(m *kv.Map) { put(m, "/pg/pg-test/leader", "pg-test-2") }, observed.NotConfirmed, "pg-test-2 leads", false, 3},
		{"withdrawn", func(m *kv.Map) {
			put(m, "/pgctrl/primary/pg-test", `{"member":"pg-test-1","epoch":1,"sequence":2,"writable":false}`)
		}, observed.NotConfirmed, "pg-test-1 leads", false, 3},
		{"routes behind", func(m *kv.Map) {
			put(m, "/pg/pg-test/leader", "pg-test-2")
			confirm(m, "pg-test-2")
			answer(m, "pg1", "pg-test-2")
		},
			observed.RouteDiffers, "service default on node pg2 leads to pg-test-1, not to pg-test-2", false, 3},
		{"node away", func(m *kv.Map) { delete(m.Keys, "/pgctrl/alive/pg2") }, observed.NodeAbsent, "pg2", false, 2},
		{"refused", func(m *kv.Map) { refuse(m, "pg3", "postgres", observed.Rejected) }, observed.Rejected, "its words", false, 2},
		{"pgBackRest went", func(m *kv.Map) { refuse(m, "pg3", "backup", observed.MissingProgram) }, observed.MissingProgram, "its words", true, 3},
		{"an exporter is not installed", func(m *kv.Map) { refuse(m, "pg3", "monitor", observed.MissingProgram) }, observed.MissingProgram, "its words", true, 3},
		{"an exporter's answer is waited for", func(m *kv.Map) { delete(m.Keys, "/pgctrl/observed/pg3/pg-test/monitor") }, observed.NotApplied, "node pg3 has not answered", false, 2},
		{"not answered", func(m *kv.Map) { delete(m.Keys, "/pgctrl/observed/pg3/pg-test/postgres") }, observed.NotApplied, "node pg3 has not answered", false, 2},
		{"not planned", func(m *kv.Map) { put(m, docs+"postgres", "parameters: {work_mem: 64MB}") }, observed.RollingOut, "until its turn", false, 0},
		{"bad document", func(m *kv.Map) { put(m, docs+"services/primary", "prt: 1") }, observed.InvalidDocument, "prt", false, 0},
		{"bad hook", func(m *kv.Map) { put(m, docs+"hooks/page", "webhok: 1") }, observed.InvalidDocument, `did you mean "webhook"`, true, 3},
		{"misplaced key", func(m *kv.Map) { put(m, docs+"servces/x", "") }, observed.MisplacedKey, "servces", true, 3},
		{"WAL of a timeline that the leader never had", func(m *kv.Map) { follows(m, "pg2", "waiting", "7") }, observed.NotStreaming,
			"recovers along timeline 7, which the leader (timeline 1) never had", false, 3},
		{"WAL of its own under the leader's timeline number", func(m *kv.Map) { forks(m, "pg2", "streaming", "1") }, observed.Forked,
			"pg-test-2 can't follow pg-test-1: it led on a timeline 1 of its own", false, 3},
		{"member stopped", func(m *kv.Map) { put(m, "/pg/pg-test/members/pg-test-2", `{"state":"stopped","role":"replica"}`) }, observed.NotStreaming, "says stopped", false, 3},
		{"member gone", func(m *kv.Map) { delete(m.Keys, "/pg/pg-test/members/pg-test-2") }, observed.NotStreaming, "no running Patroni", false, 3},
		{"runs and does not stream", func(m *kv.Map) { follows(m, "pg2", "waiting") }, observed.NotStreaming,
			"pg-test-2 does not stream from pg-test-1: it runs, and its WAL receiver gets nothing yet", false, 3},
		{"streams, as its agent says", func(m *kv.Map) { follows(m, "pg2", "streaming") }, "", "", true, 3},
		{"frozen", func(m *kv.Map) { freeze(m, "pg2", "") }, observed.Frozen, "/f exists", true, 3},
		{"frozen, and something waits", func(m *kv.Map) { freeze(m, "pg2", "haproxy") }, observed.Frozen, "left so", false, 2},
		{"old timeline", func(m *kv.Map) {
			put(m, "/pg/pg-test/members/pg-test-1", `{"state":"running","role":"master","timeline":2}`)
		}, observed.NotStreaming, "is on timeline 1, the leader on 2", false, 3},
		{"pending restart", func(m *kv.Map) {
			put(m, "/pg/pg-test/members/pg-test-2", `{"state":"streaming","role":"replica","timeline":1,"pending_restart":true}`)
		}, observed.PendingRestart, "pg-test-2 runs with old", true, 3},
		{"old Patroni", func(m *kv.Map) {
			put(m, "/pg/pg-test/members/pg-test-2", `{"state":"running","role":"replica","timeline":1,"version":"3.0.2"}`)
		}, observed.PatroniTooOld, "pg-test-2 3.0.2", true, 3},
		{"paused", func(m *kv.Map) { put(m, "/pg/pg-test/config", `{"pause":true}`) }, observed.PatroniPaused, "paused", true, 3},
		{"unmanaged member", func(m *kv.Map) {
			delete(m.Keys, docs+"members/pg-test-3")
			settle(t, m)
			for _, n := range nodes {
				answer(m, n, "pg-test-1")
			}
		}, observed.Unmanaged, "pg-test-3", true, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := healthy(t)
			c.change(m)
			s := status.Compute(input(m))
			worst := status.Condition{}
			if len(s.Conditions) > 0 {
				worst = s.Conditions[0]
			}
			if worst.Reason != c.worst || !strings.Contains(worst.Message, c.message) {
				t.Errorf("worst is %s %s, want %s with %q", worst.Node, worst, c.worst, c.message)
			}
			if s.Ready != c.ready || s.Applied != c.applied || s.Nodes != 3 {
				t.Errorf("ready %v, applied %d of %d; %v", s.Ready, s.Applied, s.Nodes, s.Conditions)
			}
			for _, cond := range s.Conditions {
				if cond.Reason == "" || cond.Message == "" || observed.Meaning[cond.Reason] == "" {
					t.Errorf("condition without reason, message or meaning: %+v", cond)
				}
			}
		})
	}
}

// TestRolesComeFromTheLeaderKey: whatever member keys and documents say.
func TestRolesComeFromTheLeaderKey(t *testing.T) {
	m := healthy(t)
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-3")
	for _, row := range status.Compute(input(m)).Members {
		if want := map[bool]string{true: status.Leader, false: status.Replica}[row.Name == "pg-test-3"]; row.Role != want {
			t.Errorf("%s is %s", row.Name, row.Role)
		}
	}
}

// TestFollowing: a node's own agent knows better than Patroni's key, which says
// "running" of a replica that waits (before 3.0.3), and is up to ten seconds old.
func TestFollowing(t *testing.T) {
	for _, c := range []struct {
		patroni, fact string
		state         string
		follows       bool
	}{
		{`"state":"running"`, "", "running", true},
		{`"state":"running"`, "waiting", "running", false},
		{`"state":"running"`, "streaming", "streaming", true},
		{`"state":"running","replication_state":"streaming"`, "", "streaming", true},
		{`"state":"running","replication_state":"streaming"`, "waiting", "running", false},
		{`"state":"running","replication_state":"in archive recovery"`, "", "in archive recovery", false},
		{`"state":"running","replication_state":"in archive recovery"`, "waiting", "in archive recovery", false},
		{`"state":"running","replication_state":"in archive recovery"`, "streaming", "streaming", true},
		{`"state":"streaming"`, "waiting", "running", false},
		{`"state":"streaming"`, "streaming", "streaming", true},
		{`"state":"stopped"`, "streaming", "stopped", false},
		{`"state":"creating replica"`, "waiting", "creating replica", false},
	} {
		m := healthy(t)
		controllertest.Put(m, "/pg/pg-test/members/pg-test-2", `{"role":"replica","timeline":1,`+c.patroni+`}`)
		if c.fact != "" {
			follows(m, "pg2", c.fact)
		}
		got := status.Compute(input(m)).Members[1]
		if got.State != c.state || got.Follows != c.follows {
			t.Errorf("Patroni says %s, the agent %q: %s, follows %v; want %s, %v", c.patroni, c.fact, got.State, got.Follows, c.state, c.follows)
		}
	}
}

// TestAnAbsentAgentIsNotAsked: what it said last is of an unknown age.
func TestAnAbsentAgentIsNotAsked(t *testing.T) {
	m := healthy(t)
	follows(m, "pg2", "waiting")
	delete(m.Keys, "/pgctrl/alive/pg2")
	if got := status.Compute(input(m)).Members[1]; !got.Follows {
		t.Errorf("%+v", got)
	}
}

// TestAFreezeIsSaidOnce: each concern of a frozen node reports it.
func TestAFreezeIsSaidOnce(t *testing.T) {
	m := healthy(t)
	freeze(m, "pg2", "")
	cs := status.Compute(input(m)).Conditions
	if len(cs) != 1 || cs[0].Node != "pg2" || cs[0].Concern != "" {
		t.Errorf("%+v", cs)
	}
	if l := status.Fleet(input(m))[0]; !l.Ready || l.Worst == nil || l.Worst.Reason != observed.Frozen {
		t.Errorf("%+v", l)
	}
}

func TestEverythingDeleted(t *testing.T) {
	m := healthy(t)
	for key := range m.Keys {
		if strings.HasPrefix(key, "/pgctrl/desired/") {
			delete(m.Keys, key)
		}
	}
	s := status.Compute(input(m))
	if s.Ready || s.Exists || s.Short() != "Unmanaged" || len(s.Members) != 3 || s.Leader != "pg-test-1" {
		t.Errorf("%+v", s)
	}
}

func TestFleetIsWorstFirst(t *testing.T) {
	m := healthy(t)
	controllertest.Put(m, "/pgctrl/desired/clusters/aaa/members/a", "node: pg9")
	controllertest.Put(m, "/pgctrl/desired/clusters/zzz/postgres", "version: 15")
	lines := status.Fleet(input(m))
	var got []string
	for _, l := range lines {
		got = append(got, l.Cluster)
	}
	if strings.Join(got, " ") != "aaa pg-test zzz" && strings.Join(got, " ") != "aaa zzz pg-test" {
		t.Errorf("order %v", got)
	}
	if lines[0].Worst == nil || lines[0].Worst.Reason != observed.UnknownNode {
		t.Errorf("worst of aaa: %+v", lines[0].Worst)
	}
	reasons := ""
	for _, c := range status.FleetConditions(input(m)) {
		reasons += string(c.Reason) + " "
	}
	if reasons != "StoreNotRedundant " {
		t.Errorf("fleet: %s", reasons)
	}
}

// TestStatusNeedsNoSecrets: every other test here computes without them.
func TestStatusNeedsNoSecrets(t *testing.T) {
	m := healthy(t)
	in := input(m)
	without := status.Compute(in)
	in.Snapshot = m
	if d := cmp.Diff(status.Compute(in), without); d != "" {
		t.Errorf("secrets make a difference (-with +without):\n%s", d)
	}
}

// TestHostsAndEtcdAreNotes: what is said of a host and of etcd's disk is shown, and the
// cluster is Ready all the same.
func TestHostsAndEtcdAreNotes(t *testing.T) {
	m := healthy(t)
	key := keys.Default.AliveKey("pg1")
	e, _ := m.Get(key)
	a, err := observed.Decode[observed.Alive](e)
	if err != nil {
		t.Fatal(err)
	}
	a.Notes = []observed.Condition{
		{Type: observed.Healthy, Status: observed.True, Reason: observed.ClockWrong, Message: "7 s ahead"},
		{Type: observed.Healthy, Status: observed.True, Reason: observed.DiskFilling, Message: "less than 5 %"},
	}
	controllertest.Put(m, key, string(observed.Encode(a)))
	controllertest.Put(m, keys.Default.ServerKey("infra1"), string(observed.Encode(observed.Server{
		Schema: observed.Schema, ID: "infra1", Notes: []observed.Condition{{Type: observed.Healthy, Status: observed.True, Reason: observed.StoreSlow, Message: "slow"}},
	})))
	shown := func(cs []status.Condition) string {
		var out []string
		for _, c := range cs {
			switch c.Reason {
			case observed.ClockWrong, observed.DiskFilling, observed.StoreSlow:
				out = append(out, string(c.Reason)+" "+c.Node+" "+c.Message)
			}
		}
		return strings.Join(out, ", ")
	}
	s := status.Compute(input(m))
	const ofHost = "DiskFilling pg1 less than 5 %, ClockWrong pg1 7 s ahead"
	if got := shown(s.Conditions); got != ofHost || !s.Ready {
		t.Errorf("ready %v, the cluster's: %s", s.Ready, got)
	}
	if got, want := shown(status.FleetConditions(input(m))), "DiskFilling pg1 less than 5 %, StoreSlow  slow, ClockWrong pg1 7 s ahead"; got != want {
		t.Errorf("the fleet's: %s, want %s", got, want)
	}
}

package keys_test

import (
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/keys"
)

// Every key the layout makes must be understood again, or a writer and a reader
// would disagree on where things live.
func TestParseUnderstandsEveryKey(t *testing.T) {
	l := keys.Default
	for _, tc := range []struct {
		key  string
		want keys.Ref
	}{
		{l.Node("pg1"), keys.Ref{Family: keys.Nodes, Node: "pg1"}},
		{l.DefaultsDoc("postgres"), keys.Ref{Family: keys.Defaults, Doc: "postgres"}},
		{l.DefaultsDoc("services/primary"), keys.Ref{Family: keys.Defaults, Doc: "services/primary"}},
		{l.ClusterDoc("c", "postgres"), keys.Ref{Family: keys.Desired, Cluster: "c", Doc: "postgres"}},
		{l.ClusterDoc("c", "members/c-1"), keys.Ref{Family: keys.Desired, Cluster: "c", Doc: "members/c-1"}},
		{l.FormedKey("c"), keys.Ref{Family: keys.Formed, Cluster: "c"}},
		{l.PlanKey("n", "c", "haproxy"), keys.Ref{Family: keys.Plan, Node: "n", Cluster: "c", Concern: "haproxy"}},
		{l.ObservedKey("n", "c", "haproxy"), keys.Ref{Family: keys.Observed, Node: "n", Cluster: "c", Concern: "haproxy"}},
		{l.OperationKey("c", "backup-x"), keys.Ref{Family: keys.Operations, Cluster: "c", Doc: "backup-x"}},
		{l.TokenKey("c"), keys.Ref{Family: keys.Operations, Cluster: "c", Doc: "token"}},
		{l.StepKey("n", keys.StepID("c", "restart-x", 1)), keys.Ref{Family: keys.Steps, Node: "n", Cluster: "c", Doc: "c.restart-x-1"}},
		{l.ResultKey("n", keys.StepID("c", "restart-x", 1)), keys.Ref{Family: keys.Results, Node: "n", Cluster: "c", Doc: "c.restart-x-1"}},
		{l.PrimaryKey("c"), keys.Ref{Family: keys.Primary, Cluster: "c"}},
		{l.TurnKey("c"), keys.Ref{Family: keys.Turn, Cluster: "c"}},
		{l.ReadyKey("c", "c-1"), keys.Ref{Family: keys.Ready, Cluster: "c", Doc: "c-1"}},
		{l.AliveKey("n"), keys.Ref{Family: keys.Alive, Node: "n"}},
		{l.StatusKey("c"), keys.Ref{Family: keys.Status, Cluster: "c"}},
		{l.ChangesKey("c"), keys.Ref{Family: keys.Changes, Cluster: "c"}},
		{l.FleetHook("page"), keys.Ref{Family: keys.Hooks, Doc: "hooks/page"}},
		{l.MovesKey("n", "c"), keys.Ref{Family: keys.Moves, Node: "n", Cluster: "c"}},
		{l.EventKey("c", "1042-0"), keys.Ref{Family: keys.Events, Cluster: "c", Doc: "1042-0"}},
		{l.EventsCursor(), keys.Ref{Family: keys.Cursors, Doc: "events"}},
		{l.EventsRemoved("c"), keys.Ref{Family: keys.Cursors, Cluster: "c", Doc: "removed"}},
		{l.DeliveryState("c", "page"), keys.Ref{Family: keys.Deliveries, Cluster: "c", Doc: "page/state"}},
		{l.DeadLetter(keys.Fleet, "page", "c.1042-0"), keys.Ref{Family: keys.Deliveries, Cluster: keys.Fleet, Doc: "page/dead/c.1042-0"}},
		{l.Redelivery("c", "page", "c.1042-0"), keys.Ref{Family: keys.Deliveries, Cluster: "c", Doc: "page/again/c.1042-0"}},
		{l.VerdictKey("c", "restart-x"), keys.Ref{Family: keys.Verdicts, Cluster: "c", Doc: "restart-x"}},
		{l.Secret("c", "postgres"), keys.Ref{Family: keys.Secrets, Cluster: "c", Doc: "postgres"}},
		{l.ElectionKey(), keys.Ref{Family: keys.Election, Doc: "server"}},
		{l.StoreKey(), keys.Ref{Family: keys.Store}},
		{l.Leader("c"), keys.Ref{Family: keys.PatroniKey, Cluster: "c", Doc: "leader"}},
		{l.Members("c") + "c-1", keys.Ref{Family: keys.PatroniKey, Cluster: "c", Doc: "members/c-1"}},
	} {
		got, err := l.Parse(tc.key)
		if err != nil || got != tc.want {
			t.Errorf("Parse(%s) = %+v, %v; want %+v", tc.key, got, err, tc.want)
		}
	}
}

func TestParseNamesWhatIsWrong(t *testing.T) {
	for key, want := range map[string]string{
		"/pgctrl/desired/cluster/c/postgres":     "documents live under",
		"/pgctrl/desired/clusters/c":             "documents live under",
		"/pgctrl/desired/clusters/c/members/a/b": "documents live under",
		"/pgctrl/desired/clusters//postgres":     "has an empty part",
		"/pgctrl/plan/n/c":                       "in no known place",
		"/pgctrl/steps/n/backup-1":               "in no known place",
		"/pgctrl/steps/n":                        "in no known place",
		"/elsewhere":                             "expected a key under /pgctrl/",
		"/pg/c":                                  "expected /pg/<cluster>/<name>",
	} {
		if _, err := keys.Default.Parse(key); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%s): error %v, want one with %q", key, err, want)
		}
	}
}

// "pg-test" must never match "pg-test2" (measured: etcdctl del --prefix took both).
func TestPrefixesEndWithASlash(t *testing.T) {
	l := keys.Default
	for _, p := range []string{
		l.ClusterDocs("c"), l.Scope("c"), l.Members("c"), l.NodePlans("n"), l.NodeObserved("n"), l.NodeMoves("n"),
		l.ClusterSecrets("c"), l.ReadyPrefix("c"), l.DesiredPrefix(), l.Prefix(keys.Plan), l.Prefix(keys.PatroniKey),
	} {
		if !strings.HasSuffix(p, "/") || strings.HasSuffix(p, "//") {
			t.Errorf("prefix %q does not end with exactly one slash", p)
		}
	}
}

func TestNames(t *testing.T) {
	for _, bad := range []string{"", "Pg", "1pg", "pg_test", "pg/test", strings.Repeat("a", 41)} {
		if keys.CheckCluster(bad) == nil {
			t.Errorf("cluster name %q was accepted", bad)
		}
	}
	for _, good := range []string{"a", "pg-test", strings.Repeat("a", 40)} {
		if err := keys.CheckCluster(good); err != nil {
			t.Errorf("cluster name %q: %v", good, err)
		}
	}
}

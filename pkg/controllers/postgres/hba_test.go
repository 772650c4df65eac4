package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestRulesOfPeopleComeAfterTheClustersOwn, whatever they say, in their order: a rule
// that refuses everybody must not stop replication.
func TestRulesOfPeopleComeAfterTheClustersOwn(t *testing.T) {
	members := []plan.Member{{Name: "a", Address: "10.0.0.1"}, {Name: "b", Address: "fd00::2"}}
	own := HBARules(&desired.Cluster{}, members, false)
	rapid.Check(t, func(t *rapid.T) {
		var es []kv.KV
		for i := range rapid.IntRange(0, 8).Draw(t, "rules") {
			method := rapid.SampledFrom([]string{"reject", "trust", "scram-sha-256"}).Draw(t, "method")
			es = append(es, kv.KV{
				Key:   keys.Default.ClusterDoc("c", fmt.Sprintf("hba/r%d", i)),
				Value: fmt.Appendf(nil, "order: %d\naddresses: [all]\nmethod: %s\n", rapid.IntRange(1, 999).Draw(t, "order"), method), ModRevision: 1,
			})
		}
		docs := desired.Load(kv.NewMap(es...), keys.Default, "c", "hba")
		if len(docs.Problems) > 0 {
			t.Fatal(docs.Problems)
		}
		got := HBARules(docs, members, false)
		if len(got) != len(own)+len(es)+2 {
			t.Fatalf("%d lines of %d rules", len(got), len(es))
		}
		place := 0
		for i, r := range got {
			if i < len(own) {
				if r != own[i] {
					t.Fatalf("line %d is %v, want the cluster's own %v", i, r, own[i])
				}
				continue
			}
			h := docs.HBA[r.Rule]
			if h == nil || h.Order < place {
				t.Fatalf("line %d: %v after place %d", i, r, place)
			}
			place = h.Order
		}
	})
}

// TestPoolersRoleStaysAtHome: it is told the verifiers of all users, and whoever got its
// password comes with it over no network, whatever people's rules say.
func TestPoolersRoleStaysAtHome(t *testing.T) {
	own := HBARules(&desired.Cluster{}, []plan.Member{{Name: "a", Address: "10.0.0.1"}}, false)
	if !slices.ContainsFunc(own, func(r HBARule) bool { return r.Line == "host all pgctrl_pooler,pgctrl_pooler_b all reject" }) {
		t.Errorf("the cluster's own rules are %v", own)
	}
}

// TestR4BadRuleChangesNothing: no plan of the concern, and the condition says why.
func TestR4BadRuleChangesNothing(t *testing.T) {
	m := led(t, "small", "pg-test", "pg-test-1")
	before := storedPlan(t, m, "pg1", "pg-test")
	controllertest.Put(m, docs+"hba/app", "addresses: [10.0.0.5/24]\n")
	controllertest.Put(m, docs+"postgres", "parameters: {work_mem: 5MB}\n")
	r := controllertest.Settle(t, New(), m, "pg-test")
	expect(t, r, observed.InvalidDocument, "expected a network")
	if len(r.Outputs) > 0 || string(plan.Encode(storedPlan(t, m, "pg1", "pg-test"))) != string(plan.Encode(before)) {
		t.Error("a bad rule changed a plan")
	}
	controllertest.Put(m, docs+"hba/app", "addresses: [10.0.0.0/24]\n")
	r = controllertest.Settle(t, New(), m, "pg-test")
	if len(r.Outputs) == 0 {
		t.Error("put right, it plans nothing")
	}
}

// TestQuorumNeedsPatroni4: an older one takes the word for "on" and promises less.
func TestQuorumNeedsPatroni4(t *testing.T) {
	m := led(t, "small", "pg-test", "pg-test-1")
	controllertest.Put(m, docs+"postgres", "synchronous_mode: quorum\n")
	alive := func(node, v string) {
		controllertest.Put(m, keys.Default.AliveKey(node), fmt.Sprintf(`{"schema":1,"node":%q,"programs":{"patroni":%q},"postgresql":[15]}`, node, v))
	}
	for _, node := range []string{"pg1", "pg2", "pg3"} {
		alive(node, "4.0.4")
	}
	alive("pg2", "3.3.2")
	r := controllertest.Run(t, New(), m, "pg-test")
	expect(t, r, observed.InvalidDocument, "needs Patroni 4.0 or later on every node, found 3.3.2 on pg2")
	if len(r.Outputs) > 0 {
		t.Error("it plans all the same")
	}
	alive("pg2", "4.1.0")
	r = controllertest.Settle(t, New(), m, "pg-test")
	found := false
	for _, o := range r.Outputs {
		found = found || strings.Contains(string(o.Value), `"synchronous_mode":"quorum"`)
	}
	if !found {
		t.Error("with Patroni 4 on every node it is not planned")
	}
}

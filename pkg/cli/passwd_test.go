package cli

import (
	"fmt"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestDroppedIsWhatTheLeaderSays: a replica has nothing to do and answers at once; when it leads
// a moment later it has dropped nothing yet.
func TestDroppedIsWhatTheLeaderSays(t *testing.T) {
	l := keys.Default
	through := map[string]string{observed.FactOtherRoles: ""}
	applied := []observed.Condition{{Type: observed.Applied, Status: observed.True}}
	for name, c := range map[string]struct {
		leader string
		report observed.Report
		want   bool
	}{
		"the leader":                    {"c-1", observed.Report{Plan: 8, Facts: through, Conditions: applied}, true},
		"a replica that leads since":    {"c-2", observed.Report{Plan: 8, Facts: through}, false},
		"not gone through yet":          {"c-1", observed.Report{Plan: 8, Conditions: applied}, false},
		"an earlier plan":               {"c-1", observed.Report{Plan: 7, Facts: through}, false},
		"frozen":                        {"c-1", observed.Report{Plan: 8, Facts: through, Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.False, Reason: observed.Frozen}}}, false},
		"PostgreSQL refuses another":    {"c-1", observed.Report{Plan: 8, Facts: through, Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.True}, {Type: observed.Applied, Status: observed.False, Key: l.ClusterDoc("c", "users/other")}}}, true},
		"PostgreSQL refuses to drop it": {"c-1", observed.Report{Plan: 8, Facts: through, Conditions: []observed.Condition{{Type: observed.Applied, Status: observed.False, Key: l.ClusterDoc("c", "users/app")}}}, false},
	} {
		c.report.Schema, c.report.Concern = 1, "databases"
		entries := []kv.KV{{Key: l.Leader("c"), Value: []byte(c.leader), ModRevision: 1}}
		for i, r := range []observed.Report{c.report, {Schema: 1, Concern: "databases", Plan: 8, Conditions: applied}} {
			p := plan.Plan{Schema: 1, Cluster: plan.Cluster{Name: "c", Member: fmt.Sprintf("c-%d", i+1)}}
			node := fmt.Sprintf("pg%d", i+1)
			entries = append(entries,
				kv.KV{Key: l.PlanKey(node, "c", "databases"), Value: plan.Encode(p), ModRevision: 8},
				kv.KV{Key: l.ObservedKey(node, "c", "databases"), Value: observed.Encode(r), ModRevision: 9})
		}
		if got := isDropped(kv.NewMap(entries...), l, "c", l.ClusterDoc("c", "users/app")); got != c.want {
			t.Errorf("%s: dropped: %v", name, got)
		}
	}
}

// TestPasswordThatPostgreSQLRefused: the primary's node has answered, and the user is not
// as planned: nobody is to believe that the new password is in force.
func TestPasswordThatPostgreSQLRefused(t *testing.T) {
	l := keys.Default
	p := plan.Plan{Schema: 1, Cluster: plan.Cluster{Name: "c", Member: "c-1"}, Secrets: map[string]int64{"users/app": 7}}
	for key, want := range map[string]bool{"": true, l.ClusterDoc("c", "users/other"): true, l.ClusterDoc("c", "users/app"): false} {
		r := observed.Report{Schema: 1, Concern: "databases", Plan: 8, Conditions: []observed.Condition{{
			Type: observed.Applied, Status: observed.False, Reason: observed.Rejected, Key: key,
		}}}
		s := kv.NewMap(
			kv.KV{Key: l.Leader("c"), Value: []byte("c-1"), ModRevision: 1},
			kv.KV{Key: l.PlanKey("pg1", "c", "databases"), Value: plan.Encode(p), ModRevision: 8},
			kv.KV{Key: l.ObservedKey("pg1", "c", "databases"), Value: observed.Encode(r), ModRevision: 9})
		if got := hasPassword(s, l, "c", "users/app", 7); got != want {
			t.Errorf("with %q refused it is done: %v", key, got)
		}
	}
}

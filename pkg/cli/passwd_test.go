package cli

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

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

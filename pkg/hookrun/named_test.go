package hookrun

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/keys"
)

// TestTwoHooksOfOneName: a hook of the fleet and one of the cluster that have the same name run for
// the same event, and neither takes the other's step for its own.
func TestTwoHooksOfOneName(t *testing.T) {
	o := Order{Cluster: "c", Hook: "page", Scope: "c", EventID: "c/7-0", Attempt: 1}
	fleet := o
	fleet.Scope = keys.Fleet
	if a, b := stepID(o), stepID(fleet); a != "c.hook-page-c.7-0-1" || b != "c.hook-page:fleet-c.7-0-1" {
		t.Errorf("steps %s and %s", a, b)
	}
}

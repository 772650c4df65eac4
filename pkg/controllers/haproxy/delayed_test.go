package haproxy

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
)

// TestDelayedMemberServesNoReplicaService, however small its lag seems; it stays in
// read-write backends, since the leader key alone says who leads.
func TestDelayedMemberServesNoReplicaService(t *testing.T) {
	m := cluster(t, "small", "pg-test", "pg-test-1")
	controllertest.Put(m, "/pgctrl/desired/clusters/pg-test/members/pg-test-3", "node: pg3\ndelay: 1h\n")
	controllertest.Settle(t, New(), m, "pg-test")
	routes := unitOf(t, m, "pg1", "pg-test").Routes
	has := func(backend string) bool {
		for _, s := range routes[backend].Servers {
			if s.Name == "pg-test-3" {
				return true
			}
		}
		return false
	}
	for backend, want := range map[string]bool{"replica": false, "offline_fallback": false, "primary": true, "replica_fallback": true} {
		if len(routes[backend].Servers) == 0 || has(backend) != want {
			t.Errorf("backend %s has it: %v, want %v; servers %v", backend, has(backend), want, routes[backend].Servers)
		}
	}
}

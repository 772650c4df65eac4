package configs

import (
	"slices"
	"strings"
	"testing"
)

// The agent changes addresses over netlink and speaks to the network with packets
// of its own. Hardening that takes one of these away would show only at a failover.
func TestAgentMayHoldAddresses(t *testing.T) {
	b, err := Unit("pgagent.service")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values := strings.Fields(value)
		needs := map[string][]string{
			"CapabilityBoundingSet":   {"CAP_NET_ADMIN", "CAP_NET_RAW"},
			"RestrictAddressFamilies": {"AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_UNIX"},
			"PrivateNetwork":          {"no"},
			"IPAddressDeny":           {"never"},
			"SystemCallFilter":        {"@system-service"},
			"User":                    {"root"},
		}[key]
		for _, n := range needs {
			if !slices.Contains(values, n) {
				t.Errorf("%s: the agent needs %s", strings.TrimSpace(line), n)
			}
		}
	}
}

package desired

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// TestPortsThatAClusterFormedWith are taken, whatever its document says since.
func TestPortsThatAClusterFormedWith(t *testing.T) {
	s := fleet("clusters/c/postgres", "port: 5532\nrest_port: 8108\n")
	put := func(key, value string) {
		s.At++
		s.Keys[key] = kv.KV{Key: key, Value: []byte(value), ModRevision: s.At, CreateRevision: s.At}
	}
	put(l.FormedKey("c"), string(observed.Encode(observed.Formed{Port: 5432, RESTPort: 8008})))
	put(l.ClusterDoc("d", "members/d-1"), "node: pg1")
	for doc, port := range map[string]string{"primary": "5533", "replica": "5534", "default": "5536", "offline": "5538", "stats": "9201"} {
		put(l.ClusterDoc("d", "services/"+doc), "port: "+port)
	}
	got := say(Check(Load(s, l, "d"), LoadAll(s, l)))
	for _, words := range []string{"5432, which PostgreSQL of cluster c has on pg1", "8008, which Patroni's REST API of cluster c has on pg1"} {
		if !strings.Contains(got, words) {
			t.Errorf("%q is not among:\n%s", words, got)
		}
	}
	if free := PortBlock(LoadAll(s, l), "e", []string{"pg1"}); free != 200 {
		t.Errorf("the next free block is +%d, want +200", free)
	}
}

// TestProxiesAndTheirClusters: a proxy is everybody's unless it names its clusters;
// what it serves shares its ports.
func TestProxiesAndTheirClusters(t *testing.T) {
	for _, c := range []struct {
		proxy    string
		nodes    string // of cluster c's HAProxy
		conflict bool   // between c and d, which have no member's node in common
	}{
		{"roles: []", "[pg1 pg2 pg3]", false},
		{"roles: [proxy]", "[lb1 pg1 pg2 pg3]", true},
		{"roles: [proxy]\nclusters: [d]", "[pg1 pg2 pg3]", false},
		{"roles: [proxy]\nclusters: [c, d]", "[lb1 pg1 pg2 pg3]", true},
	} {
		s := fleet("nodes/lb1", "address: 10.10.10.40\n"+c.proxy, "nodes/pg9", "address: 10.10.10.19", "clusters/d/members/d-1", "node: pg9")
		if got := fmt.Sprint(Load(s, l, "c").ProxyNodes()); got != c.nodes {
			t.Errorf("%q: nodes %s, want %s", c.proxy, got, c.nodes)
		}
		ps := Check(Load(s, l, "d"), LoadAll(s, l))
		if (len(ps) > 0) != c.conflict {
			t.Errorf("%q: %v", c.proxy, ps)
		}
		for _, p := range ps {
			if p.Reason != observed.PortConflict || fmt.Sprint(p.Nodes) != "[lb1]" {
				t.Errorf("%q: %v on %v", c.proxy, p, p.Nodes)
			}
		}
	}
	_, ps := Nodes(fleet("nodes/lb1", "address: 10.10.10.40\nclusters: [Bad]"), l)
	if len(ps) != 1 {
		t.Errorf("no name of a cluster: %v", ps)
	}
}

package topology

import (
	"fmt"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
)

// TestPlansAreInASchemaThatAllAgentsKnow: a server that knows schema 2 writes 1 until
// the last present agent of the cluster's nodes has announced 2; proxies count.
func TestPlansAreInASchemaThatAllAgentsKnow(t *testing.T) {
	l := keys.Default
	for _, c := range []struct {
		name            string
		pg1, pg2, proxy int // -1: away
		want            int
	}{
		{"all old", 0, 1, 1, 1}, {"one old member", 2, 1, 2, 1}, {"an old proxy", 2, 2, 0, 1},
		{"all new", 2, 2, 2, 2}, {"an absent one is not waited for", 2, -1, 2, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := kv.NewMap()
			put := func(key, value string) {
				m.At++
				m.Keys[key] = kv.KV{Key: key, Value: []byte(value), ModRevision: m.At, CreateRevision: m.At}
			}
			put(l.StoreKey(), `{"incarnation":"i","endpoints":["http://10.0.0.1:2379"]}`)
			put(l.FormedKey("c"), `{"schema":1,"uid":"u","version":15}`)
			for node, schema := range map[string]int{"pg1": c.pg1, "pg2": c.pg2, "lb1": c.proxy, "other": 1} {
				put(l.Node(node), "address: 10.0.0.9\n"+map[string]string{"lb1": "roles: [proxy]\n"}[node])
				if schema >= 0 {
					put(l.AliveKey(node), fmt.Sprintf(`{"schema":1,"plan_schema":%d}`, schema))
				}
			}
			put(l.ClusterDoc("c", "members/a"), "node: pg1")
			put(l.ClusterDoc("c", "members/b"), "node: pg2")
			top, cs, ok := Load(controllers.Input{Cluster: "c", Layout: l, Snapshot: m}, "members")
			if !ok {
				t.Fatal(cs)
			}
			if got := top.schema(2); got != c.want {
				t.Errorf("schema %d, want %d", got, c.want)
			}
		})
	}
}

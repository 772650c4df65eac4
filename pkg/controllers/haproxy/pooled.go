package haproxy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// pooledServices says which services lead to poolers now. One that leads to
// PostgreSQL directly, as after an upgrade or by an earlier document, goes over to
// poolers when every member's pooler has been in force once and the primary has what
// they look users up with: until then its clients would find a closed port, or nobody
// who knows them. A new one needs not wait, since nobody uses it.
func pooledServices(in controllers.Input, t *topology.Topology) (map[string]bool, []observed.Condition) {
	pooled := map[string]bool{}
	if !t.Docs.PgBouncer.Enabled {
		return pooled, nil
	}
	was := map[string]bool{} // services that some node has, and whether any has it pooled
	for _, s := range t.AllStored(in, Concern) {
		for _, backend := range s.Head.Backends {
			name := strings.TrimSuffix(backend, plan.FallbackSuffix)
			was[name] = was[name] || slices.Contains(s.Head.Pooled, backend)
		}
	}
	lacks := lacking(in, t)
	var waits []string
	for _, s := range t.Docs.ServiceList() {
		if s.Backend != desired.Pooled {
			continue
		}
		already, there := was[s.Name]
		if pooled[s.Name] = already || !there || lacks == ""; !pooled[s.Name] {
			waits = append(waits, s.Name)
		}
	}
	if len(waits) == 0 {
		return pooled, nil
	}
	return pooled, []observed.Condition{{
		Type: observed.Planned, Status: observed.False, Reason: observed.WaitingForPooler,
		Key:     in.Layout.ClusterDoc(in.Cluster, "services/"+waits[0]),
		Message: fmt.Sprintf("service %s leads to PostgreSQL directly until %s", strings.Join(waits, ", "), lacks),
	}}
}

// lacking is what there has to be before clients can be led to poolers; empty: nothing.
func lacking(in controllers.Input, t *topology.Topology) string {
	if missing := withoutPooler(in, t); len(missing) > 0 {
		return "the pooler of " + strings.Join(missing, ", ") + " runs"
	}
	for _, m := range t.Members {
		r, ok := observed.Read[observed.Report](in.Snapshot, in.Layout.ObservedKey(m.Node, in.Cluster, topology.Databases))
		if _, been := r.Facts[observed.FactOtherRoles]; ok && been && r.Of(t.Formed.UID) {
			return ""
		}
	}
	return "the primary has the role and the function that poolers look users up with"
}

// withoutPooler are the members whose pooler was never in force.
func withoutPooler(in controllers.Input, t *topology.Topology) []string {
	var out []string
	for _, m := range t.Members {
		r, ok := observed.Read[observed.Report](in.Snapshot, in.Layout.ObservedKey(m.Node, in.Cluster, topology.Pooler))
		if !ok || r.Loaded == "" || !r.Of(t.Formed.UID) {
			out = append(out, m.Name)
		}
	}
	return out
}

package pgbouncer

import (
	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// leaving says of which nodes the pooler is to go. Clients are led elsewhere first:
// that of a member goes when the member itself may be stopped, and all of them, when
// poolers are switched off, once no HAProxy leads to one.
func leaving(in controllers.Input, t *topology.Topology) (goes func(node string) bool, waits []observed.Condition) {
	switch {
	case t.Removing:
		return func(string) bool { return true }, nil
	case t.Docs.PgBouncer.Enabled:
		return func(node string) bool { return t.Goes(node) && t.Stopping(in, node) }, nil
	case len(t.AllStored(in, Concern)) == 0:
		return func(string) bool { return false }, nil
	}
	if node := ledThrough(in, t); node != "" {
		return func(string) bool { return false }, []observed.Condition{topology.RemovingCondition(
			in.Layout.ClusterDoc(in.Cluster, "pgbouncer"), "poolers are switched off; node %s still leads clients through them", node)}
	}
	return func(string) bool { return true }, nil
}

// ledThrough finds a node whose HAProxy leads clients to poolers, or may. One without
// an agent is waited for: nothing there would notice that its poolers are gone.
func ledThrough(in controllers.Input, t *topology.Topology) string {
	for _, s := range t.AllStored(in, topology.Proxy) {
		if s.Removed() {
			continue
		}
		if len(s.Head.Pooled) > 0 || s.Report == nil || !s.Report.Done(s.Revision) {
			return s.Node
		}
	}
	return ""
}

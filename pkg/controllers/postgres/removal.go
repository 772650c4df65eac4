package postgres

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/certificate"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/version"
)

// removals decides, for every member that a document wants gone, how far it is:
//
//	it leads, or nobody does      nothing; it keeps its plan
//	routes still lead to it       nothing; package haproxy takes it out meanwhile
//	                              and takes its node's HAProxy away
//	nobody is led to it           its plan becomes a removal
//	its agent says Removed, and   the plan's key goes; with it the member
//	Patroni's key has expired
//
// want is changed accordingly; done are the keys that go.
func removals(in controllers.Input, t *topology.Topology, want map[string]plan.Plan) (done []controllers.Output, cs []observed.Condition) {
	documented := map[string]bool{}
	for _, m := range t.Docs.MemberList() {
		documented[m.Node] = true
		if !m.Absent() {
			continue
		}
		s := t.Stored(in, m.Node, Concern)
		switch {
		case s == nil || !s.Readable() || s.Head.Cluster.Member != m.Name || t.Formed != nil && s.Head.UID != t.Formed.UID:
			ordinary, has := want[m.Node]
			delete(want, m.Node)
			if has && remains(in, t, m) {
				want[m.Node] = plan.Removes(ordinary, removal(t))
				cs = append(cs, removing(in, m, "its plan was lost and is written again"))
				continue
			}
			cs = append(cs, isGone(in, m))
		case s.Head.Removal != nil:
			o, c := finish(in, t, s, want)
			done, cs = append(done, o...), append(cs, c...)
		case t.Leader == m.Name:
			cs = append(cs, leads(in, t, m))
		case t.Leader == "":
			cs = append(cs, removing(in, m, "nobody leads, and it may be the one to do so next"))
		default:
			if node, why := ledTo(in, t, m); node != "" {
				cs = append(cs, removing(in, m, fmt.Sprintf("clients are led elsewhere first: node %s %s", node, why)))
				continue
			}
			want[m.Node] = t.Removes(s, version.String(), removal(t))
		}
	}
	// A removal whose document was deleted half way is no less of one: the host may
	// have been taken apart already.
	for _, s := range t.AllStored(in, Concern) {
		if s.Head.Removal != nil && !documented[s.Node] && s.Readable() {
			o, c := finish(in, t, s, want)
			done, cs = append(done, o...), append(cs, c...)
		}
	}
	return done, cs
}

func removal(t *topology.Topology) plan.Removal {
	r := plan.Removal{Whole: t.Removing}
	if t.Formed != nil {
		r.Data = t.Formed.DataDirectory
	}
	return r
}

// finish waits for a removal that is on its way. Its plan is Readable.
func finish(in controllers.Input, t *topology.Topology, s *topology.Stored, want map[string]plan.Plan) ([]controllers.Output, []observed.Condition) {
	member := s.Head.Cluster.Member
	delete(want, s.Node)
	if !s.Removed() {
		want[s.Node] = t.Removes(s, version.String(), removal(t))
		return nil, []observed.Condition{topology.RemovingCondition(s.Key, "%s is being stopped on node %s; its data stay", member, s.Node)}
	}
	if _, there := in.Snapshot.Get(in.Layout.Members(in.Cluster) + member); there {
		want[s.Node], _ = s.Whole()
		return nil, []observed.Condition{topology.RemovingCondition(s.Key, "%s is stopped; Patroni's key of it has not expired yet", member)}
	}
	return []controllers.Output{s.Delete()}, nil
}

// remains reports whether anything says that the member still is on its host
// although its plan is gone: its agent's word, or Patroni's own key.
func remains(in controllers.Input, t *topology.Topology, m *desired.Member) bool {
	if _, ok := in.Snapshot.Get(in.Layout.Members(in.Cluster) + m.Name); ok {
		return true
	}
	r, ok := observed.Read[observed.Report](in.Snapshot, in.Layout.ObservedKey(m.Node, in.Cluster, Concern))
	if !ok {
		return false
	}
	c, _ := r.Condition(observed.Applied)
	return c.Reason != observed.Removed
}

// ledTo finds a node whose HAProxy still leads clients to a member that only reads,
// or, on the member's own node, still runs. A node without an agent is not waited
// for: HAProxy's own checks take the member out there within seconds.
func ledTo(in controllers.Input, t *topology.Topology, m *desired.Member) (node, why string) {
	proxies := t.Docs.ProxyNodes()
	for _, s := range t.AllStored(in, topology.Proxy) {
		p, ok := s.Whole()
		if _, alive := t.Alive(s.Node); !alive || !ok {
			continue
		}
		own := s.Node == m.Node && !slices.Contains(proxies, s.Node)
		switch {
		case own && s.Removed():
		case own:
			return s.Node, "still has its own HAProxy"
		case leadsTo(p, m.Name):
			return s.Node, "has not been told yet"
		case s.Report == nil || s.Report.Plan != s.Revision:
			return s.Node, "has not answered yet"
		default:
			if c, _ := s.Report.Condition(observed.Applied); c.Status != observed.True {
				return s.Node, fmt.Sprintf("says %s: %s", c.Reason, c.Message)
			}
		}
	}
	return "", ""
}

func leadsTo(p plan.Plan, member string) bool {
	for _, r := range p.Resources {
		u, ok := r.(plan.Unit)
		if !ok {
			continue
		}
		for _, route := range u.Routes {
			if route.Role != plan.RoutePrimary && slices.ContainsFunc(route.Servers, func(s plan.RouteServer) bool { return s.Name == member }) {
				return true
			}
		}
	}
	return false
}

func memberKey(in controllers.Input, m *desired.Member) string {
	return in.Layout.ClusterDoc(in.Cluster, "members/"+m.Name)
}

func removing(in controllers.Input, m *desired.Member, why string) observed.Condition {
	return topology.RemovingCondition(memberKey(in, m), "%s is to be removed; %s", m.Name, why)
}

func leads(in controllers.Input, t *topology.Topology, m *desired.Member) observed.Condition {
	return observed.Condition{
		Type: observed.Planned, Status: observed.False, Reason: observed.Leading, Key: memberKey(in, m),
		Message: fmt.Sprintf("%s is to be removed and leads; it goes on as it is until another member leads", m.Name),
		Next:    fmt.Sprintf("patronictl -c /etc/patroni/%s.yml switchover %s --leader %s (on %s)", in.Cluster, in.Cluster, m.Name, m.Node),
	}
}

func isGone(in controllers.Input, m *desired.Member) observed.Condition {
	return observed.Condition{
		Type: observed.Planned, Status: observed.True, Reason: observed.Removed, Key: memberKey(in, m),
		Message: fmt.Sprintf("%s is removed from node %s; its document says nothing any more", m.Name, m.Node),
		Next:    fmt.Sprintf("pgctrl unset %s members/%s", in.Cluster, m.Name),
	}
}

// removeAll is the answer for a cluster that is to go as a whole: once no HAProxy
// leads to it, replicas stop, then the leader; when all hosts have said so and
// Patroni's keys have expired, plans, record and passwords go in one transaction.
// Patroni's own namespace is left to `pgctrl remove`, which asks for the name.
func removeAll(in controllers.Input, t *topology.Topology, cs []observed.Condition) controllers.Result {
	var out []controllers.Output
	stored := slices.DeleteFunc(t.AllStored(in, Concern), func(s *topology.Stored) bool { return !s.Readable() })
	key := in.Layout.ClusterDoc(in.Cluster, "postgres")
	for _, s := range t.AllStored(in, topology.Proxy) {
		if _, alive := t.Alive(s.Node); alive && !s.Removed() {
			cs = append(cs, topology.RemovingCondition(key, "the cluster is to be removed; node %s still has its HAProxy", s.Node))
			return result(nil, cs) // what is not said is kept
		}
	}
	want := map[string]plan.Plan{}
	all := true
	for _, s := range stored {
		done, waits := finish(in, t, s, want)
		out, cs, all = append(out, done...), append(cs, waits...), all && len(done) > 0
	}
	if left := patroniMembers(in); len(left) > 0 && all {
		all = false
		cs = append(cs, topology.RemovingCondition(in.Layout.Members(in.Cluster), "Patroni still has keys of %s", strings.Join(left, ", ")))
	}
	if !all {
		out = nil // together or not at all: until then each plan answers for its host
		for _, s := range stored {
			if _, has := want[s.Node]; !has {
				want[s.Node], _ = s.Whole()
			}
		}
		rolled, waiting := t.Rollout(in, Concern, want, func(node string, r *observed.Report) bool { return topology.NothingLoaded(r) })
		return result(rolled, append(cs, waiting...))
	}
	for _, name := range secretNames() {
		out = append(out, controllers.Output{Key: in.Layout.Secret(in.Cluster, name), Mode: controllers.Delete})
	}
	out = append(out, certificate.Forget(in)...)
	out = append(out, controllers.Output{Key: in.Layout.FormedKey(in.Cluster), Mode: controllers.Delete})
	return result(out, append(cs, observed.Condition{
		Type: observed.Planned, Status: observed.True, Reason: observed.Removed, Key: key,
		Message: "the cluster is removed from every host; its documents and Patroni's keys are left",
		Next:    "pgctrl remove " + in.Cluster,
	}))
}

func patroniMembers(in controllers.Input) []string {
	names := map[string]bool{}
	prefix := in.Layout.Members(in.Cluster)
	for _, e := range in.Snapshot.Range(prefix) {
		names[strings.TrimPrefix(e.Key, prefix)] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// lost reports a cluster that Patroni has and whose record or passwords are gone.
// Deciding anew would give its hosts another identity, and passwords that its
// PostgreSQL does not know.
func lost(in controllers.Input, t *topology.Topology) (observed.Condition, bool) {
	if e, ok := in.Snapshot.Get(in.Layout.Scope(in.Cluster) + "initialize"); !ok || len(e.Value) == 0 {
		return observed.Condition{}, false
	}
	c := observed.Condition{
		Type: observed.Planned, Status: observed.False, Reason: observed.RecordLost, Key: in.Layout.FormedKey(in.Cluster),
		Message: "Patroni has this cluster; pgctrl's record of how it formed is gone. What runs goes on; put the key back from a backup of etcd",
	}
	if _, ok := in.Snapshot.Get(c.Key); !ok {
		if len(patroniMembers(in)) == 0 {
			c.Message = "Patroni's keys of an earlier cluster of this name are left, and none of its members lives; a new one would take itself for it"
			c.Next = fmt.Sprintf("pgctrl remove %s (clears what is left in etcd, these documents too)", in.Cluster)
		}
		return c, true
	}
	for _, name := range secretNames() {
		if p, is := twins.Of(name); is && (name != p.Name() || p.Has(in)) {
			continue // one of the two is enough
		}
		key := in.Layout.Secret(in.Cluster, name)
		if _, ok := in.Snapshot.Get(key); !ok {
			c.Key = key
			c.Message = fmt.Sprintf("the password %q of a running cluster is gone, and a new one would not be its; put the key back from a backup of etcd", name)
			return c, true
		}
	}
	return c, false
}

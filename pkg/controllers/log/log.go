package log

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/nodes"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const (
	// Kind is the document's, and Promtail the controller's and its program's name.
	Kind     = "log"
	Promtail = "promtail"
	// MaxEndpoints is how many Lokis a node's lines go to at most, each with a process of
	// its own: one more is about 40 MB beside PostgreSQL (measured).
	MaxEndpoints = 4
	// firstPort is the first shipper's; the others have those that follow.
	firstPort = 9080
	// Dir is where the shippers' files are.
	Dir = "/etc/pgctrl/promtail"
)

// Shippers plans what sends the lines of every node. It implements controllers.Shared.
type Shippers struct{}

// NewShippers returns the controller.
func NewShippers() Shippers { return Shippers{} }

// Shared implements controllers.Shared.
func (Shippers) Shared() {}

// Name implements controllers.Controller.
func (Shippers) Name() string { return Promtail }

// concern is that of a node's n-th shipper.
func concern(n int) string {
	if n == 1 {
		return Promtail
	}
	return fmt.Sprintf("%s-%d", Promtail, n)
}

// Inputs implements controllers.Controller. The plans say who is still on a node of whom
// documents say nothing any more.
func (Shippers) Inputs() []controllers.Access {
	in := append(nodes.Inputs(Kind),
		controllers.Access{Family: keys.Plan, Part: Loki}, nodes.Reports(Loki), // which Lokis there are, document or not
		controllers.Access{Family: keys.Plan, Part: "postgres", Fleet: true},
		controllers.Access{Family: keys.Plan, Part: "haproxy", Fleet: true})
	for n := 1; n <= MaxEndpoints; n++ {
		in = append(in, nodes.Reports(concern(n)))
	}
	return in
}

// Outputs implements controllers.Controller.
func (Shippers) Outputs() (out []controllers.Access) {
	for n := 1; n <= MaxEndpoints; n++ {
		out = append(out, controllers.Access{Family: keys.Plan, Part: concern(n)})
	}
	return out
}

// Plan implements controllers.Controller. All nodes at once: what a shipper does not read
// while it is away stays in the journal.
func (Shippers) Plan(in controllers.Input) (controllers.Result, error) {
	f, cs, ok := nodes.Load(in, Kind)
	if !ok {
		return controllers.Result{Conditions: cs}, nil
	}
	want := make([]map[string]plan.Plan, MaxEndpoints)
	for i := range want {
		want[i] = map[string]plan.Plan{}
	}
	older := map[string]bool{}
	wanted := claims(f, append(ownLokis(f), silentLokis(in, f)...))
	for _, name := range slices.Sorted(maps.Keys(f.Nodes)) {
		to := destinations(in, f, name, wanted[name])
		if len(to) == 0 {
			continue
		}
		c, old := f.Older(name, Promtail)
		if older[name] = old; old {
			cs = append(cs, c)
			continue
		}
		for i, endpoint := range slices.Sorted(maps.Keys(to)) {
			if i == MaxEndpoints {
				cs = append(cs, tooMany(in.Layout, name, len(to)))
				break
			}
			s := Shipper{
				Layout: in.Layout, Node: name, Concern: concern(i + 1), Number: i + 1, Endpoint: endpoint,
				Port: firstPort + i, Sources: to[endpoint],
			}
			want[i][name] = f.Plan(f.Nodes[name], s.Unit())
		}
	}
	var out []controllers.Output
	for i := range want {
		o, waiting := f.Outputs(concern(i+1), want[i], nodes.AtOnce, func(node string) bool { return !older[node] })
		out, cs = append(out, o...), append(cs, waiting...)
	}
	slices.SortFunc(out, func(a, b controllers.Output) int { return strings.Compare(a.Key, b.Key) })
	observed.Sort(cs)
	return controllers.Result{Outputs: out, Conditions: cs}, nil
}

// Listens are the ports of the shippers that run on a node.
func Listens(f *nodes.Fleet, node string) (ports []int) {
	for i := range MaxEndpoints {
		if f.Runs(node, concern(i+1)) {
			ports = append(ports, firstPort+i)
		}
	}
	return ports
}

// Running is what Listens reads, and what says whether a Loki runs.
func Running() []controllers.Access {
	in := append(Shippers{}.Outputs(), controllers.Access{Family: keys.Plan, Part: Loki}, nodes.Reports(Loki))
	for n := 1; n <= MaxEndpoints; n++ {
		in = append(in, nodes.Reports(concern(n)))
	}
	return in
}

// Unit is the shipper as a resource of a plan.
func (s Shipper) Unit() plan.Unit {
	return plan.Unit{
		Unit: fmt.Sprintf("pgctrl-promtail@%d.service", s.Number), Program: Promtail,
		Files: []plan.File{{Path: fmt.Sprintf("%s/%d.yml", Dir, s.Number), Mode: "0644", Content: s.Promtail()}},
	}
}

func tooMany(l keys.Layout, node string, n int) observed.Condition {
	return observed.Condition{
		Type: observed.Planned, Status: observed.False, Reason: observed.Unsupported, Key: l.PlanKey(node, keys.NodeCluster, Promtail),
		Message: fmt.Sprintf("the clusters on node %s name %d Lokis; its lines go to the first %d of them, in the order of their addresses", node, n, MaxEndpoints),
		Next:    "pgctrl set <cluster> log endpoints=[...] (fewer)",
	}
}

// claim is what a cluster's documents want of a node that it has something on.
type claim struct {
	source    Source
	endpoints []string
}

// claims are those of all clusters, by node; each cluster is looked at once.
func claims(f *nodes.Fleet, own []string) map[string][]claim {
	proxies := f.WithRole("proxy")
	out := map[string][]claim{}
	for _, c := range f.Clusters {
		on := map[string]string{} // the member by node; HAProxy alone has none
		for _, n := range proxies {
			if n.Proxies(c.Name) {
				on[n.Name] = ""
			}
		}
		for name, m := range c.Members {
			on[m.Node] = name
		}
		to := endpoints(c, own)
		for node, member := range on {
			out[node] = append(out[node], claim{sourceOf(c, member), to})
		}
	}
	return out
}

// sourceOf is the cluster on a node, with the streams that its documents want sent.
func sourceOf(c *desired.Cluster, member string) Source {
	s := Source{Cluster: c.Name, Member: member}
	for _, stream := range desired.LogStreams() {
		if c.Log.Sends(stream) && (member != "" || stream == "haproxy" || stream == "pgagent") {
			s.Streams = append(s.Streams, stream)
		}
	}
	return s
}

// ownLokis are the addresses of the fleet's own.
func ownLokis(f *nodes.Fleet) (out []string) {
	for _, n := range f.WithRole("infra") {
		out = append(out, desired.OwnLoki(n))
	}
	return out
}

// silentLokis are those of the fleet's own whose nodes' documents are gone or can't be used:
// nothing has said that they go, and they run (R4, R6). Where they are is in the shippers'
// files.
func silentLokis(in controllers.Input, f *nodes.Fleet) (out []string) {
	silent := slices.ContainsFunc(topology.AllStored(in, Loki), func(s *topology.Stored) bool {
		return f.Nodes[s.Node] == nil && s.Head.Removal == nil
	})
	if !silent {
		return nil
	}
	known := ownLokis(f)
	for _, c := range f.Clusters {
		known = append(known, c.Log.Endpoints...)
	}
	for _, node := range slices.Sorted(maps.Keys(f.Nodes)) {
		for n := 1; n <= MaxEndpoints; n++ {
			for _, s := range before(f, node, concern(n)) {
				if !slices.Contains(known, s.endpoint) {
					known, out = append(known, s.endpoint), append(out, s.endpoint)
				}
			}
		}
	}
	return out
}

// endpoints are the Lokis that the cluster's lines go to.
func endpoints(c *desired.Cluster, own []string) []string {
	if len(c.Log.Endpoints) > 0 {
		return c.Log.Endpoints
	}
	return own
}

// destinations is whose lines of a node go to which Loki.
func destinations(in controllers.Input, f *nodes.Fleet, node string, claims []claim) map[string][]Source {
	to := map[string][]Source{}
	decided := map[string]bool{} // clusters whose documents say what they want of the node
	for _, c := range claims {
		decided[c.source.Cluster] = true
		for _, e := range c.endpoints {
			if len(c.source.Streams) > 0 {
				to[e] = append(to[e], c.source)
			}
		}
	}
	for n := 1; n <= MaxEndpoints; n++ {
		for _, s := range before(f, node, concern(n)) {
			if !decided[s.Cluster] && remains(in, node, s.Source) {
				to[s.endpoint] = append(to[s.endpoint], s.Source)
			}
		}
	}
	for _, list := range to {
		slices.SortFunc(list, func(a, b Source) int { return strings.Compare(a.Cluster, b.Cluster) })
	}
	return to
}

// earlier is a source in a plan that the node has.
type earlier struct {
	Source
	endpoint string
}

func before(f *nodes.Fleet, node, concern string) (out []earlier) {
	p, ok := f.Stored(node, concern)
	if !ok || p.Removal != nil {
		return nil
	}
	for _, r := range p.Resources {
		u, ok := r.(plan.Unit)
		for i := 0; ok && i < len(u.Files); i++ {
			endpoint := endpointIn(u.Files[i].Content)
			for _, s := range sourcesIn(u.Files[i].Content) {
				if endpoint != "" {
					out = append(out, earlier{s, endpoint})
				}
			}
		}
	}
	return out
}

// remains reports whether the node has a plan of the cluster still: a document that is
// gone or can't be read stops nothing there, nor its lines (R4, R6), and those of a
// removal are sent to its end.
func remains(in controllers.Input, node string, s Source) bool {
	program := "postgres"
	if s.Member == "" {
		program = "haproxy"
	}
	_, ok := in.Snapshot.Get(in.Layout.PlanKey(node, s.Cluster, program))
	return ok
}

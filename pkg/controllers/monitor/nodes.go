package monitor

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/log"
	"github.com/pgctrl/pgctrl/pkg/controllers/nodes"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Targets is the concern of what is measured of nodes, whoever's they are.
const Targets = "targets"

const (
	agentPort  = 9641
	serverPort = 9640
)

// OfNodes plans the file of the nodes' targets on each node with role infra. It implements
// controllers.Shared. It is no part of Prometheus's plan: that goes from node to node, so
// one that is broken would keep new targets from the others, and a file that is too large
// for a plan would keep the rules back.
type OfNodes struct{}

// NewOfNodes returns the controller.
func NewOfNodes() OfNodes { return OfNodes{} }

// Shared implements controllers.Shared.
func (OfNodes) Shared() {}

// Name implements controllers.Controller.
func (OfNodes) Name() string { return Targets }

// Inputs implements controllers.Controller. The plans say who is still there of whom no
// document says anything.
func (OfNodes) Inputs() []controllers.Access {
	return slices.Concat(nodes.Inputs(Concern), []controllers.Access{
		nodes.Reports(Targets),
		{Family: keys.Plan, Part: "postgres", Fleet: true}, {Family: keys.Plan, Part: "haproxy", Fleet: true},
	}, log.Running())
}

// Outputs implements controllers.Controller.
func (OfNodes) Outputs() []controllers.Access {
	return []controllers.Access{{Family: keys.Plan, Part: Targets}}
}

// Plan implements controllers.Controller. All nodes at once: nobody is restarted.
func (OfNodes) Plan(in controllers.Input) (controllers.Result, error) {
	f, cs, ok := nodes.Load(in, Concern)
	if !ok {
		return controllers.Result{Conditions: cs}, nil
	}
	text := render(ofNodes(in, f), scrapeInterval)
	out, waiting := f.OnInfra(Targets, nodes.AtOnce, !off(f), func(node string) []plan.Resource {
		return []plan.Resource{plan.Watched{File: TargetsDir + "/" + keys.NodeCluster + ".yml", Mode: "0644", Content: fmt.Sprintf(
			`# What is measured of the nodes. Written by pgctrl from %s,
# which follows the documents under %s; an edit here is put back.
#   see them:       pgctrl node list
#   leave it alone: touch /etc/pgctrl/freeze.%s     (on this node; until that file is removed)
`, in.Layout.PlanKey(node, keys.NodeCluster, Targets), in.Layout.Prefix(keys.Nodes), keys.NodeCluster) + text}}
	})
	cs = append(cs, waiting...)
	observed.Sort(cs)
	return controllers.Result{Outputs: out, Conditions: cs}, nil
}

// ofNodes are the targets that belong to no cluster: every node's agent, what runs on
// nodes with role infra, and etcd.
func ofNodes(in controllers.Input, f *nodes.Fleet) []target {
	var out []target
	addresses := map[string]string{} // by node
	for _, name := range slices.Sorted(maps.Keys(f.Nodes)) {
		addresses[name] = f.Nodes[name].Address
		out = append(out, at(f.Nodes[name].Address, agentPort, "job", JobAgent, "node", name))
		for _, port := range log.Listens(f, name) {
			out = append(out, at(f.Nodes[name].Address, port, "job", JobPromtail, "node", name))
		}
	}
	for _, n := range f.WithRole("infra") {
		out = append(out,
			at(n.Address, serverPort, "job", JobServer, "node", n.Name),
			at(n.Address, prometheusPort, "job", JobPrometheus, "node", n.Name))
		if f.Runs(n.Name, log.Loki) {
			out = append(out, at(n.Address, desired.LokiPort, "job", JobLoki, "node", n.Name))
		}
	}
	for _, e := range kept(in, f) {
		out = append(out, target{e.address, [][2]string{{"job", e.job}, {"node", e.node}}})
		if host, _, err := net.SplitHostPort(e.address); err == nil {
			addresses[e.node] = host
		}
	}
	store, _ := observed.Read[observed.Store](in.Snapshot, in.Layout.StoreKey())
	for _, e := range store.Endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Scheme != "http" {
			continue // where etcd asks for certificates Prometheus has none
		}
		port, err := strconv.Atoi(u.Port())
		if err != nil {
			continue
		}
		labels := []string{"job", JobEtcd}
		if name := nodeAt(addresses, u.Hostname()); name != "" {
			labels = append(labels, "node", name)
		}
		out = append(out, at(u.Hostname(), port, labels...))
	}
	return out
}

// nodeAt is the node with an address.
func nodeAt(addresses map[string]string, host string) string {
	a, err := netip.ParseAddr(host)
	for _, name := range slices.Sorted(maps.Keys(addresses)) {
		if b, err2 := netip.ParseAddr(addresses[name]); err == nil && err2 == nil && a == b {
			return name
		}
	}
	return ""
}

// ofNode is a line of the file about a node, as render writes it.
var ofNode = regexp.MustCompile(`(?m)^- \{targets: \['([^']+)'\], labels: \{job: '([^']+)', node: '([^']+)'\}\}$`)

// earlier is a line of a file that is in force.
type earlier struct{ address, job, node string }

// kept are the lines about nodes of which no document says anything, because it can't be
// used or is gone: that takes nobody away (R4, R6). Etcd's are not among them, for the
// store says where etcd is.
func kept(in controllers.Input, f *nodes.Fleet) (out []earlier) {
	stay := wordless(in, f)
	if len(stay) == 0 {
		return nil // as nearly always: a plan in force has to be read from etcd
	}
	written := map[earlier]bool{}
	for _, n := range f.WithRole("infra") {
		p, _ := f.Stored(n.Name, Targets)
		for _, r := range p.Resources {
			w, _ := r.(plan.Watched)
			for _, m := range ofNode.FindAllStringSubmatch(w.Content, -1) {
				e := earlier{m[1], m[2], m[3]}
				if stay[e.node] && e.job != JobEtcd && !written[e] {
					written[e] = true
					out = append(out, e)
				}
			}
		}
	}
	return out
}

// wordless are the nodes without a document that can be used, of which something says that
// they are there: the document, whatever is wrong with it, the agent, or a plan.
// `pgctrl node remove` leaves none of them.
func wordless(in controllers.Input, f *nodes.Fleet) map[string]bool {
	out := map[string]bool{}
	for _, family := range []keys.Family{keys.Nodes, keys.Alive, keys.Plan} {
		prefix := in.Layout.Prefix(family)
		for _, e := range kv.RangeShort(in.Snapshot, prefix) {
			if node, _, _ := strings.Cut(e.Key[len(prefix):], "/"); f.Nodes[node] == nil {
				out[node] = true
			}
		}
	}
	return out
}

package monitor

import (
	_ "embed" // the template
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/nodes"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Program is the concern of a node's Prometheus.
const Program = "prometheus"

const (
	serverUnit = "pgctrl-prometheus.service"
	serverDir  = "/etc/pgctrl/prometheus"
	rulesDir   = "/etc/pgctrl/rules.d"
	// scrapeInterval is every target's whose cluster says nothing else.
	scrapeInterval = desired.Duration(10e9)
	// prometheusPort is Prometheus's own; the other ports of shared programs are in
	// pkg/desired/ports.go.
	prometheusPort = 9090
)

//go:embed prometheus.yml.tmpl
var source string

var config = template.Must(template.New("prometheus.yml").Delims("[[", "]]").Parse(source))

// Rules are the files of rules that Prometheus gets, by their base name.
type Rules map[string][]byte

// Server plans the Prometheus of each node with role infra. It implements
// controllers.Shared.
type Server struct{ rules Rules }

// NewServer returns the controller.
func NewServer(r Rules) Server { return Server{r} }

// Shared implements controllers.Shared.
func (Server) Shared() {}

// Name implements controllers.Controller.
func (Server) Name() string { return Program }

// Inputs implements controllers.Controller.
func (Server) Inputs() []controllers.Access {
	return append(nodes.Inputs(Concern), nodes.Reports(Program))
}

// Outputs implements controllers.Controller.
func (Server) Outputs() []controllers.Access {
	return []controllers.Access{{Family: keys.Plan, Part: Program}}
}

// Plan implements controllers.Controller. One node after another: while one Prometheus is
// being restarted another one looks.
func (s Server) Plan(in controllers.Input) (controllers.Result, error) {
	f, cs, ok := nodes.Load(in, Concern)
	if !ok {
		return controllers.Result{Conditions: cs}, nil
	}
	out, waiting := f.OnInfra(Program, nodes.OneByOne, !off(f), func(node string) []plan.Resource { return []plan.Resource{s.unit(in.Layout, f, node)} })
	cs = append(cs, waiting...)
	observed.Sort(cs)
	return controllers.Result{Outputs: out, Conditions: cs}, nil
}

// off reports whether every cluster says that it is not to be measured.
func off(f *nodes.Fleet) bool {
	return len(f.Clusters) > 0 && len(f.Unread) == 0 && !slices.ContainsFunc(f.Clusters, func(c *desired.Cluster) bool { return c.Monitor.Enabled })
}

// header is what each file of Prometheus's own begins with.
func header(l keys.Layout, node, says string) string {
	return fmt.Sprintf(`# %s Written by pgctrl from %s;
# an edit here is put back.
#   change it:      pgctrl set <cluster> monitor retention=30d     (pgctrl explain monitor)
#   leave it alone: touch /etc/pgctrl/freeze.%s     (on this node; until that file is removed)
`, says, l.PlanKey(node, keys.NodeCluster, Program), keys.NodeCluster)
}

// unit is Prometheus with its files. Rules are among them, because it reads them when it
// is told to and not by itself.
func (s Server) unit(l keys.Layout, f *nodes.Fleet, node string) plan.Unit {
	var b strings.Builder
	if err := config.Execute(&b, struct{ Interval, Node, Rules, Targets string }{scrapeInterval.String(), node, rulesDir, TargetsDir}); err != nil {
		panic(fmt.Sprintf("render Prometheus's file: %v", err)) // plain data and our own template
	}
	u := plan.Unit{Unit: serverUnit, Program: Program, Files: []plan.File{
		{Path: serverDir + "/prometheus.env", Mode: "0644", Content: header(l, node, "Prometheus's settings at its start.") +
			fmt.Sprintf("LISTEN=:%d\nRETENTION=%s\n", prometheusPort, retention(f, node))},
		{Path: serverDir + "/prometheus.yml", Mode: "0644", Content: header(l, node, "Prometheus.") + b.String()},
	}}
	for _, name := range slices.Sorted(maps.Keys(s.rules)) {
		u.Files = append(u.Files, plan.File{Path: rulesDir + "/" + name, Mode: "0644", Content: header(l, node, "Rules.") + string(s.rules[name])})
	}
	return u
}

// retention is the longest that any cluster wants: there is one store for all. While a
// cluster's documents can't be read it is no shorter than what the node has, for what
// Prometheus has deleted does not come back.
func retention(f *nodes.Fleet, node string) desired.Duration {
	var out desired.Duration
	for _, c := range f.Clusters {
		if c.Monitor.Enabled {
			out = max(out, c.Monitor.Retention)
		}
	}
	if out == 0 {
		out = desired.DefaultRetention
	}
	if len(f.Unread) == 0 {
		return out
	}
	p, _ := f.Stored(node, Program)
	return max(out, retentionIn(p))
}

// retentionIn is the one in a plan of earlier.
func retentionIn(p plan.Plan) (out desired.Duration) {
	for _, r := range p.Resources {
		u, ok := r.(plan.Unit)
		for i := 0; ok && i < len(u.Files); i++ {
			for line := range strings.Lines(u.Files[i].Content) {
				if text, is := strings.CutPrefix(strings.TrimSpace(line), "RETENTION="); is {
					// Its own spelling of it; 0 is of somebody else.
					d, _ := desired.ParseDuration(text)
					out = max(out, d)
				}
			}
		}
	}
	return out
}

package log

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/nodes"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const (
	// Loki is the controller's and its program's name.
	Loki = "loki"
	// LokiDir is where its file is.
	LokiDir  = "/etc/pgctrl/loki"
	lokiUnit = "pgctrl-loki.service"
)

// Stores plans the Loki of each node with role infra. It implements controllers.Shared.
type Stores struct{}

// NewStores returns the controller.
func NewStores() Stores { return Stores{} }

// Shared implements controllers.Shared.
func (Stores) Shared() {}

// Name implements controllers.Controller.
func (Stores) Name() string { return Loki }

// Inputs implements controllers.Controller.
func (Stores) Inputs() []controllers.Access {
	return append(nodes.Inputs(Kind), nodes.Reports(Loki))
}

// Outputs implements controllers.Controller.
func (Stores) Outputs() []controllers.Access {
	return []controllers.Access{{Family: keys.Plan, Part: Loki}}
}

// Plan implements controllers.Controller. One node after another, so that there is one to
// ask meanwhile.
func (Stores) Plan(in controllers.Input) (controllers.Result, error) {
	f, cs, ok := nodes.Load(in, Kind)
	if !ok {
		return controllers.Result{Conditions: cs}, nil
	}
	want := map[string]plan.Plan{}
	older, inUse := map[string]bool{}, used(f)
	for _, n := range f.WithRole("infra") {
		var stored plan.Plan
		has := false
		if len(f.Unread) > 0 { // and not before: a stored plan is dear to read
			stored, has = f.Stored(n.Name, Loki)
		}
		if !inUse[desired.OwnLoki(n)] && !has {
			continue
		}
		c, old := f.Older(n.Name, Loki)
		if older[n.Name] = old; old {
			cs = append(cs, c)
			continue
		}
		want[n.Name] = f.Plan(n, plan.Unit{Unit: lokiUnit, Program: Loki, Files: []plan.File{{
			Path: LokiDir + "/loki.yml", Mode: "0644", Content: lokiConfig(in.Layout, n.Name, kept(f, stored)),
		}}})
	}
	out, waiting := f.Outputs(Loki, want, nodes.OneByOne, func(node string) bool { return !older[node] })
	cs = append(cs, waiting...)
	observed.Sort(cs)
	return controllers.Result{Outputs: out, Conditions: cs}, nil
}

// used are the Lokis that any cluster's lines go to.
func used(f *nodes.Fleet) map[string]bool {
	out, own := map[string]bool{}, ownLokis(f)
	for _, c := range f.Clusters {
		if c.Log.Enabled {
			for _, e := range endpoints(c, own) {
				out[e] = true
			}
		}
	}
	return out
}

// kept are the clusters with a retention of their own. Those whose documents can't be read
// have what the node has of them.
func kept(f *nodes.Fleet, stored plan.Plan) (own []Kept) {
	for _, c := range f.Clusters {
		if c.Log.Retention != desired.DefaultLogRetention {
			own = append(own, Kept{c.Name, c.Log.Retention})
		}
	}
	for _, k := range keptIn(stored) {
		if slices.Contains(f.Unread, k.Cluster) {
			own = append(own, k)
		}
	}
	slices.SortFunc(own, func(a, b Kept) int { return strings.Compare(a.Cluster, b.Cluster) })
	return own
}

var keptLine = regexp.MustCompile(`selector: '\{cluster="([^"]+)"\}', priority: 1, period: (\d+s)`)

func keptIn(p plan.Plan) (out []Kept) {
	for _, r := range p.Resources {
		u, ok := r.(plan.Unit)
		for i := 0; ok && i < len(u.Files); i++ {
			for _, m := range keptLine.FindAllStringSubmatch(u.Files[i].Content, -1) {
				if d, err := time.ParseDuration(m[2]); err == nil {
					out = append(out, Kept{m[1], desired.Duration(d)})
				}
			}
		}
	}
	return out
}

package dns

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/nodes"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Program is the concern of a node's name server.
const Program = "dnsmasq"

const (
	// serverUnit is the distribution's: who uses a node's dnsmasq for more than our names
	// goes on doing so, with the settings it has.
	serverUnit = "dnsmasq.service"
	// serverFile is in the folder that Debian's unit reads besides dnsmasq.conf.
	serverFile = "/etc/dnsmasq.d/pgctrl.conf"
)

// Server plans the name server of each node with role infra. It implements
// controllers.Shared.
type Server struct{}

// NewServer returns the controller.
func NewServer() Server { return Server{} }

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

// Plan implements controllers.Controller. One node after another: clients that have the
// addresses of two find one of them answering.
func (Server) Plan(in controllers.Input) (controllers.Result, error) {
	f, cs, ok := nodes.Load(in, Concern)
	if !ok {
		return controllers.Result{Conditions: cs}, nil
	}
	out, waiting := f.OnInfra(Program, nodes.OneByOne, true, func(node string) []plan.Resource {
		return []plan.Resource{folder(), server(in.Layout, f, node)}
	})
	cs = append(cs, waiting...)
	observed.Sort(cs)
	return controllers.Result{Outputs: out, Conditions: cs}, nil
}

// folder is a file that is there before the server starts, for a server that finds no
// folder never looks for one again.
func folder() plan.Watched {
	return plan.Watched{File: Folder + "/" + keys.NodeCluster, Mode: "0644", Content: `# The names of clusters, a file each. Written by pgctrl; dnsmasq notices by itself.
`}
}

// server is the unit with what it has to know to answer with the clusters' names.
func server(l keys.Layout, f *nodes.Fleet, node string) plan.Unit {
	var b strings.Builder
	fmt.Fprintf(&b, `# Names of pgctrl's clusters, beside what dnsmasq does otherwise. Written by pgctrl from
# %s; an edit here is put back.
#   change it:      pgctrl set <cluster> dns ttl=1s     (pgctrl explain dns)
#   leave it alone: touch /etc/pgctrl/freeze.%s     (on this node; until that file is removed)
hostsdir=%s
local-ttl=%d
`, l.PlanKey(node, keys.NodeCluster, Program), keys.NodeCluster, Folder, ttl(f, node))
	for _, suffix := range answered(f, node) {
		fmt.Fprintf(&b, "local=/%s/\n", suffix)
	}
	sum := sha256.Sum256([]byte(b.String()))
	// What the running server answers to this says which file it has read.
	fmt.Fprintf(&b, "txt-record=%s,%s\n", plan.DNSProof, hex.EncodeToString(sum[:8]))
	return plan.Unit{Unit: serverUnit, Program: Program, Adopted: true, Files: []plan.File{{Path: serverFile, Mode: "0644", Content: b.String()}}}
}

// ttl is the least that any cluster wants, in seconds: a server has one for all. While a
// cluster's document can't be read, it grows for nobody.
func ttl(f *nodes.Fleet, node string) int64 {
	var all []int64
	for _, c := range f.Clusters {
		if c.DNS.Enabled {
			all = append(all, c.DNS.TTL.Seconds())
		}
	}
	if len(all) == 0 {
		all = append(all, desired.DefaultTTL.Seconds())
	}
	for _, s := range before(f, node, "local-ttl=") {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			all = append(all, n)
		}
	}
	return slices.Min(all)
}

// answered are the domains whose unknown names are nobody else's to answer. While a
// cluster's document can't be read, those that the node has stay, and none comes that
// others of its names may be in.
func answered(f *nodes.Fleet, node string) []string {
	own, forward := map[string]bool{}, map[string]bool{}
	for _, c := range f.Clusters {
		if c.DNS.Enabled {
			own[c.DNS.Suffix] = true
			forward[c.DNS.Suffix] = forward[c.DNS.Suffix] || c.DNS.Forward
		}
	}
	if len(f.Unread) > 0 { // and not before: a stored plan is dear to read
		if _, has := f.Stored(node, Program); has {
			clear(own)
		}
		for _, line := range before(f, node, "local=/") {
			own[strings.TrimSuffix(line, "/")] = true
		}
	}
	maps.DeleteFunc(own, func(suffix string, _ bool) bool { return forward[suffix] })
	return slices.Sorted(maps.Keys(own))
}

// before is what the lines of the node's file say after a prefix, while it is not known
// what all clusters want.
func before(f *nodes.Fleet, node, prefix string) (out []string) {
	if len(f.Unread) == 0 {
		return nil
	}
	p, _ := f.Stored(node, Program)
	for _, r := range p.Resources {
		u, ok := r.(plan.Unit)
		for i := 0; ok && i < len(u.Files); i++ {
			for line := range strings.Lines(u.Files[i].Content) {
				if rest, is := strings.CutPrefix(strings.TrimSpace(line), prefix); is {
					out = append(out, rest)
				}
			}
		}
	}
	return out
}

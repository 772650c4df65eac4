package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/controllers/monitor"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
)

func (a *app) nodeCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "node", Short: "The hosts",
		Long: "A node is a Linux host that runs pgagent. Its document says at which address the\nothers reach it; create registers nodes whose agent is there by itself.",
	}
	c.AddCommand(a.nodeList(), a.nodeAdd(), a.nodeRemove(), a.nodeShow())
	return c
}

// nodeInfo is a host as far as anybody knows it.
type nodeInfo struct {
	Node       string            `json:"node"`
	Address    string            `json:"address,omitempty"`
	Roles      []string          `json:"roles,omitempty"`
	Registered bool              `json:"registered"`
	Agent      bool              `json:"agent"`
	Version    string            `json:"version,omitempty"`
	PostgreSQL []int             `json:"postgresql,omitempty"`
	Programs   map[string]string `json:"programs,omitempty"`
	Members    []string          `json:"members,omitempty"`
	// Runs is what the host runs for all its clusters.
	Runs []status.Program `json:"runs,omitempty"`
}

func (l *live) nodes() []nodeInfo {
	documents, _ := desired.Nodes(l, l.layout)
	members := map[string][]string{}
	for _, c := range desired.LoadAll(l, l.layout, "members") {
		for _, m := range c.MemberList() {
			members[m.Node] = append(members[m.Node], c.Name+"/"+m.Name)
		}
	}
	names := append(l.documents(scopeNodes), l.present()...)
	slices.Sort(names)
	out := []nodeInfo{}
	for _, n := range slices.Compact(names) {
		i := nodeInfo{Node: n, Members: members[n]}
		_, i.Registered = l.Get(l.layout.Node(n))
		if d := documents[n]; d != nil {
			i.Address, i.Roles = d.Address, d.Roles
		}
		if p, ok := l.alive(n); ok {
			i.Agent, i.Version, i.PostgreSQL, i.Programs = true, p.Version, p.PostgreSQL, p.Programs
			if !i.Registered {
				i.Address = p.Address
			}
		}
		out = append(out, i)
	}
	return out
}

func (a *app) nodeList() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "Every host, and whether its agent is there", Args: cobra.NoArgs,
		Example: "  pgctrl node list\n  pgctrl node list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.read(cmd.Context(), statusFamilies...)
			if err != nil {
				return err
			}
			nodes := l.nodes()
			programs, _ := status.Shared(a.input(l, ""))
			for i := range nodes {
				for _, p := range programs {
					if p.Node == nodes[i].Node {
						nodes[i].Runs = append(nodes[i].Runs, p)
					}
				}
			}
			return a.emit(nodes, func() { a.showNodes(nodes) })
		},
	}
	return a.withFormat(c)
}

func (a *app) showNodes(nodes []nodeInfo) {
	if len(nodes) == 0 {
		a.note("no nodes yet; next, on every host that shall run PostgreSQL: %s", a.joinCommand())
	}
	heads := []string{"NODE", "ADDRESS", "AGENT", "VERSION", "POSTGRESQL", "ROLES", "RUNS", "MEMBERS"}
	if a.wide() {
		heads = append(heads, "PROGRAMS")
	}
	t := newTable(a.out, heads...)
	for _, n := range nodes {
		agent := a.out.green("present")
		if !n.Agent {
			agent = a.out.red("absent")
		}
		address := n.Address
		if !n.Registered {
			address += " (not registered)"
		}
		cells := []string{n.Node, orDash(address), agent, orDash(n.Version), orDash(numbers(n.PostgreSQL)), orDash(strings.Join(n.Roles, ",")), orDash(a.runs(n.Runs)), orDash(strings.Join(n.Members, " "))}
		if a.wide() {
			var programs []string
			for _, p := range sortedKeys(n.Programs) {
				programs = append(programs, p+" "+n.Programs[p])
			}
			cells = append(cells, orDash(strings.Join(programs, ", ")))
		}
		t.row(cells...)
	}
	t.write(a.Out)
}

// runs names the programs, and of those that are not as planned the worst reason.
func (a *app) runs(programs []status.Program) string {
	var words []string
	for _, p := range programs {
		word := p.Program
		switch {
		case !p.Ready && len(p.Conditions) > 0:
			word = a.out.red(word + " (" + string(p.Conditions[0].Reason) + ")")
		case word == monitor.Targets:
			continue // a file for Prometheus and no program: nothing to say while it is well
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func numbers(ns []int) string {
	parts := make([]string, len(ns))
	for i, n := range ns {
		parts[i] = itoa(n)
	}
	return strings.Join(parts, ",")
}

func (a *app) nodeAdd() *cobra.Command {
	var w writeFlags
	var roles []string
	c := &cobra.Command{
		Use: "add <name> <address>", Short: "Register a host",
		Example: "  pgctrl node add pg1 10.10.10.11\n  pgctrl node add lb1 10.10.10.21 --role proxy",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.complete(func(l *live, _ []string, _ string) []string { return l.present() }),
		RunE: func(cmd *cobra.Command, args []string) error {
			fields := []string{"address=" + args[1]}
			if len(roles) > 0 {
				fields = append(fields, "roles=["+strings.Join(roles, ",")+"]")
			}
			return a.addNode(cmd.Context(), args[0], fields, w)
		},
	}
	c.Flags().StringSliceVar(&roles, "role", nil, "infra or proxy; may be given several times")
	_ = c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"infra", "proxy"}, cobra.ShellCompDirectiveNoFileComp))
	w.add(c)
	return c
}

func (a *app) addNode(ctx context.Context, name string, fields []string, w writeFlags) error {
	if err := keys.CheckNode(name); err != nil {
		return fail("%s. Nothing was written.", err)
	}
	l, err := a.read(ctx, documentFamilies...)
	if err != nil {
		return err
	}
	key := l.layout.Node(name)
	old, exists := l.Get(key)
	text, err := desired.SetFields("nodes/"+name, old.Value, fields)
	if err != nil {
		return problemsOf(l, err)
	}
	if exists {
		changed := desired.Changes("nodes/"+name, old.Value, text)
		if len(changed) == 0 {
			a.say("no change")
			return nil
		}
		return fail("node %s is registered already, with %s. Nothing was written.", name, differing(changed)).
			then("pgctrl set nodes %s %s", name, strings.Join(fields, " "))
	}
	c := change{scope: scopeNodes, writes: map[string][]byte{key: text}, why: w.reason, typed: true}
	if err := a.writeNode(ctx, l, c, w, name, "register", "registered"); err != nil {
		return err
	}
	if _, ok := l.alive(name); !ok {
		a.note("its agent is not there yet; next, on %s: %s", name, a.joinCommand())
	}
	return nil
}

func differing(cs []desired.FieldChange) string {
	parts := make([]string, len(cs))
	for i, c := range cs {
		parts[i] = c.Field + " " + orNone(c.Old)
	}
	return strings.Join(parts, ", ")
}

func (a *app) nodeRemove() *cobra.Command {
	var w writeFlags
	var lost bool
	var typed string
	c := &cobra.Command{
		Use: "remove <name>", Short: "Forget a host that no member is on",
		Long: `Deletes the host's document and what etcd still says of it. Give the host back first,
with pgagent leave on it. A host that will never come back is removed with --lost:
its members are forgotten with it, so the name is to be typed, and nothing of it
must be alive.`,
		Example: "  pgctrl node remove pg4\n  pgctrl node remove pg4 --lost --confirm pg4",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.complete(completeNodes),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.removeNode(cmd.Context(), args[0], lost, typed, w)
		},
	}
	w.add(c)
	c.Flags().BoolVar(&lost, "lost", false, "the host is gone for good: forget its members too")
	c.Flags().StringVar(&typed, "confirm", "", "the node's name, which --lost needs typed")
	return c
}

// writeNode judges and writes the change of one node's document. would and did are
// the verb in a dry run and afterwards.
func (a *app) writeNode(ctx context.Context, l *live, c change, w writeFlags, name, would, did string) error {
	if err := c.judge(l); err != nil {
		return err
	}
	if w.dryRun {
		a.say("would %s node %s", would, name)
		return exitCode(NotConverged)
	}
	rev, err := a.commit(ctx, l, c)
	if err != nil {
		return err
	}
	a.say("%s node %s (revision %d)", did, name, rev)
	if _, alive := l.alive(name); alive && did == "removed" {
		a.note("%s", leftBehind(name))
	}
	return nil
}

func membersOn(l *live, node string) []string {
	var out []string
	for _, c := range desired.LoadAll(l, l.layout, "members") {
		for _, m := range c.MemberList() {
			if m.Node == node {
				out = append(out, c.Name+"/"+m.Name)
			}
		}
		for _, p := range c.Problems {
			if p.Kind == "members" {
				if e, ok := l.Get(p.Key); ok && strings.Contains(string(e.Value), node) {
					out = append(out, c.Name+"/"+p.Key[strings.LastIndex(p.Key, "/")+1:])
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (a *app) nodeShow() *cobra.Command {
	c := &cobra.Command{
		Use: "show <name>", Short: "Everything known of one host",
		Example: "  pgctrl node show pg1",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.complete(completeNodes),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.read(cmd.Context(), append([]keys.Family{keys.Observed}, documentFamilies...)...)
			if err != nil {
				return err
			}
			all := l.nodes()
			i := slices.IndexFunc(all, func(n nodeInfo) bool { return n.Node == args[0] })
			if i < 0 {
				var names []string
				for _, n := range all {
					names = append(names, n.Node)
				}
				return fail("no node %s%s", args[0], didYouMean(args[0], names)).then("pgctrl node list")
			}
			v := struct {
				nodeInfo
				Reports []observed.Report `json:"reports,omitempty"`
			}{all[i], reportsOf(l, args[0])}
			return a.emit(v, func() { a.showNode(v.nodeInfo, l) })
		},
	}
	return a.withFormat(c)
}

func reportsOf(l *live, node string) []observed.Report {
	var out []observed.Report
	for _, e := range l.Range(l.layout.NodeObserved(node)) {
		if r, err := observed.Decode[observed.Report](e); err == nil {
			out = append(out, r)
		}
	}
	return out
}

func (a *app) showNode(n nodeInfo, l *live) {
	a.showNodes([]nodeInfo{n})
	if len(n.Programs) > 0 {
		a.say("")
		t := newTable(a.out, "PROGRAM", "VERSION")
		for _, p := range sortedKeys(n.Programs) {
			t.row(p, n.Programs[p])
		}
		t.write(a.Out)
	}
	reports := newTable(a.out, "CLUSTER", "CONCERN", ">PLAN", "CONDITION", "MESSAGE")
	for _, e := range l.Range(l.layout.NodeObserved(n.Node)) {
		ref, err := l.layout.Parse(e.Key)
		r, derr := observed.Decode[observed.Report](e)
		if err != nil || derr != nil {
			continue
		}
		for _, c := range r.Conditions {
			word := fmt.Sprintf("%s=%s", c.Type, c.Status)
			if c.Reason != "" {
				word += " " + string(c.Reason)
			}
			reports.row(ref.Cluster, ref.Concern, fmt.Sprint(r.Plan), a.colour(c, word), c.Message)
		}
	}
	if len(reports.rows) > 0 {
		a.say("")
		reports.write(a.Out)
	}
}

// joinCommand is what makes a host a node.
func (a *app) joinCommand() string {
	return "pgagent join --endpoints " + strings.Join(a.settings.Endpoints, ",")
}

// colour shows how a condition stands.
func (a *app) colour(c observed.Condition, text string) string {
	switch c.Status {
	case observed.False:
		return a.out.red(text)
	case observed.Unknown:
		return a.out.yellow(text)
	}
	return text
}

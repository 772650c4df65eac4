package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// newCluster is what create was asked for.
type newCluster struct {
	name    string
	on      []string
	version int
	vip     string
	w       writeFlags
}

func (a *app) createCommand() *cobra.Command {
	var n newCluster
	c := &cobra.Command{
		Use: "create <cluster> --on <node>,<node>,...", Short: "Make a cluster",
		Long: `Writes the documents of a cluster with one member on each node, and waits until
it takes writes and every member streams. Nodes whose agent is there but that have
no document are registered by the way. On nodes that have a cluster already, the
new one gets the next free block of ports (+100).`,
		Example: `  pgctrl create pg-test --on pg1,pg2,pg3
  pgctrl create pg-test --on pg1,pg2,pg3 --vip 10.10.10.9/24
  pgctrl create pg-test --on pg1 --version 15 --wait 2m
  pgctrl create pg-test --on pg1,pg2,pg3 --dry-run`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(nil),
		RunE: func(cmd *cobra.Command, args []string) error {
			n.name = args[0]
			if !cmd.Flags().Changed("wait") {
				n.w.wait = createWait
			}
			return a.create(cmd.Context(), n)
		},
	}
	n.w.add(c)
	c.Flags().Lookup("wait").DefValue = createWait.String()
	c.Flags().StringSliceVar(&n.on, "on", nil, "the nodes, the first member's first")
	c.Flags().IntVar(&n.version, "version", 0, "PostgreSQL major version; the newest that all the nodes have")
	c.Flags().StringVar(&n.vip, "vip", "", "virtual address that follows the primary, with the length of its network, as in 10.10.10.9/24")
	_ = c.RegisterFlagCompletionFunc("on", a.completeNodeLists)
	return c
}

func (a *app) completeNodeLists(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	done, _ := cutLast(typed, ",")
	return a.complete(func(l *live, _ []string, _ string) []string {
		var out []string
		for _, n := range l.nodes() {
			if n.Agent && !slices.Contains(strings.Split(done, ","), n.Node) {
				out = append(out, done+n.Node)
			}
		}
		return out
	})(cmd, nil, typed)
}

// cutLast splits after the last separator.
func cutLast(s, sep string) (before, after string) {
	i := strings.LastIndex(s, sep)
	return s[:i+1], s[i+1:]
}

func (a *app) create(ctx context.Context, n newCluster) error {
	if err := n.check(); err != nil {
		return err
	}
	l, err := a.read(ctx, append([]keys.Family{keys.Formed, keys.PatroniKey}, documentFamilies...)...)
	if err != nil {
		return err
	}
	if err := n.free(l); err != nil {
		return err
	}
	c, said, err := a.documentsOf(l, n)
	if err != nil {
		return err
	}
	if err := c.judge(l); err != nil {
		return err
	}
	if n.w.dryRun {
		for _, k := range sortedKeys(c.writes) {
			a.say("would write %s: %s", strings.TrimPrefix(k, l.layout.DesiredPrefix()), oneLine(c.writes[k]))
		}
		return exitCode(NotConverged)
	}
	return a.writeCluster(ctx, l, c, said, n.w.wait)
}

func (a *app) writeCluster(ctx context.Context, l *live, c change, said []string, wait time.Duration) error {
	f, err := a.follow(ctx)
	if err != nil {
		return err
	}
	defer f.stop()
	rev, err := a.commit(ctx, l, c)
	if errors.Is(err, store.ErrConflict) {
		return fail("somebody else wrote one of the same documents at the same moment. Nothing was written.").then("pgctrl status %s", c.scope)
	}
	if err != nil {
		return err
	}
	own := 0
	for k := range c.writes {
		if strings.HasPrefix(k, l.layout.ClusterDocs(c.scope)) {
			own++
		}
	}
	a.note("wrote    %s under %s (revision %d); %s", plural(own, "key"), l.layout.ClusterDocs(c.scope), rev, said[0])
	for _, s := range said[1:] {
		a.note("         %s", s)
	}
	if wait <= 0 {
		a.note("next: pgctrl status %s --watch", c.scope)
		return nil
	}
	return a.awaitCluster(ctx, f, c.scope, rev, wait)
}

// check looks at what was typed.
func (n newCluster) check() error {
	if err := keys.CheckCluster(n.name); err != nil {
		return fail("%s. Nothing was written.", err)
	}
	if fleetScope(n.name) {
		return fail("%q has a meaning of its own where a cluster's name stands. Nothing was written.", n.name)
	}
	if len(n.on) == 0 {
		return fail("expected the nodes that shall run it: --on <node>,<node>,... Nothing was written.").then("pgctrl node list")
	}
	for i, node := range n.on {
		if slices.Contains(n.on[:i], node) {
			return fail("--on names %s twice; a cluster has one member on a node. Nothing was written.", node)
		}
	}
	if m := n.member(len(n.on) - 1); keys.CheckMember(m) != nil {
		return fail("%s. Nothing was written.", keys.CheckMember(m))
	}
	return nil
}

func (n newCluster) member(i int) string { return fmt.Sprintf("%s-%d", n.name, i+1) }

// free refuses a name that anything is left of: two things under one name is how
// data gets lost.
func (n newCluster) free(l *live) error {
	if slices.Contains(l.clusters(), n.name) {
		return fail("cluster %s exists already. Nothing was written.", n.name).then("pgctrl status %s", n.name)
	}
	if _, ok := l.Get(l.layout.FormedKey(n.name)); ok {
		return fail("a cluster named %s formed here before and nobody removed it: its data may still be on its nodes. Nothing was written.", n.name).
			then("pgctrl remove %s (its data are kept), or choose another name", n.name)
	}
	if left := l.Range(l.layout.Scope(n.name)); len(left) > 0 {
		return fail("Patroni has keys of a cluster %s that pgctrl did not make (%s). Nothing was written.", n.name, left[0].Key).
			then("choose another name")
	}
	return nil
}

// documentsOf composes the cluster's documents, and says what is not obvious about
// them: first the version, then what was registered and which ports there are.
func (a *app) documentsOf(l *live, n newCluster) (change, []string, error) {
	c := change{scope: n.name, writes: map[string][]byte{}, why: n.w.reason, typed: true}
	registered, err := a.registerNodes(l, n, c.writes)
	if err != nil {
		return c, nil, err
	}
	for i, node := range n.on {
		c.writes[l.layout.ClusterDoc(n.name, "members/"+n.member(i))] = fmt.Appendf(nil, "node: %s\n", node)
	}
	next := desired.Overlay(l, c.writes)
	version, err := n.pickVersion(l, next)
	if err != nil {
		return c, nil, err
	}
	said := []string{version}
	if len(registered) > 0 {
		said = append(said, "registered "+strings.Join(registered, ", "))
	}
	offset := desired.PortBlock(desired.LoadAll(next, l.layout), n.name, desired.Load(next, l.layout, n.name).ProxyNodes())
	if offset < 0 {
		return c, nil, fail("no block of ports is free on all of %s. Nothing was written.", oneOf(n.on)).then("pgctrl status")
	}
	if offset > 0 {
		said = append(said, fmt.Sprintf("ports +%d, because these nodes have a cluster already", offset))
	}
	for doc, text := range desired.BlockDocuments(offset) {
		c.writes[l.layout.ClusterDoc(n.name, doc)] = text
	}
	if n.version != 0 {
		key := l.layout.ClusterDoc(n.name, "postgres")
		if c.writes[key], err = desired.SetFields("postgres", c.writes[key], []string{"version=" + itoa(n.version)}); err != nil {
			return c, nil, problemsOf(l, err)
		}
	}
	if n.vip != "" {
		key := l.layout.ClusterDoc(n.name, "vip")
		if c.writes[key], err = desired.SetFields("vip", nil, []string{"address=" + n.vip}); err != nil {
			return c, nil, problemsOf(l, err)
		}
	}
	return c, said, nil
}

// registerNodes adds documents for nodes that have an agent and no document.
func (a *app) registerNodes(l *live, n newCluster, writes map[string][]byte) ([]string, error) {
	known := l.present()
	var out, absent []string
	for _, node := range n.on {
		p, agent := l.alive(node)
		_, document := l.Get(l.layout.Node(node))
		switch {
		case !agent:
			absent = append(absent, node)
		case !document:
			text, err := desired.SetFields("nodes/"+node, nil, []string{"address=" + p.Address})
			if err != nil {
				return nil, problemsOf(l, err)
			}
			writes[l.layout.Node(node)] = text
			out = append(out, node+" ("+p.Address+")")
		}
	}
	if len(absent) > 0 {
		hint := ""
		if len(absent) == 1 {
			hint = didYouMean(absent[0], known)
		}
		return nil, fail("%s", nothing(fmt.Sprintf("no agent runs on %s (agents: %s)%s", oneOf(absent), oneOf(known), hint))).
			then("%s (on %s)", a.joinCommand(), oneOf(absent))
	}
	return out, nil
}

// pickVersion says which PostgreSQL the cluster will have, and refuses one that a
// node hasn't.
func (n newCluster) pickVersion(l *live, next kv.Snapshot) (string, error) {
	var common []int
	for i, node := range n.on {
		p, _ := l.alive(node)
		if i == 0 {
			common = slices.Clone(p.PostgreSQL)
		}
		common = slices.DeleteFunc(common, func(v int) bool { return !slices.Contains(p.PostgreSQL, v) })
		if n.version != 0 && !slices.Contains(p.PostgreSQL, n.version) {
			return "", fail("PostgreSQL %d is not installed on %s, which has %s. Nothing was written.", n.version, node, oneOf(strings.Fields(strings.ReplaceAll(numbers(p.PostgreSQL), ",", " ")))).
				then("apt-get install postgresql-%d (on %s)", n.version, node)
		}
	}
	if v := desired.Load(next, l.layout, n.name, "postgres").Postgres.Version; n.version == 0 && v != 0 {
		return fmt.Sprintf("PostgreSQL %d, by the defaults", v), nil
	}
	if n.version != 0 {
		return fmt.Sprintf("PostgreSQL %d", n.version), nil
	}
	if len(common) == 0 {
		return "", fail("no PostgreSQL version is installed on all of %s. Nothing was written.", oneOf(n.on)).then("pgctrl node list")
	}
	where := "the newest on all " + itoa(len(n.on))
	if len(n.on) == 1 {
		where = "the newest on " + n.on[0]
	}
	return fmt.Sprintf("PostgreSQL %d, %s", slices.Max(common), where), nil
}

// oneLine is a short document on one line.
func oneLine(text []byte) string {
	return strings.Join(strings.Split(strings.TrimSpace(string(text)), "\n"), "; ")
}

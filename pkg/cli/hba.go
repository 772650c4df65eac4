package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/controllers/postgres"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func (a *app) hbaCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "hba", Short: "Who may connect to PostgreSQL, from where and how",
		Long: `Rules are documents, hba/<name>; every change is a reload, node by node, and cuts no
session. PostgreSQL tries the rules in their order and the first that fits decides.
A rule that PostgreSQL refuses is taken back, with PostgreSQL's words.`,
	}
	c.AddCommand(a.hbaList(), a.hbaAdd(), a.hbaRemove())
	return c
}

func completeRules(l *live, args []string, _ string) []string {
	return sortedKeys(desired.Load(l, l.layout, args[0], "hba").HBA)
}

func (a *app) hbaList() *cobra.Command {
	var member string
	c := &cobra.Command{
		Use: "list <cluster>", Short: "The rules in the order in which they are tried, and where each is from",
		Long: `Shows every line of pg_hba.conf: first what the cluster itself needs, then the
documents by their order. With --member the lines of that member alone; without,
those of every member that is not offline.`,
		Example: "  pgctrl hba list pg-test\n  pgctrl hba list pg-test --member pg-test-3 -o json",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.complete(completeClusters),
		RunE: func(cmd *cobra.Command, args []string) error { return a.listHBA(cmd.Context(), args[0], member) },
	}
	c.Flags().StringVar(&member, "member", "", "the lines of this member")
	return a.withFormat(c)
}

func (a *app) listHBA(ctx context.Context, cluster, member string) error {
	l, err := a.read(ctx, documentFamilies...)
	if err != nil {
		return err
	}
	if err := l.cluster(cluster); err != nil {
		return err
	}
	docs := desired.Load(l, l.layout, cluster, "members", "postgres", "hba")
	offline := false
	if member != "" {
		m := docs.Members[member]
		if m == nil {
			return fail("cluster %s has no member %s%s", cluster, member, didYouMean(member, sortedKeys(docs.Members))).then("pgctrl status %s", cluster)
		}
		offline = m.Offline
	}
	var members []plan.Member
	for _, m := range docs.MemberList() {
		if n := docs.Nodes[m.Node]; n != nil && !m.Absent() {
			members = append(members, plan.Member{Name: m.Name, Node: m.Node, Address: n.Address})
		}
	}
	rules := postgres.HBARules(docs, members, offline)
	return a.emit(rules, func() {
		t := newTable(a.out, ">#", "RULE", "FROM")
		for i, r := range rules {
			t.row(itoa(i+1), r.Line, ruleFrom(l, r))
		}
		t.write(a.Out)
	})
}

// ruleFrom names a rule's document as set and unset take it.
func ruleFrom(l *live, r postgres.HBARule) string {
	switch {
	case r.Rule == "":
		return "the cluster's own"
	case r.Key == "":
		return "hba/" + r.Rule + " (built in)"
	}
	return strings.TrimPrefix(strings.TrimPrefix(r.Key, l.layout.DesiredPrefix()), "clusters/")
}

func (a *app) hbaAdd() *cobra.Command {
	var w writeFlags
	c := &cobra.Command{
		Use: "add <cluster> <rule> field=value ...", Short: "Add a rule",
		Long: `Writes the document hba/<rule>. Fields are those of pgctrl explain hba; addresses are
needed unless the type is local. To change a rule, pgctrl set <cluster> hba/<rule>.`,
		Example: `  pgctrl hba add pg-test app databases=[app] users=[app] addresses=[10.20.0.0/16]
  pgctrl hba add pg-test nobody-else order=800 addresses=[all] method=reject`,
		Args: cobra.MinimumNArgs(3), ValidArgsFunction: a.complete(completeClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.edit(cmd.Context(), args[0], "hba/"+args[1], w, func(doc string, old []byte) ([]byte, error) {
				if old != nil {
					return nil, fail("cluster %s has a rule %s already. Nothing was written.", args[0], args[1]).
						then("pgctrl set %s hba/%s %s", args[0], args[1], strings.Join(args[2:], " "))
				}
				return desired.SetFields(doc, nil, args[2:])
			})
		},
	}
	w.add(c)
	return c
}

func (a *app) hbaRemove() *cobra.Command {
	var w writeFlags
	c := &cobra.Command{
		Use: "remove <cluster> <rule>", Short: "Remove a rule",
		Long:    `Deletes the document hba/<rule>. Sessions that came in by it stay.`,
		Example: "  pgctrl hba remove pg-test app",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.complete(completeClusters, completeRules),
		RunE: func(cmd *cobra.Command, args []string) error {
			cluster, rule := args[0], args[1]
			l, err := a.read(cmd.Context(), documentFamilies...)
			if err != nil {
				return err
			}
			if err := l.cluster(cluster); err != nil {
				return err
			}
			docs := desired.Load(l, l.layout, cluster, "hba")
			if _, own := l.Get(l.layout.ClusterDoc(cluster, "hba/"+rule)); !own {
				return noRule(docs, cluster, rule)
			}
			return a.edit(cmd.Context(), cluster, "hba/"+rule, w, func(string, []byte) ([]byte, error) { return nil, nil })
		},
	}
	w.add(c)
	return c
}

// noRule says why a cluster has no document to remove.
func noRule(docs *desired.Cluster, cluster, rule string) error {
	if h := docs.HBA[rule]; h != nil {
		from := cmp.Or(docs.Source("hba/"+rule), "what is built in")
		return fail("rule %s has no document in %s; it comes from %s. Nothing was written.", rule, cluster, from).
			then("pgctrl set %s hba/%s enabled=false", cluster, rule)
	}
	return fail("%s", nothing(fmt.Sprintf("cluster %s has no rule %s%s", cluster, rule, didYouMean(rule, sortedKeys(docs.HBA))))).
		then("pgctrl hba list %s", cluster)
}

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/desired"
)

func (a *app) getCommand() *cobra.Command {
	var effective bool
	c := &cobra.Command{
		Use: "get [<cluster> [<document>]]", Short: "Read documents",
		Long: `Prints documents as people wrote them. With --effective every field of the
cluster's documents, defaults included, and which key it comes from.`,
		Example: `  pgctrl get
  pgctrl get pg-test
  pgctrl get pg-test postgres
  pgctrl get pg-test services/primary --effective
  pgctrl get defaults postgres
  pgctrl get nodes pg1
  pgctrl get hooks page`,
		Args: cobra.MaximumNArgs(2), ValidArgsFunction: a.complete(completeScopes, completeDocuments),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.read(cmd.Context(), documentFamilies...)
			if err != nil {
				return err
			}
			if len(args) > 0 && !fleetScope(args[0]) {
				if err := l.cluster(args[0]); err != nil {
					return err
				}
			} else if effective {
				return fail("--effective needs a cluster").then("pgctrl get <cluster> --effective")
			}
			switch {
			case len(args) == 0:
				return a.getScopes(l)
			case effective:
				return a.getEffective(l, args[0], args[1:])
			case len(args) == 1:
				return a.getAll(l, args[0])
			}
			return a.getOne(l, args[0], args[1])
		},
	}
	c.Flags().BoolVar(&effective, "effective", false, "every field, defaults included, and where it comes from")
	return a.withFormat(c)
}

// getScopes lists what has documents.
func (a *app) getScopes(l *live) error {
	type row struct {
		Scope     string   `json:"scope"`
		Documents []string `json:"documents"`
	}
	rows := []row{}
	for _, s := range append(l.clusters(), scopeDefaults, scopeNodes, scopeHooks) {
		if docs := l.documents(s); len(docs) > 0 {
			rows = append(rows, row{s, docs})
		}
	}
	return a.emit(rows, func() {
		if len(rows) == 0 {
			a.note("no documents yet; next: pgctrl create <cluster> --on <node>,<node>,<node>")
		}
		t := newTable(a.out, "CLUSTER", "DOCUMENTS")
		for _, r := range rows {
			t.row(r.Scope, strings.Join(r.Documents, " "))
		}
		t.write(a.Out)
	})
}

// document is a document as it is stored.
type document struct {
	Document string `json:"document"`
	Key      string `json:"key"`
	Revision int64  `json:"revision"`
	Text     string `json:"text"`
}

func (a *app) getAll(l *live, scope string) error {
	docs := []document{}
	for _, d := range l.documents(scope) {
		e, _ := l.Get(keyOf(l.layout, scope, d))
		docs = append(docs, document{d, e.Key, e.ModRevision, string(e.Value)})
	}
	return a.emit(docs, func() {
		if len(docs) == 0 {
			a.note("no documents under %s; next: pgctrl set %s <document> field=value", scope, scope)
		}
		for _, d := range docs {
			a.say("%s", a.out.dim(fmt.Sprintf("# %s (revision %d)", d.Document, d.Revision)))
			a.say("%s", strings.TrimRight(d.Text, "\n"))
		}
	})
}

func (a *app) getOne(l *live, scope, name string) error {
	e, ok := l.Get(keyOf(l.layout, scope, name))
	if ok {
		return a.emit(document{name, e.Key, e.ModRevision, string(e.Value)}, func() {
			a.say("%s", strings.TrimRight(string(e.Value), "\n"))
		})
	}
	k, err := desired.KindOf(schemaName(scope, name))
	if err != nil {
		return fail("%s", err).then("pgctrl explain")
	}
	if !fleetScope(scope) && !missingName(l, k, scope, name) {
		// What has defaults exists without a document.
		a.note("%s has no document %s: its defaults are in force; next: pgctrl get %s %s --effective", scope, name, scope, name)
		return nil
	}
	known := l.documents(scope)
	if !fleetScope(scope) {
		known = append(known, effectiveDocuments(desired.Load(l, l.layout, scope))...)
	}
	return fail("%s has no document %s%s", scope, name, didYouMean(name, known)).then("pgctrl get %s", scope)
}

func missingName(l *live, k *desired.Kind, scope, name string) bool {
	return k.Fleet || desired.Load(l, l.layout, scope).Effective(name) == nil
}

func (a *app) getEffective(l *live, scope string, only []string) error {
	type row struct {
		Document string `json:"document"`
		desired.EffectiveField
	}
	c := desired.Load(l, l.layout, scope)
	names := only
	if len(only) == 0 {
		names = effectiveDocuments(c)
	}
	rows := []row{}
	for _, d := range names {
		fields := c.Effective(d)
		if fields == nil {
			return fail("%s has no document %s%s", scope, d, didYouMean(d, effectiveDocuments(c))).then("pgctrl get %s", scope)
		}
		for _, f := range fields {
			rows = append(rows, row{d, f})
		}
	}
	return a.emit(rows, func() {
		t := newTable(a.out, "DOCUMENT", "FIELD", "VALUE", "FROM", "EFFECT")
		for _, r := range rows {
			source := r.Source
			if r.Key != "" && r.Source == "default" {
				source = strings.TrimPrefix(r.Key, l.layout.DesiredPrefix())
			}
			if r.Source == "document" {
				source = a.out.bold(source)
			}
			t.row(r.Document, r.Field, r.Value, source, string(r.Effect))
		}
		t.write(a.Out)
	})
}

// effectiveDocuments are all documents a cluster has, those without a key included.
func effectiveDocuments(c *desired.Cluster) []string {
	var out []string
	for _, m := range c.MemberList() {
		out = append(out, "members/"+m.Name)
	}
	out = append(out, "postgres")
	for _, s := range sortedKeys(c.Services) {
		out = append(out, "services/"+s)
	}
	return append(out, "services/"+desired.StatsService)
}

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/keys"
)

func (a *app) secretCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "secret", Short: "The passwords and certificates that pgctrl made",
		Long: "Secrets are made once, when a cluster forms or a user is added, unless one is given;\n" +
			"certificates when a cluster gets TLS, and again and again. They are shown only by this\n" +
			"command. The key that signs certificates is not among them.",
	}
	c.AddCommand(a.secretShow(), a.secretList())
	return c
}

func (a *app) secretShow() *cobra.Command {
	return &cobra.Command{
		Use: "show <cluster> <name>", Short: "Print one secret", Args: cobra.ExactArgs(2),
		Example: "  pgctrl secret show pg-test postgres\n  pgctrl secret show pg-test users/app\n  pgctrl secret show pg-test tls/authority > ca.crt",
		ValidArgsFunction: a.complete(completeClusters, func(_ *live, args []string, _ string) []string {
			return nil // secrets are not read for completion
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			cluster, name := args[0], args[1]
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			e, ok, err := c.Get(cmd.Context(), a.settings.Layout.Secret(cluster, name))
			if err != nil {
				return err
			}
			if ok {
				fmt.Fprintln(a.Out, strings.TrimRight(string(e.Value), "\n")) // a certificate has an end of its own
				return nil
			}
			return a.noSecret(cmd, cluster, name)
		},
	}
}

func (a *app) noSecret(cmd *cobra.Command, cluster, name string) error {
	l, err := a.read(cmd.Context(), append([]keys.Family{keys.Secrets}, documentFamilies...)...)
	if err != nil {
		return err
	}
	if err := l.cluster(cluster); err != nil {
		return err
	}
	var names []string
	for _, e := range l.Range(l.layout.ClusterSecrets(cluster)) {
		if r, err := l.layout.Parse(e.Key); err == nil {
			names = append(names, r.Doc)
		}
	}
	if len(names) == 0 {
		return fail("cluster %s has no secrets yet; the server makes them when the cluster forms", cluster).then("pgctrl status %s", cluster)
	}
	return fail("cluster %s has no secret %s (it has %s)%s", cluster, name, oneOf(names), didYouMean(name, names)).then("pgctrl secret list %s", cluster)
}

func (a *app) secretList() *cobra.Command {
	c := &cobra.Command{
		Use: "list [<cluster>]", Short: "Which secrets there are; never their values", Args: cobra.MaximumNArgs(1),
		Example: "  pgctrl secret list\n  pgctrl secret list pg-test", ValidArgsFunction: a.complete(completeClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.read(cmd.Context(), append([]keys.Family{keys.Secrets}, documentFamilies...)...)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				if err := l.cluster(args[0]); err != nil {
					return err
				}
			}
			type row struct {
				Cluster  string `json:"cluster"`
				Name     string `json:"name"`
				Revision int64  `json:"revision"`
			}
			rows := []row{}
			for _, e := range l.Range(l.layout.Prefix(keys.Secrets)) {
				r, err := l.layout.Parse(e.Key)
				if err != nil || len(args) == 1 && r.Cluster != args[0] {
					continue
				}
				rows = append(rows, row{r.Cluster, r.Doc, e.ModRevision})
			}
			return a.emit(rows, func() {
				t := newTable(a.out, "CLUSTER", "SECRET", ">REVISION")
				for _, r := range rows {
					t.row(r.Cluster, r.Name, fmt.Sprint(r.Revision))
				}
				t.write(a.Out)
			})
		},
	}
	return a.withFormat(c)
}

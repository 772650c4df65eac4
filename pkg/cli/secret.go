package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

func (a *app) secretCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "secret", Short: "The passwords and certificates that pgctrl made or was given",
		Long: "Secrets are made when a cluster forms or a user is added, unless one is given, and\n" +
			"anew by pgctrl secret rotate; certificates when a cluster gets TLS, and again and again.\n" +
			"Those of an object store for backups, and of hooks, come from people (pgctrl secret set).\n" +
			"They are shown only by this command. The key that signs certificates is not among them.",
	}
	c.AddCommand(a.secretShow(), a.secretList(), a.secretSet(), a.secretRotate())
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
			e, ok, err := c.Get(cmd.Context(), a.settings.Layout.Secret(secretsOf(cluster), name))
			if err != nil {
				return err
			}
			if ok {
				fmt.Fprintln(a.Out, strings.TrimRight(string(e.Value), "\n")) // a certificate has an end of its own
				return nil
			}
			return a.noSecret(cmd.Context(), cluster, name)
		},
	}
}

func (a *app) noSecret(ctx context.Context, cluster, name string) error {
	l, err := a.read(ctx, append([]keys.Family{keys.Secrets}, documentFamilies...)...)
	if err != nil {
		return err
	}
	if cluster == scopeHooks {
		return fail("the fleet's hooks have no secret %s", name).then("pgctrl secret set %s %s", scopeHooks, name)
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
				if args[0] == scopeHooks {
					args[0] = keys.Fleet
				} else if err := l.cluster(args[0]); err != nil {
					return err
				}
			}
			type row struct {
				Cluster  string `json:"cluster"`
				Name     string `json:"name"`
				Role     string `json:"role,omitempty"`
				State    string `json:"state"`
				Revision int64  `json:"revision"`
			}
			rows := []row{}
			for _, e := range l.Range(l.layout.Prefix(keys.Secrets)) {
				r, err := l.layout.Parse(e.Key)
				if err != nil || len(args) == 1 && r.Cluster != args[0] {
					continue
				}
				role, state := l.secretRole(r.Cluster, r.Doc, e.ModRevision)
				rows = append(rows, row{r.Cluster, r.Doc, role, state, e.ModRevision})
			}
			return a.emit(rows, func() {
				t := newTable(a.out, "CLUSTER", "SECRET", "ROLE", "STATE", ">REVISION")
				for _, r := range rows {
					t.row(r.Cluster, r.Name, cmp.Or(r.Role, "-"), r.State, fmt.Sprint(r.Revision))
				}
				t.write(a.Out)
			})
		},
	}
	return a.withFormat(c)
}

// secretRole is whose password a secret is, and whether it is the one in use: while one
// role takes over from its twin there are two.
func (l *live) secretRole(cluster, name string, rev int64) (role, state string) {
	state = "in use"
	if user, is := strings.CutPrefix(name, keys.UserSecret("")); is {
		return user, state
	}
	p, paired := twins.Of(name)
	switch {
	case name == secretREST, strings.HasPrefix(name, keys.TLSSecret("")), strings.HasPrefix(name, keys.BackupTLSSecret("")), strings.HasPrefix(name, keys.HookSecret("")), slices.Contains(settable, name):
		return "", state // of Patroni's REST API, certificates, and of backups and hooks
	case !paired:
		return name, state
	}
	for i, r := range p {
		if r.Secret != name {
			continue
		}
		role = r.Role
		if other, both := l.Get(l.layout.Secret(cluster, p[1-i].Secret)); both && other.ModRevision < rev {
			state = "takes over"
		} else if both {
			state = "former, still open"
		}
	}
	return role, state
}

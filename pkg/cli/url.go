package cli

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

func (a *app) urlCommand() *cobra.Command {
	var service, authority string
	var replica bool
	c := &cobra.Command{
		Use: "url <cluster>", Short: "How clients connect",
		Long: "Prints the connection URL of a service: the cluster's virtual address if it has one,\n" +
			"else every node that routes, so that a client finds the primary through whichever\n" +
			"is up. The password is not in it.\n\n" +
			"Where the cluster has TLS, the URL asks for it. With --authority the certificate of\n" +
			"the authority that signs the cluster's own is written to that file, and the URL has\n" +
			"clients make sure by it whom they talk to.",
		Example: "  pgctrl url pg-test\n  pgctrl url pg-test --replica\n  pgctrl url pg-test --service default\n  pgctrl url pg-test --authority ca.crt\n" +
			`  PGPASSWORD=$(pgctrl secret show pg-test postgres) psql "$(pgctrl url pg-test)"`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(completeClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.read(cmd.Context(), documentFamilies...)
			if err != nil {
				return err
			}
			if err := l.cluster(args[0]); err != nil {
				return err
			}
			if replica && !cmd.Flags().Changed("service") {
				service = "replica"
			}
			docs := desired.Load(l, l.layout, args[0])
			u, err := clusterURL(docs, service)
			if err != nil {
				return err
			}
			if authority != "" {
				if authority, err = a.writeAuthority(cmd.Context(), docs, authority); err != nil {
					return err
				}
			}
			a.say("%s", secureURL(docs, u, authority))
			return nil
		},
	}
	c.Flags().StringVar(&service, "service", "primary", "the service to connect to")
	c.Flags().BoolVar(&replica, "replica", false, "the same as --service replica")
	c.Flags().StringVar(&authority, "authority", "", "write the authority's certificate to this file, and check the server by it")
	_ = c.RegisterFlagCompletionFunc("service", a.completeServices)
	return c
}

func (a *app) completeServices(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.complete(func(l *live, _ []string, _ string) []string {
		if len(args) == 0 {
			return nil
		}
		return serviceNames(desired.Load(l, l.layout, args[0]))
	})(cmd, nil, typed)
}

func serviceNames(c *desired.Cluster) []string {
	var out []string
	for _, s := range c.ServiceList() {
		out = append(out, s.Name)
	}
	return out
}

// clusterURL is the URL of a service over the virtual address, or over every node that
// routes to it.
func clusterURL(c *desired.Cluster, service string) (string, error) {
	var port int
	for _, s := range c.ServiceList() {
		if s.Name == service {
			port = s.Port
		}
	}
	if port == 0 {
		names := serviceNames(c)
		return "", fail("cluster %s has no service %s (it has %s)%s", c.Name, service, oneOf(names), didYouMean(service, names)).
			then("pgctrl get %s --effective", c.Name)
	}
	if v := &c.VIP; v.On() && !c.Invalid("vip") {
		return fmt.Sprintf("postgres://postgres@%s/postgres", net.JoinHostPort(v.Host(), fmt.Sprint(port))), nil
	}
	var hosts []string
	for _, n := range c.ProxyNodes() {
		if node := c.Nodes[n]; node != nil {
			hosts = append(hosts, net.JoinHostPort(node.Address, fmt.Sprint(port)))
		}
	}
	if len(hosts) == 0 {
		return "", fail("no node of cluster %s has an address", c.Name).then("pgctrl node list")
	}
	return "postgres://postgres@" + strings.Join(hosts, ",") + "/postgres", nil
}

// secureURL is a URL that asks for TLS where the cluster has it, and with the file of an
// authority makes sure of the server.
func secureURL(c *desired.Cluster, u, authority string) string {
	switch {
	case authority != "":
		return u + "?sslmode=verify-full&sslrootcert=" + url.QueryEscape(authority)
	case c.Postgres.HasTLS():
		return u + "?sslmode=require"
	}
	return u
}

// writeAuthority writes the certificate that clients trust to a file, never its key, and
// returns the file's whole path.
func (a *app) writeAuthority(ctx context.Context, c *desired.Cluster, file string) (string, error) {
	switch {
	case !c.Postgres.HasTLS():
		return "", fail("cluster %s has no TLS", c.Name).then("pgctrl set %s postgres tls=allow", c.Name)
	case c.Postgres.TLSCertificate != "":
		return "", fail("cluster %s has a certificate of somebody else's, %s; who signed it knows its authority", c.Name, c.Postgres.TLSCertificate).
			then("pgctrl get %s postgres", c.Name)
	}
	client, err := a.connect(ctx)
	if err != nil {
		return "", err
	}
	e, ok, err := client.Get(ctx, a.settings.Layout.Secret(c.Name, keys.TLSAuthority))
	switch {
	case err != nil:
		return "", a.unreachable(err)
	case !ok:
		return "", fail("cluster %s has no authority yet; the server makes it", c.Name).then("pgctrl status %s", c.Name)
	}
	path, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(path, e.Value, 0o644); err != nil {
		return "", fmt.Errorf("write the authority's certificate: %w", err)
	}
	return path, nil
}

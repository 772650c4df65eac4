package cli

import (
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/desired"
)

func (a *app) urlCommand() *cobra.Command {
	var service string
	var replica bool
	c := &cobra.Command{
		Use: "url <cluster>", Short: "How clients connect",
		Long: "Prints the connection URL of a service: the cluster's virtual address if it has one,\n" +
			"else every node that routes, so that a client finds the primary through whichever\n" +
			"is up. The password is not in it.",
		Example: "  pgctrl url pg-test\n  pgctrl url pg-test --replica\n  pgctrl url pg-test --service default\n" +
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
			u, err := clusterURL(desired.Load(l, l.layout, args[0]), service)
			if err != nil {
				return err
			}
			a.say("%s", u)
			return nil
		},
	}
	c.Flags().StringVar(&service, "service", "primary", "the service to connect to")
	c.Flags().BoolVar(&replica, "replica", false, "the same as --service replica")
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

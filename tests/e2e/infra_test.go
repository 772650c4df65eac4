package e2e

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// infraNodes are a host of its own and one that has a member too.
func infraNodes() []*lab.Host { return []*lab.Host{hosts.Infra, hosts.Nodes[len(hosts.Nodes)-1]} }

// withInfra gives two nodes the role infra for one test, the first of which joins for it.
func withInfra(ctx context.Context, t *testing.T) []*lab.Host {
	t.Helper()
	nodes := infraNodes()
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		tidy := func(_ string, err error) { // what comes after it is done all the same, for the next test
			if err != nil {
				t.Error(err)
			}
		}
		tidy(hosts.Infra.Exec(ctx, "systemctl", "start", "pgctrl-server"))
		tidy(hosts.Pgctrl(ctx, "set", "nodes", nodes[1].Name, "roles=[]", "--wait", "2m"))
		tidy(hosts.Pgctrl(ctx, "set", "nodes", nodes[0].Name, "roles=[]", "--wait", "2m"))
		tidy("", fleet.Until(ctx, 2*time.Minute, "nothing of what clusters share to be planned", func(ctx context.Context) error {
			for _, h := range nodes {
				for _, e := range under(ctx, t, hosts.Layout.NodePlans(h.Name)+"_node/") {
					return fmt.Errorf("there is %s", e.Key)
				}
			}
			return nil
		}))
		for _, h := range nodes { // what was measured stays, and would be there in the next test
			tidy(h.Exec(ctx, "rm", "-rf", "/var/lib/prometheus/pgctrl"))
		}
		tidy(nodes[0].Exec(ctx, "pgagent", "leave"))
		tidy(hosts.Pgctrl(ctx, "node", "remove", nodes[0].Name))
		statusReady(ctx, t)
	})
	must[string](t)(nodes[0].Exec(ctx, "pgagent", "join", "--endpoints", hosts.Endpoint()))
	must[string](t)(hosts.Pgctrl(ctx, "node", "add", nodes[0].Name, nodes[0].IP, "--role", "infra"))
	must[string](t)(hosts.Pgctrl(ctx, "set", "nodes", nodes[1].Name, "roles=[infra]"))
	return nodes
}

// resolver asks one host's dnsmasq, over the network.
func resolver(h *lab.Host) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(h.IP, "53"))
	}}
}

// ask asks a host's dnsmasq for a full name; no answer is an empty one.
func ask(ctx context.Context, h *lab.Host, name string) string {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond) // one that is lost is asked again
	defer cancel()
	addresses, _ := resolver(h).LookupHost(ctx, name+".")
	slices.Sort(addresses)
	return strings.Join(addresses, " ")
}

// leadsTo waits until every infra node answers with the addresses, sorted.
func leadsTo(ctx context.Context, t *testing.T, nodes []*lab.Host, name string, limit time.Duration, addresses ...string) {
	t.Helper()
	slices.Sort(addresses)
	want, began := strings.Join(addresses, " "), time.Now()
	ok(t, fleet.Until(ctx, limit, fmt.Sprintf("%s to lead to %q", name, want), func(ctx context.Context) error {
		for _, h := range nodes {
			if got := ask(ctx, h, name); got != want {
				return fmt.Errorf("on %s it leads to %q", h.Name, got)
			}
		}
		return nil
	}))
	t.Logf("%s leads to %q after %s", name, want, time.Since(began).Round(time.Millisecond))
}

// byHand does on a host what its agent undoes, which may come in between: systemd then cancels
// the rest of it.
func byHand(ctx context.Context, t *testing.T, h *lab.Host, argv ...string) {
	t.Helper()
	if _, err := h.Exec(ctx, argv...); err != nil && !strings.Contains(err.Error(), " canceled.") {
		t.Fatal(err)
	}
}

// replicasOf are the addresses of all nodes but the primary's.
func replicasOf(primary string) []string {
	var out []string
	for _, h := range hosts.Nodes {
		if h != hosts.Node(primary) {
			out = append(out, h.IP)
		}
	}
	return out
}

// loginByName logs in at what a host's dnsmasq says a name leads to.
func loginByName(ctx context.Context, dns *lab.Host, name string, port int, role, password, query string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=%s. port=%d sslmode=disable", name, port))
	if err != nil {
		return "", err
	}
	cfg.User, cfg.Password, cfg.Database, cfg.DefaultQueryExecMode = role, password, "postgres", pgx.QueryExecModeSimpleProtocol
	cfg.LookupFunc = resolver(dns).LookupHost
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var answer string
	err = conn.QueryRow(ctx, query).Scan(&answer)
	return answer, err
}

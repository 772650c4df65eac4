package postgres

import (
	_ "embed" // the template
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/certificate"
	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/controllers/twins"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

//go:embed patroni.yml.tmpl
var source string

// The template's own delimiters are [[ ]], because {{ }} are the placeholders
// that stay in the file until it reaches its node.
var file = template.Must(template.New("patroni.yml").Delims("[[", "]]").Funcs(template.FuncMap{
	"q":      quote,
	"yaml":   yaml,
	"secret": func(name string) string { return plan.SecretRef(name, plan.FormatYAML) },
	"bin":    desired.BinDir,
	"join":   func(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) },
}).Parse(source))

// view is what the template sees.
type view struct {
	Layout   keys.Layout
	Cluster  string
	Member   *desired.Member
	Self     plan.Member
	HBA      []HBARule
	Formed   *observed.Formed
	Etcd     []string
	Protocol string
	Dynamic  map[string]any
	Tags     map[string]any
	Watchdog string
	TLS      *certificate.Use
	// Restore is how it begins, when not empty.
	Restore *restoring
	// Repository is what a replica takes out of it.
	Repository fromRepository
	// Replicator and Rewind are whom this node logs in as.
	Replicator, Rewind twins.Role
	// AllV4 or its IPv6 sister is where the REST API listens.
	All string
}

// render is the content of one member's file.
func render(in controllers.Input, t *topology.Topology, m *desired.Member, dynamic map[string]any, tls *certificate.Use, from *restoring) string {
	v := view{
		Layout: in.Layout, Cluster: t.Docs.Name, Member: m, HBA: HBARules(t.Docs, t.Members, m.Offline), Formed: t.Formed,
		Dynamic: dynamic, Tags: tags(m), Watchdog: t.Docs.Postgres.Watchdog, All: "0.0.0.0", TLS: tls, Restore: from,
		Repository: repositoryOf(in, t, m),
		Replicator: twins.Replicator[0], Rewind: twins.Rewind[0],
	}
	if use, _ := twins.Replicator.Use(in, t, m.Node, Concern); use != nil {
		v.Replicator = use.Role
	}
	if use, _ := twins.Rewind.Use(in, t, m.Node, Concern); use != nil {
		v.Rewind = use.Role
	}
	for _, o := range t.Members {
		if o.Name == m.Name {
			v.Self = o
		}
	}
	if a, err := netip.ParseAddr(v.Self.Address); err == nil && a.Is6() {
		v.All = "::"
	}
	v.Protocol, v.Etcd = endpoints(t.Store.Endpoints)
	var b strings.Builder
	if err := file.Execute(&b, v); err != nil {
		panic(fmt.Sprintf("render Patroni's file: %v", err)) // plain data and our own template
	}
	return b.String()
}

// endpoints splits client URLs into what Patroni wants: one protocol, and hosts.
func endpoints(urls []string) (protocol string, hosts []string) {
	protocol = "http"
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" {
			hosts = append(hosts, s)
			continue
		}
		protocol = u.Scheme
		hosts = append(hosts, u.Host)
	}
	slices.Sort(hosts)
	return protocol, hosts
}

// cidr is the address as one line of pg_hba.conf wants it: exactly this host.
func cidr(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	return netip.PrefixFrom(a, a.BitLen()).String()
}

// quote writes a scalar as YAML that every version reads alike: JSON. Two opening
// braces are escaped, so that no text of a document can be taken for a placeholder.
func quote(x any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(x); err != nil {
		panic(fmt.Sprintf("quote %T: %v", x, err)) // scalars only
	}
	return strings.ReplaceAll(strings.TrimSpace(b.String()), "{{", `\u007b\u007b`)
}

// plainKey are names that no version of YAML takes for anything but text; "on",
// "no" and the like have fewer letters.
var plainKey = regexp.MustCompile(`^[a-z][a-z_]{5,}$|^(dcs|tags|ttl)$`)

// yaml writes a mapping in block style, keys sorted, indented by n spaces.
func yaml(n int, m map[string]any) string {
	var b strings.Builder
	pad := strings.Repeat(" ", n)
	for _, k := range slices.Sorted(maps.Keys(m)) {
		name := k
		if !plainKey.MatchString(k) {
			name = quote(k)
		}
		if sub, ok := m[k].(map[string]any); ok {
			fmt.Fprintf(&b, "%s%s:\n%s\n", pad, name, yaml(n+2, sub))
			continue
		}
		fmt.Fprintf(&b, "%s%s: %s\n", pad, name, quote(m[k]))
	}
	return strings.TrimRight(b.String(), "\n")
}

package haproxy

import (
	_ "embed" // the template
	"fmt"
	"net"
	"strconv"
	"strings"
	"text/template"

	"github.com/pgctrl/pgctrl/pkg/controllers/topology"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

//go:embed haproxy.cfg.tmpl
var source string

var file = template.Must(template.New("haproxy.cfg").Delims("[[", "]]").Funcs(template.FuncMap{
	"join": func(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) },
}).Parse(source))

// render is the content of one node's file; both: it listens on IPv6 as well.
func render(l keys.Layout, t *topology.Topology, node string, both bool, frontends []frontend, backends []backend) string {
	v := struct {
		Layout        keys.Layout
		Cluster, Node string
		Frontends     []frontend
		Backends      []backend
		StatsBind     string
	}{Layout: l, Cluster: t.Docs.Name, Node: node, Backends: backends}
	for _, f := range frontends {
		f.Bind = bind(both, f.Port)
		v.Frontends = append(v.Frontends, f)
	}
	if t.Docs.Stats.Enabled {
		v.StatsBind = bind(both, t.Docs.Stats.Port)
	}
	var b strings.Builder
	if err := file.Execute(&b, v); err != nil {
		panic(fmt.Sprintf("render HAProxy's file: %v", err)) // plain data and our own template
	}
	return b.String()
}

// bind is every address of the host, of both kinds if so.
func bind(both bool, port int) string {
	if both {
		return fmt.Sprintf(":::%d v4v6", port)
	}
	return fmt.Sprintf("*:%d", port)
}

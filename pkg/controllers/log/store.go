package log

import (
	_ "embed" // the template
	"fmt"
	"strings"
	"text/template"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// LokiData is where a node's Loki keeps what it gets.
const LokiData = "/var/lib/pgctrl-loki"

// Kept is how long a cluster's lines are kept, where that is not the default.
type Kept struct {
	Cluster string
	For     desired.Duration
}

// Period is For as Loki takes it.
func (k Kept) Period() string { return period(k.For) }

func period(d desired.Duration) string { return fmt.Sprintf("%ds", d.Seconds()) }

//go:embed loki.yml.tmpl
var lokiSource string

var lokiFile = template.Must(template.New("loki.yml").Delims("[[", "]]").Parse(lokiSource))

// lokiConfig renders the file of a node's Loki.
func lokiConfig(l keys.Layout, node string, own []Kept) string {
	v := struct {
		Node, PlanKey, Shared, Data, Default string
		Port                                 int
		Own                                  []Kept
	}{node, l.PlanKey(node, keys.NodeCluster, Loki), keys.NodeCluster, LokiData, period(desired.DefaultLogRetention), desired.LokiPort, own}
	var b strings.Builder
	if err := lokiFile.Execute(&b, v); err != nil {
		panic(fmt.Sprintf("render Loki's file: %v", err)) // plain data and our own template
	}
	return b.String()
}

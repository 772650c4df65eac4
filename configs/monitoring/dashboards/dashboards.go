// Package dashboards describes pgctrl's dashboards for Grafana 10 and later: which panels,
// what each asks of Prometheus, and which question of docs/DASHBOARDS.md it answers. The
// JSON files beside it are written from that by go generate.
package dashboards

import (
	"embed"
	"strings"
)

//go:generate go run ./internal/gen

//go:embed *.json
var files embed.FS

// File returns a dashboard as it is imported into Grafana.
func File(name string) ([]byte, error) { return files.ReadFile(name + ".json") }

// Dashboard is one page.
type Dashboard struct {
	// Name is the file's and the page's address: pgctrl-<name>.
	Name, Title, Says string
	// PerCluster: the page is about one cluster, which is chosen at its top.
	PerCluster bool
	Panels     []Panel
}

// Kind is how a panel shows what it asks.
type Kind string

// The kinds, as Grafana calls them.
const (
	Number   Kind = "stat"
	Graph    Kind = "timeseries"
	Timeline Kind = "state-timeline"
	Table    Kind = "table"
)

// Panel is one part of a page. Widths are of 24; a row is full or the next begins.
type Panel struct {
	Title, Says string
	Kind        Kind
	Width       int
	Unit        string
	Asks        []Ask
	// Answers are the numbers of the questions in docs/DASHBOARDS.md.
	Answers []int
	// Quiet: it is empty while nothing is wrong.
	Quiet bool
	// Red is from which value on it is shown in red; with Below, under which.
	Red   float64
	Below bool
}

// Ask is one query and how its series are called.
type Ask struct{ Expr, Legend string }

// Query is what one panel asks, with its variables filled in.
type Query struct {
	Dashboard, Panel, Expr string
	Quiet                  bool
}

// All are the dashboards.
func All() []Dashboard { return []Dashboard{fleet(), cluster(), failover()} }

// Queries are what all panels ask, about one cluster and over the last five minutes.
func Queries(name string) []Query {
	fill := strings.NewReplacer("$cluster", name, "$__rate_interval", "1m", "$__range", "5m")
	var out []Query
	for _, d := range All() {
		for _, p := range d.Panels {
			for _, a := range p.Asks {
				out = append(out, Query{d.Name, p.Title, fill.Replace(a.Expr), p.Quiet})
			}
		}
	}
	return out
}

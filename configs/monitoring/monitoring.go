// Package monitoring carries what pgctrl brings for Prometheus and Grafana: recording and
// alert rules, their cases for promtool (tests/), and dashboards (package dashboards).
// docs/ALERTS.md and docs/DASHBOARDS.md are about them.
package monitoring

import (
	"embed"
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

//go:embed recording.yml alerts.yml
var files embed.FS

// Names are the rule files, in the order in which their groups are worked out.
var Names = []string{"recording.yml", "alerts.yml"}

// Group is a group of rules.
type Group struct {
	Name  string `yaml:"name"`
	Rules []Rule `yaml:"rules"`
}

// Rule is one rule: it records or it alerts.
type Rule struct {
	Record      string            `yaml:"record"`
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         Duration          `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// Duration is how Prometheus writes it, as in 60s or 10m.
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// Groups are the rules of all files.
func Groups() []Group {
	var out []Group
	for _, name := range Names {
		var f struct {
			Groups []Group `yaml:"groups"`
		}
		b, err := files.ReadFile(name)
		if err == nil {
			err = yaml.UnmarshalWithOptions(b, &f, yaml.Strict())
		}
		if err != nil {
			panic(fmt.Sprintf("read embedded %s: %v", name, err)) // a test reads it too
		}
		out = append(out, f.Groups...)
	}
	return out
}

// Rules is one file with all rules, as a plan can carry it: no "{{" is in it, which would
// be a placeholder of pgctrl's there. Prometheus reads the same from it as from the files.
func Rules() string { return Render(Groups(), 1) }

// Render writes groups as a rule file. Whatever an alert waits for is divided by hurry: a
// test that breaks something on purpose does not have ten minutes. Everything else stays.
func Render(groups []Group, hurry int) string {
	var b strings.Builder
	b.WriteString("# Rules of pgctrl. Where they come from, with a reason for every number: configs/monitoring.\ngroups:\n")
	for _, g := range groups {
		fmt.Fprintf(&b, "- name: %s\n  rules:\n", g.Name)
		for _, r := range g.Rules {
			if r.Record != "" {
				fmt.Fprintf(&b, "  - record: %s\n", quote(r.Record))
			} else {
				fmt.Fprintf(&b, "  - alert: %s\n", quote(r.Alert))
			}
			fmt.Fprintf(&b, "    expr: %s\n", quote(r.Expr))
			if r.For > 0 {
				fmt.Fprintf(&b, "    for: %dms\n", time.Duration(r.For).Milliseconds()/int64(hurry))
			}
			for _, m := range []struct {
				name string
				of   map[string]string
			}{{"labels", r.Labels}, {"annotations", r.Annotations}} {
				if len(m.of) == 0 {
					continue
				}
				fmt.Fprintf(&b, "    %s:\n", m.name)
				for _, k := range sorted(m.of) {
					fmt.Fprintf(&b, "      %s: %s\n", k, quote(m.of[k]))
				}
			}
		}
	}
	return b.String()
}

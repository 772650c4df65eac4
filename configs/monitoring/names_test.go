package monitoring

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/configs/monitoring/dashboards"
)

// known are the names of metrics that the real programs of one image gave in the lab, and
// of what the rules record. testdata/metrics/README.md says how they were taken.
func known(t *testing.T, image string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("testdata/metrics/" + image + "/*.txt")
	if err != nil || len(files) < 7 {
		t.Fatalf("%s: %d lists of metrics: %v", image, len(files), err)
	}
	out := map[string]bool{"up": true, "ALERTS": true} // Prometheus's own
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range strings.Fields(string(b)) {
			out[name] = true
		}
	}
	for _, g := range Groups() {
		for _, r := range g.Rules {
			out[r.Record] = true
		}
	}
	return out
}

var (
	text = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	// braces, ranges, and the labels behind words that take labels.
	aside = regexp.MustCompile(`\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)`)
	word  = regexp.MustCompile(`[A-Za-z_:][A-Za-z0-9_:]*\s*\(?`)
)

// metricsIn are the names in an expression that are no function's and no word of PromQL's.
func metricsIn(expr string) []string {
	expr = aside.ReplaceAllString(text.ReplaceAllString(expr, `""`), " ")
	var out []string
	for _, w := range word.FindAllString(expr, -1) {
		name := strings.TrimSpace(w)
		switch name {
		case "by", "on", "and", "or", "unless", "bool", "e9", "x", "sum", "max", "min", "count":
			continue
		}
		if !strings.HasSuffix(name, "(") {
			out = append(out, name)
		}
	}
	return out
}

func TestMetricsIn(t *testing.T) {
	for expr, want := range map[string]string{
		`max by (cluster) (pgagent_a{b="c_d"} == 1) unless on (x, y) rate(e_total[5m:1m]) > bool 3`: "pgagent_a e_total",
		`label_replace(a:b:c, "member", "$1", "application_name", "(.+)")`:                          "a:b:c",
		`sum(up{job!="agent"}) == 0 or absent(x_y)`:                                                 "up x_y",
	} {
		if got := strings.Join(metricsIn(expr), " "); got != want {
			t.Errorf("%s: got %q, want %q", expr, got, want)
		}
	}
}

// TestNamesAreReal: a rule or panel about a metric that nobody has is silent for ever, and
// looks as if all were well.
func TestNamesAreReal(t *testing.T) {
	places := map[string]string{}
	for _, g := range Groups() {
		for _, r := range g.Rules {
			places[r.Record+r.Alert] = r.Expr
		}
	}
	for _, q := range dashboards.Queries("pg-test") {
		places[fmt.Sprintf("panel %s of %s (%s)", q.Panel, q.Dashboard, q.Expr)] = q.Expr
	}
	names, used := 0, map[string]bool{}
	for _, image := range []string{"bookworm", "trixie"} {
		have := known(t, image)
		for place, expr := range places {
			for _, name := range metricsIn(expr) {
				names, used[name] = names+1, true
				if !have[name] {
					t.Errorf("%s: no program of %s has a metric %s", place, image, name)
				}
			}
		}
	}
	if names < 150 {
		t.Errorf("%d names; this test looks at too few", names)
	}
	for _, g := range Groups() {
		for _, r := range g.Rules {
			if r.Record != "" && !used[r.Record] {
				t.Errorf("nobody uses %s", r.Record)
			}
		}
	}
}

// TestPanelsAreRead: Prometheus's own parser reads what every panel asks.
func TestPanelsAreRead(t *testing.T) {
	g := Group{Name: "panels"}
	for i, q := range dashboards.Queries("pg-test") {
		g.Rules = append(g.Rules, Rule{Record: fmt.Sprintf("panel:%s:%d", q.Dashboard, i), Expr: q.Expr})
	}
	path := write(t, "panels.yml", Render([]Group{g}, 1))
	if out, err := promtool(t, "check", "rules", path); err != nil || !strings.Contains(out, fmt.Sprintf("SUCCESS: %d rules found", len(g.Rules))) {
		t.Error(out)
	}
	g.Rules = slices.Insert(g.Rules, 0, Rule{Record: "panel:broken", Expr: "sum(up"})
	if _, err := promtool(t, "check", "rules", write(t, "broken.yml", Render([]Group{g}, 1))); err == nil {
		t.Error("a query that can't be read passes")
	}
}

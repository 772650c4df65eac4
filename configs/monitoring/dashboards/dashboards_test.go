package dashboards

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestFilesAreCurrent: what people import is what is described, and JSON.
func TestFilesAreCurrent(t *testing.T) {
	for _, d := range All() {
		want, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		got, err := File(d.Name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s.json is not current: make generate (%v)", d.Name, err)
		}
		if !json.Valid(got) {
			t.Errorf("%s.json is no JSON", d.Name)
		}
	}
}

// TestPanelsFit: each has its place, a name of its own, and says what it shows.
func TestPanelsFit(t *testing.T) {
	for _, d := range All() {
		seen := map[string]bool{}
		width := 0
		for _, p := range d.Panels {
			switch {
			case seen[p.Title]:
				t.Errorf("%s: two panels are called %q", d.Name, p.Title)
			case p.Says == "" || !strings.HasSuffix(p.Says, "."):
				t.Errorf("%s: %q says nothing", d.Name, p.Title)
			case len(p.Asks) == 0 || p.Width < 1 || p.Width > 24:
				t.Errorf("%s: %q asks nothing or has no width", d.Name, p.Title)
			}
			seen[p.Title] = true
			for _, a := range p.Asks {
				if p.Kind != Table && a.Legend == "" {
					t.Errorf("%s: a series of %q has no name", d.Name, p.Title)
				}
				if d.PerCluster != strings.Contains(a.Expr, `cluster="$cluster"`) {
					t.Errorf("%s: %q is about another cluster than the page: %s", d.Name, p.Title, a.Expr)
				}
			}
			if width += p.Width; width > 24 {
				t.Errorf("%s: %q does not fit into its row", d.Name, p.Title)
			} else if width == 24 {
				width = 0
			}
		}
		if width != 0 {
			t.Errorf("%s: the last row is not full", d.Name)
		}
	}
}

// TestQuestionsAreAnswered: docs/DASHBOARDS.md says of each question which panels answer
// it, and those are the panels that say so.
func TestQuestionsAreAnswered(t *testing.T) {
	page, err := os.ReadFile("../../../docs/DASHBOARDS.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| (\d+) \| [^|]+\? \| ([^|]+) \|$`)
	listed := map[int]string{}
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		n, _ := strconv.Atoi(m[1])
		listed[n] = m[2]
	}
	if len(listed) != 10 {
		t.Errorf("%d questions", len(listed))
	}
	for n, got := range listed {
		var pages []string
		for _, d := range All() {
			var titles []string
			for _, p := range d.Panels {
				if slices.Contains(p.Answers, n) {
					titles = append(titles, p.Title)
				}
			}
			if len(titles) > 0 {
				pages = append(pages, d.Name+": "+strings.Join(titles, ", "))
			}
		}
		if want := strings.Join(pages, "; "); want == "" || !strings.HasSuffix(got, want) {
			t.Errorf("question %d: the page says\n%s\nthe panels say\n%s", n, got, want)
		}
	}
}

// TestVariablesAreFilled: what is asked of a Prometheus has none left.
func TestVariablesAreFilled(t *testing.T) {
	qs := Queries("pg-test")
	if len(qs) < 50 {
		t.Errorf("%d queries", len(qs))
	}
	for _, q := range qs {
		if strings.Contains(q.Expr, "$") {
			t.Errorf("%s, %s: %s", q.Dashboard, q.Panel, q.Expr)
		}
	}
}

package monitoring

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// promtool runs Debian's; a machine without it is no reason to skip.
func promtool(t *testing.T, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Fatalf("promtool is not installed: make host-packages installs Debian's package prometheus (%v)", err)
	}
	out, err := exec.Command("promtool", args...).CombinedOutput()
	return string(out), err
}

// write puts content into a file of a temporary folder.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	put(t, path, content)
	return path
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// cases are the files of tests/.
func cases(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("tests/*.yml")
	if err != nil || len(files) < 5 {
		t.Fatalf("found %d files with cases: %v", len(files), err)
	}
	return files
}

func TestRulesAreAccepted(t *testing.T) {
	if out, err := promtool(t, "check", "rules", "recording.yml", "alerts.yml", write(t, "rules.yml", Rules())); err != nil {
		t.Fatal(out)
	}
	if out, err := promtool(t, append([]string{"test", "rules"}, cases(t)...)...); err != nil {
		t.Fatal(out)
	}
}

// TestPlannedRulesAreTheSame: what is put on hosts says what the files say, but for line
// breaks, and a plan takes nothing of it for a placeholder.
func TestPlannedRulesAreTheSame(t *testing.T) {
	if strings.Contains(Rules(), "{{") {
		t.Error(`"{{" is a placeholder in a plan`)
	}
	var planned struct {
		Groups []Group `yaml:"groups"`
	}
	if err := yaml.UnmarshalWithOptions([]byte(Rules()), &planned, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	oneLine := func(groups []Group) []Group {
		for _, g := range groups {
			for i := range g.Rules {
				g.Rules[i].Expr = strings.Join(strings.Fields(g.Rules[i].Expr), " ")
				for k, v := range g.Rules[i].Annotations {
					g.Rules[i].Annotations[k] = strings.Join(strings.Fields(v), " ")
				}
			}
		}
		return groups
	}
	if got, want := planned.Groups, oneLine(Groups()); !reflect.DeepEqual(got, want) {
		t.Errorf("planned:\n%+v\nfiles:\n%+v", got, want)
	}
}

// casesOf are the cases that an alert fires in, as one file that expects no other alert.
func casesOf(t *testing.T, alert string) string {
	t.Helper()
	out, mine := "", `alertname="`+alert+`"`
	for _, f := range cases(t) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		head, tests, _ := strings.Cut(string(b), "\ntests:\n")
		if out == "" {
			out = strings.ReplaceAll(head, "[../recording.yml, ../alerts.yml]", "[RULES]") + "\ntests:\n"
		}
		for _, c := range strings.Split(tests, "\n\n") {
			if !strings.Contains(c, mine) {
				continue
			}
			for _, line := range strings.Split(strings.TrimRight(c, "\n"), "\n") {
				if !strings.Contains(line, "alertname=") || strings.Contains(line, mine) {
					out += line + "\n"
				}
			}
		}
	}
	return out
}

// alone are the recording rules and one alert.
func alone(groups []Group, alert string) []Group {
	for i := range groups {
		groups[i].Rules = slices.DeleteFunc(groups[i].Rules, func(r Rule) bool { return r.Alert != alert && r.Alert != "" })
	}
	return slices.DeleteFunc(groups, func(g Group) bool { return len(g.Rules) == 0 })
}

// TestCasesCanFail: an alert that never comes, always, too late or too soon is noticed by
// its own cases.
func TestCasesCanFail(t *testing.T) {
	for _, change := range []struct {
		what string
		do   func(*Rule) bool
	}{
		{"as it is", func(*Rule) bool { return true }},
		{"that never fires", func(r *Rule) bool { r.Expr = "vector(1) > 1"; return true }},
		{"that never ends", func(r *Rule) bool { r.Expr += " or vector(1)"; return true }},
		{"that waits twice as long", func(r *Rule) bool { r.For *= 2; return r.For > 0 }},
		{"that waits half as long", func(r *Rule) bool { r.For /= 2; return r.For > 0 }},
	} {
		dir := t.TempDir()
		args := []string{"test", "rules"}
		for g, group := range Groups() {
			for i := range group.Rules {
				groups := Groups()
				r := &groups[g].Rules[i]
				if r.Alert == "" || !change.do(r) {
					continue
				}
				alert := r.Alert
				path := filepath.Join(dir, alert)
				put(t, path+".rules", Render(alone(groups, alert), 1))
				put(t, path, strings.Replace(casesOf(t, alert), "RULES", alert+".rules", 1))
				args = append(args, path)
			}
		}
		out, _ := promtool(t, args...)
		for _, said := range strings.Split(out, "Unit Testing:")[1:] {
			path, said, _ := strings.Cut(strings.TrimSpace(said), "\n")
			if passed := strings.Contains(said, "SUCCESS"); passed != (change.what == "as it is") {
				t.Errorf("%s %s: %s", filepath.Base(path), change.what, said)
			}
		}
		if n := strings.Count(out, "Unit Testing:"); n != len(args)-2 {
			t.Errorf("%s: promtool looked at %d of %d files: %s", change.what, n, len(args)-2, out)
		}
	}
}

func TestHurryDividesOnlyFor(t *testing.T) {
	short := Render(Groups(), 10)
	if _, after, _ := strings.Cut(short, "alert: \"NoPrimary\"\n"); !strings.Contains(strings.SplitN(after, "labels:", 2)[0], "    for: 6000ms\n") {
		t.Error("for is not divided")
	}
	strip := regexp.MustCompile(`(?m)^    for: .*\n`).ReplaceAllString
	if strip(short, "") != strip(Rules(), "") {
		t.Error("more than for differs")
	}
	if out, err := promtool(t, "check", "rules", write(t, "short.yml", short)); err != nil {
		t.Error(out)
	}
}

// TestEveryForHasAReason: a number without one is nobody's.
func TestEveryForHasAReason(t *testing.T) {
	b, err := files.ReadFile("alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "        for: ") && !strings.HasPrefix(lines[i-1], "        # ") {
			t.Errorf("line %d: %s: no comment above says why", i+1, strings.TrimSpace(l))
		}
	}
}

// TestEveryAlertSaysWhatToDo: severity, words with what it is about, and a page.
func TestEveryAlertSaysWhatToDo(t *testing.T) {
	pages := map[string]bool{}
	for _, g := range Groups() {
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			if s := r.Labels["severity"]; s != "critical" && s != "warning" {
				t.Errorf("%s: severity %q", r.Alert, s)
			}
			if len(r.Annotations["summary"]) < 20 || len(r.Annotations["description"]) < 80 {
				t.Errorf("%s: summary or description are too short to say anything", r.Alert)
			}
			page := "docs/runbooks/" + r.Alert + ".md"
			pages[filepath.Base(page)] = true
			if r.Annotations["runbook"] != page {
				t.Errorf("%s: runbook is %q, want %s", r.Alert, r.Annotations["runbook"], page)
			}
			b, err := os.ReadFile("../../" + page)
			if err != nil {
				t.Errorf("%s: %v", r.Alert, err)
				continue
			}
			text := string(b)
			if !strings.HasPrefix(text, "# "+r.Alert+"\n") {
				t.Errorf("%s does not begin with its name", page)
			}
			at := 0
			for _, section := range []string{"## Symptom", "## Meaning", "## Look at", "## Commands"} {
				i := strings.Index(text, "\n"+section+"\n")
				if i < at {
					t.Errorf("%s: section %q is missing or out of order", page, section)
				}
				at = max(at, i)
			}
			if !strings.Contains(text[at:], "\n    ") {
				t.Errorf("%s: no command among the commands", page)
			}
		}
	}
	all, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range all {
		if !pages[filepath.Base(page)] {
			t.Errorf("%s belongs to no alert", page)
		}
	}
	list, err := os.ReadFile("../../docs/ALERTS.md")
	if err != nil {
		t.Fatal(err)
	}
	for page := range pages {
		if !strings.Contains(string(list), "(runbooks/"+page+")") {
			t.Errorf("docs/ALERTS.md does not list %s", page)
		}
	}
}

// TestEveryAlertHasItsCases: a case in which it fires, is not there before, and is over
// after.
func TestEveryAlertHasItsCases(t *testing.T) {
	done := map[string]bool{}
	for _, f := range cases(t) {
		var file struct {
			Tests []struct {
				Name   string `yaml:"name"`
				Checks []struct {
					At      Duration `yaml:"eval_time"`
					Samples []struct {
						Labels string `yaml:"labels"`
					} `yaml:"exp_samples"`
				} `yaml:"promql_expr_test"`
			} `yaml:"tests"`
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(b, &file); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		for _, c := range file.Tests {
			seen := map[string]string{} // alert -> how often it came and went: "-", "f", "-"
			at := time.Duration(-1)
			var names []string
			for _, check := range c.Checks {
				if time.Duration(check.At) <= at {
					t.Errorf("%s: %s: checks are not in the order of time", f, c.Name)
				}
				at = time.Duration(check.At)
				for _, s := range check.Samples {
					names = append(names, alertIn(s.Labels))
				}
			}
			for _, name := range names {
				seen[name] = ""
				for _, check := range c.Checks {
					word := "-"
					if slices.ContainsFunc(check.Samples, func(s struct {
						Labels string `yaml:"labels"`
					}) bool {
						return alertIn(s.Labels) == name
					}) {
						word = "f"
					}
					if !strings.HasSuffix(seen[name], word) {
						seen[name] += word
					}
				}
				done[name] = done[name] || strings.HasSuffix(seen[name], "-f-")
			}
		}
	}
	for _, g := range Groups() {
		for _, r := range g.Rules {
			if r.Alert != "" && !done[r.Alert] {
				t.Errorf("%s has no case in which it does not fire, fires, and is over", r.Alert)
			}
		}
	}
}

var alertName = regexp.MustCompile(`alertname="([^"]+)"`)

func alertIn(labels string) string {
	if m := alertName.FindStringSubmatch(labels); m != nil {
		return m[1]
	}
	return ""
}

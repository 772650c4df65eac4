package log

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// The lines are what the real programs wrote on lab hosts of both images: a fresh cluster,
// errors of one line and of many, a switchover, etcd away, killed backends, a pooler that
// refuses, every server down. The entries are what must come of them. This file reads the
// lines with our expressions; tests/second has promtail do it, with the same outcome.

type journalled struct {
	At       int64  `json:"at"`
	Unit     string `json:"unit"`
	Priority string `json:"priority"`
	Stream   string `json:"stream"`
	Message  string `json:"message"`
}

type entry struct {
	at            time.Time
	job, severity string
	text          string
	shared        string // it is about what clusters share
}

func TestEntries(t *testing.T) {
	for _, image := range []string{"bookworm", "trixie"} {
		got := append(ofJournal(t, "testdata/lines/"+image+".jsonl"), ofBackups(t, "testdata/lines/"+image+"-backup.log")...)
		controllertest.Golden(t, "testdata/lines/"+image+".entries", []byte(show(got)))
	}
}

// TestEveryWordOfSeverityIsKnown: what a format can find has one meaning.
func TestEveryWordOfSeverityIsKnown(t *testing.T) {
	found := map[string]string{}
	for _, s := range Severities {
		for _, w := range s.Words {
			if found[w] != "" {
				t.Errorf("%s is %s and %s", w, found[w], s.Is)
			}
			found[w] = s.Is
		}
	}
	for _, f := range []Format{Postgres, Patroni, HAProxy, Backup} {
		group := regexp.MustCompile(`\?P<severity>([A-Z|]+)`).FindStringSubmatch(string(f))
		for w := range strings.SplitSeq(group[1], "|") {
			if found[w] == "" {
				t.Errorf("%s means nothing", w)
			}
		}
	}
}

// TestZones: a time is taken from the line when it says what it means.
func TestZones(t *testing.T) {
	for line, want := range map[string]string{
		"2026-11-26 15:26:05.417 UTC [845] postgres@postgres ERROR:  x":  "2026-11-26 15:26:05.417",
		"2026-11-26 15:26:05 GMT [845] LOG:  x":                          "2026-11-26 15:26:05",
		"2026-11-26 15:26:05.417 CET [845] a@b FATAL:  x":                "",
		"2026-11-26 15:26:05.417 +0530 [845] a@b DEBUG2:  x":             "",
		"2026-11-26 15:26:05.417 UTC [845] [unknown]@[unknown] LOG:  x":  "2026-11-26 15:26:05.417",
		"2026-11-26 15:26:05.417 UTC [845] app=psql,user=x LOG:  ERROR:": "2026-11-26 15:26:05.417",
	} {
		m := regexp.MustCompile(string(Postgres)).FindStringSubmatch(line)
		if m == nil || m[1] != want {
			t.Errorf("%s: %q", line, m)
		}
	}
	for _, line := range []string{
		"2026-11-26 15:26:05.417 UTC [845] postgres@postgres STATEMENT:  select 1/0;",
		"\t2026-11-26 15:26:05.417 UTC [845] postgres@postgres ERROR:  in a statement",
		"2026-11-26 15:26:05,417 INFO: Patroni",
	} {
		if regexp.MustCompile(string(Postgres)).MatchString(line) {
			t.Errorf("%q begins an entry of PostgreSQL", line)
		}
	}
}

func show(entries []entry) string {
	slices.SortStableFunc(entries, func(a, b entry) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return strings.Compare(a.job+a.severity+a.text, b.job+b.severity+b.text)
	})
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%s %s %s%s %q\n", e.at.UTC().Format("15:04:05.000000"), e.job, e.severity, e.shared, e.text)
	}
	return b.String()
}

func ofJournal(t *testing.T, file string) (out []entry) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first := regexp.MustCompile(PatroniUnit())
	open := map[string]int{} // by stream, where its last entry is in out
	for line := range bytes.Lines(content) {
		var j journalled
		if err := json.Unmarshal(line, &j); err != nil {
			t.Fatal(err)
		}
		job, _, _ := strings.Cut(strings.TrimSuffix(j.Unit, ".service"), "@")
		if at, is := open[j.Stream]; job == "patroni" && is && !first.MatchString(j.Message) {
			out[at].text += "\n" + j.Message
			continue
		}
		if job == "patroni" {
			open[j.Stream] = len(out)
		}
		out = append(out, entry{at: time.UnixMicro(j.At), job: job, severity: j.Priority, text: j.Message})
	}
	for i := range out {
		judge(t, &out[i])
	}
	return out
}

// judge finds job, severity and time; e has the journal's time and priority.
func judge(t *testing.T, e *entry) {
	t.Helper()
	priority := e.severity
	e.severity = "info"
	switch e.job {
	case "patroni":
		if read(Postgres, e) {
			e.job = "postgres"
		} else {
			read(Patroni, e)
		}
	case "pgbouncer":
		e.severity = []string{"emerg", "alert", "crit", "error", "warning", "notice", "info", "debug"}[priority[0]-'0']
	case "haproxy":
		switch {
		case regexp.MustCompile(haproxyWarns).MatchString(e.text):
			e.severity = "warning"
		case regexp.MustCompile(haproxyFails).MatchString(e.text):
			e.severity = "error"
		}
		read(HAProxy, e)
	case "pgagent":
		var line struct {
			Level, Cluster string
			TS             time.Time
		}
		if json.Unmarshal([]byte(e.text), &line) == nil {
			e.severity, e.at = line.Level, line.TS
			if line.Cluster == keys.NodeCluster {
				e.shared = " cluster=" + line.Cluster
			}
		}
	}
	e.severity = ours(e.severity)
}

func ours(word string) string {
	for _, s := range Severities {
		if slices.Contains(s.Words, word) {
			return s.Is
		}
	}
	return word
}

// read takes time and severity from an entry of the format.
func read(f Format, e *entry) bool {
	re := regexp.MustCompile(string(f))
	m := re.FindStringSubmatch(e.text)
	if m == nil {
		return false
	}
	e.severity = m[re.SubexpIndex("severity")]
	if i := re.SubexpIndex("time"); i > 0 {
		if at, err := time.Parse(TimeLayout, m[i]); err == nil {
			e.at = at
		}
	}
	return true
}

func ofBackups(t *testing.T, file string) (out []entry) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first, noise := regexp.MustCompile(string(Backup)), regexp.MustCompile(backupNoise)
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case noise.MatchString(line):
		case first.MatchString(line):
			out = append(out, entry{job: "pgbackrest", text: line})
		default:
			out[len(out)-1].text += "\n" + line
		}
	}
	for i := range out {
		read(Backup, &out[i])
		out[i].severity = ours(out[i].severity)
	}
	return out
}

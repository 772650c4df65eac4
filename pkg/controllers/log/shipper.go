package log

import (
	_ "embed" // the templates
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// This file is the shipper's configuration and all that is promtail's in it. What takes
// its place has the same Shipper to say in its own words.

// Source is a cluster on a node: whose lines there are, and which of them are sent.
type Source struct {
	Cluster string
	// Member is the cluster's member on the node; empty: HAProxy alone.
	Member  string
	Streams []string
}

// Shipper is what sends a node's lines to one Loki.
type Shipper struct {
	Layout keys.Layout
	Node   string
	// Concern is the plan's, Number which of the node's shippers it is.
	Concern string
	Number  int
	// Endpoint is the Loki's base address.
	Endpoint string
	Port     int
	Sources  []Source
}

// BackupLogs is where pgBackRest writes, a file for each stanza and command.
const BackupLogs = "/var/log/pgbackrest"

// backupCommands are those that write one. Without them the files of a cluster named a
// would be taken for those of a-b.
const backupCommands = "{archive-get,archive-get-async,archive-push,archive-push-async,backup,check,expire,restore,stanza-create,stanza-delete,stanza-upgrade,start,stop,verify}"

//go:embed promtail.yml.tmpl
var promtailSource string

var promtailFile = template.Must(template.New("promtail.yml").Delims("[[", "]]").Funcs(template.FuncMap{
	"q": func(v any) string { return quote(fmt.Sprint(v)) }, "re": regexp.QuoteMeta, "matches": matches, "said": said,
}).Parse(promtailSource))

// quote writes a YAML scalar: JSON is YAML, and a single-quoted one keeps backslashes.
func quote(s string) string {
	if !strings.ContainsAny(s, "'\n") {
		return "'" + s + "'"
	}
	b, _ := json.Marshal(s) // a string can always be
	return string(b)
}

// matches selects a program's entries by what they look like.
func matches(job, expression string) string {
	return fmt.Sprintf("{job=%q} |~ %q", job, expression)
}

// said selects entries by a program's word for a severity.
func said(s Severity) string {
	return fmt.Sprintf("{severity=~%q}", strings.Join(s.Words, "|"))
}

// Promtail renders the shipper for promtail 3.
func (s Shipper) Promtail() string {
	v := promtail{Shipper: s}
	var b strings.Builder
	if err := promtailFile.Execute(&b, v); err != nil {
		panic(fmt.Sprintf("render promtail's file: %v", err)) // plain data and our own template
	}
	return b.String()
}

// promtail is what its template asks of a Shipper.
type promtail struct{ Shipper }

func (p promtail) PlanKey() string {
	return p.Layout.PlanKey(p.Node, keys.NodeCluster, p.Concern)
}
func (promtail) Shared() string { return keys.NodeCluster }
func (p promtail) Push() string { return p.Endpoint + "/loki/api/v1/push" }

// Positions is named after the endpoint: another Loki has got nothing yet.
func (p promtail) Positions() string {
	return fmt.Sprintf("/var/lib/pgctrl-promtail/%s.yml", slug(p.Endpoint))
}

// slug is an address as a file name.
func slug(endpoint string) string {
	return strings.Trim(regexp.MustCompile(`[^A-Za-z0-9.]+`).ReplaceAllString(endpoint, "_"), "_")
}

// Members are the sources that have one.
func (p promtail) Members() []Source {
	return slices.DeleteFunc(slices.Clone(p.Sources), func(s Source) bool { return s.Member == "" })
}

// Units are those whose lines are read.
func (p promtail) Units() (units []string) {
	agent := false
	for _, s := range p.Sources {
		if s.sends("patroni") || s.sends("postgres") {
			units = append(units, "patroni@"+s.Cluster+".service")
		}
		if s.sends("pgbouncer") {
			units = append(units, "pgbouncer@"+s.Cluster+".service")
		}
		if slices.Contains(s.Streams, "haproxy") {
			units = append(units, "haproxy@"+s.Cluster+".service")
		}
		agent = agent || slices.Contains(s.Streams, "pgagent")
	}
	if agent {
		units = append(units, "pgagent.service")
	}
	return units
}

// sends reports whether lines of a program that only members have are sent.
func (s Source) sends(stream string) bool {
	return s.Member != "" && slices.Contains(s.Streams, stream)
}

// Drops select what is read and not to be sent: one of the two that share a unit, and what
// the agent says of clusters whose agent's lines are not sent.
func (p promtail) Drops() (selectors []string) {
	agent := []string{"", keys.NodeCluster}
	for _, s := range p.Sources {
		for _, pair := range [][2]string{{"patroni", "postgres"}, {"postgres", "patroni"}} {
			if s.sends(pair[0]) && !s.sends(pair[1]) {
				selectors = append(selectors, fmt.Sprintf("{job=%q, cluster=%q}", pair[1], s.Cluster))
			}
		}
		if slices.Contains(s.Streams, "pgagent") {
			agent = append(agent, s.Cluster)
		}
	}
	return append(selectors, fmt.Sprintf("{job=\"pgagent\", cluster!~%q}", strings.Join(agent, "|")))
}

// backup is where a cluster's pgBackRest writes.
type backup struct{ Cluster, Member, Path string }

func (p promtail) Backups() (out []backup) {
	for _, s := range p.Sources {
		if s.sends("pgbackrest") {
			out = append(out, backup{s.Cluster, s.Member, fmt.Sprintf("%s/%s-%s.log", BackupLogs, s.Cluster, backupCommands)})
		}
	}
	return out
}

// The formats, for the template.
func (promtail) PatroniUnit() string    { return PatroniUnit() }
func (promtail) Postgres() Format       { return Postgres }
func (promtail) Patroni() Format        { return Patroni }
func (promtail) HAProxy() Format        { return HAProxy }
func (promtail) HAProxyWarns() string   { return haproxyWarns }
func (promtail) HAProxyFails() string   { return haproxyFails }
func (promtail) Severities() []Severity { return Severities }
func (promtail) Backup() Format         { return Backup }
func (promtail) BackupNoise() string    { return backupNoise }
func (promtail) TimeLayout() string     { return TimeLayout }

// Line is a source as a comment of the file, from which sourcesIn reads it again.
func (s Source) Line() string {
	member := s.Member
	if member == "" {
		member = "-"
	}
	return fmt.Sprintf("#: %s %s %s", s.Cluster, member, strings.Join(s.Streams, ","))
}

// endpointIn reads where the lines of a rendered file go.
func endpointIn(content string) string {
	for line := range strings.Lines(content) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "#:" && f[1] == "to" {
			return f[2]
		}
	}
	return ""
}

// sourcesIn reads the sources of a file that was rendered earlier, whatever program it is
// for.
func sourcesIn(content string) (out []Source) {
	for line := range strings.Lines(content) {
		f := strings.Fields(line)
		if len(f) != 4 || f[0] != "#:" {
			continue
		}
		s := Source{Cluster: f[1], Member: strings.TrimPrefix(f[2], "-")}
		for _, stream := range strings.Split(f[3], ",") {
			if slices.Contains(desired.LogStreams(), stream) {
				s.Streams = append(s.Streams, stream)
			}
		}
		out = append(out, s)
	}
	return out
}

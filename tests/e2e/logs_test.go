package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// loggedWithin is how long after it is ready a new member's lines are in Loki, and how
// long after its removal nobody looks for them any more.
const loggedWithin = 15 * time.Second

// logLine is an entry as Loki has it.
type logLine struct {
	labels map[string]string
	at     time.Time
	text   string
}

// loki asks one host's Loki, over the network, for the newest lines of the last hours.
func loki(ctx context.Context, h *lab.Host, query string) (out []logLine, err error) {
	q := url.Values{"query": {query}, "since": {"3h"}, "limit": {"5000"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.IP+":3100/loki/api/v1/query_range?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var answer struct {
		Data struct {
			Result []struct {
				Stream map[string]string
				Values [][2]string
			}
		}
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask %s for %s: %s", h.Name, query, res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("ask %s for %s: %w", h.Name, query, err)
	}
	for _, s := range answer.Data.Result {
		for _, v := range s.Values {
			at, err := strconv.ParseInt(v[0], 10, 64)
			if err != nil {
				return nil, err
			}
			out = append(out, logLine{s.Stream, time.Unix(0, at).UTC(), v[1]})
		}
	}
	return out, nil
}

// logged waits until a Loki has at least n lines that answer the query.
func logged(ctx context.Context, t *testing.T, h *lab.Host, query string, n int, limit time.Duration) []logLine {
	t.Helper()
	var lines []logLine
	ok(t, fleet.Until(ctx, limit, fmt.Sprintf("%d lines of %s in Loki on %s", n, query, h.Name), func(ctx context.Context) (err error) {
		if lines, err = loki(ctx, h, query); err == nil && len(lines) < n {
			err = fmt.Errorf("there are %d", len(lines))
		}
		return err
	}))
	return lines
}

// withLogs gives every host promtail and Loki for one test, as a person would install them
// after pgctrl has said that they are missing.
func withLogs(ctx context.Context, t *testing.T) (lokis []*lab.Host) {
	t.Helper()
	dir := must[string](t)(lab.Second(ctx, lab.Loki, lab.NewLog(os.Stderr)))
	t.Cleanup(func() { // after the units are gone
		for _, h := range hosts.Lab.Hosts() {
			_, _ = h.Exec(context.WithoutCancel(ctx), "sh", "-c", "rm -rf /usr/bin/promtail /usr/bin/loki /var/lib/private/pgctrl-promtail /var/lib/private/pgctrl-loki /var/lib/pgctrl-promtail /var/lib/pgctrl-loki")
		}
	})
	lokis = withInfra(ctx, t)
	ok(t, fleet.Until(ctx, 30*time.Second, "pgctrl to say what is missing", func(ctx context.Context) error {
		said, _ := hosts.Pgctrl(ctx, "status")
		for _, want := range []string{"promtail is not installed", "loki is not installed", "next: apt-get install -y promtail"} {
			if !strings.Contains(said, want) {
				return errors.New(said)
			}
		}
		return nil
	}))
	statusReady(ctx, t) // a cluster needs none of it
	for _, h := range hosts.Lab.Hosts() {
		for _, p := range []string{"promtail", "loki"} {
			ok(t, h.CopyFile(ctx, filepath.Join(dir, p), "/usr/bin/"+p, 0o755))
		}
	}
	return lokis
}

// TestLogsOfEveryProgram: what each program says is in both Lokis, whole, with its labels
// and the line's own time.
func TestLogsOfEveryProgram(t *testing.T) {
	ctx := begin(t)
	lokis := withLogs(ctx, t)
	for _, l := range lokis {
		for _, h := range hosts.Nodes {
			for _, job := range []string{"postgres", "patroni", "pgbouncer", "haproxy", "pgagent"} {
				query := fmt.Sprintf(`{cluster=%q, job=%q, node=%q}`, cluster, job, h.Name)
				for _, line := range logged(ctx, t, l, query, 1, 90*time.Second) {
					if m := line.labels["member"]; hosts.Node(m) != h || line.labels["severity"] == "" || len(line.labels) != 5 {
						t.Fatalf("%s: labels %v", query, line.labels)
					}
				}
			}
		}
	}

	leader := must[string](t)(hosts.Leader(ctx, cluster))
	h := hosts.Node(leader)
	const statement = "select 'logs-of-every-program',\n  1/0\nfrom\tpg_class;"
	began := time.Now()
	_, _ = h.Exec(ctx, "runuser", "-u", "postgres", "--", "psql", "-X", "-c", statement) // it fails, that is the point
	for _, l := range lokis {
		line := logged(ctx, t, l, `{job="postgres", severity="error"} |= "logs-of-every-program"`, 1, 15*time.Second)[0]
		t.Logf("on %s after %s: %q", l.Name, time.Since(began).Round(time.Millisecond), line.text)
		first, rest, _ := strings.Cut(line.text, "\n")
		if !strings.HasSuffix(first, "postgres@postgres ERROR:  division by zero") ||
			!strings.HasSuffix(rest, "STATEMENT:  select 'logs-of-every-program',\n\t  1/0\n\tfrom\tpg_class;") {
			t.Errorf("on %s the entry is %q", l.Name, line.text)
		}
		if want := line.at.Format("2006-01-02 15:04:05.000") + " UTC"; !strings.HasPrefix(line.text, want) || line.at.Before(began.Add(-time.Second)) {
			t.Errorf("on %s the time of the entry is %s: %q", l.Name, line.at, line.text)
		}
		if line.labels["member"] != leader || line.labels["node"] != h.Name {
			t.Errorf("on %s its labels are %v", l.Name, line.labels)
		}
	}

	backup := fmt.Sprintf("runuser -u postgres -- pgbackrest --stanza=%s --pg1-path=$(runuser -u postgres -- psql -XAtc 'show data_directory') --repo1-path=/tmp/logs --log-level-file=info --log-level-console=off stanza-create", cluster)
	t.Cleanup(func() {
		_, _ = h.Exec(context.WithoutCancel(ctx), "sh", "-c", "rm -rf /tmp/logs /var/log/pgbackrest/*")
	})
	must[string](t)(h.Exec(ctx, "sh", "-c", backup))
	for _, l := range lokis {
		lines := logged(ctx, t, l, fmt.Sprintf(`{job="pgbackrest", node=%q, member=%q, severity="info"} |= "stanza-create command end: completed"`, h.Name, leader), 1, 30*time.Second)
		if want := lines[0].at.Format("2006-01-02 15:04:05.000") + " P00"; !strings.HasPrefix(lines[0].text, want) {
			t.Errorf("on %s the time of the entry is %s: %q", l.Name, lines[0].at, lines[0].text)
		}
	}

	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "log", "streams=[postgres]", "--wait", "0"))
	t.Cleanup(func() { drop(context.WithoutCancel(ctx), t, hosts.Layout.ClusterDoc(cluster, "log")) })
	ok(t, fleet.Until(ctx, loggedWithin, "promtail to read PostgreSQL alone", func(ctx context.Context) error {
		units, err := h.Exec(ctx, "grep", "_SYSTEMD_UNIT=", "/etc/pgctrl/promtail/1.yml")
		if err == nil && strings.TrimSpace(units) != "_SYSTEMD_UNIT=patroni@"+cluster+".service" {
			err = errors.New(units)
		}
		return err
	}))
}

// TestLogsOutlastALoki: one Loki that can't be reached keeps nothing from the other, and
// has every line once when it is back. A promtail that is killed goes on where it was.
func TestLogsOutlastALoki(t *testing.T) {
	ctx := begin(t)
	lokis := withLogs(ctx, t)
	there, away := lokis[0], lokis[1]
	leader := must[string](t)(hosts.Leader(ctx, cluster))
	h := hosts.Node(leader)
	for _, l := range lokis {
		logged(ctx, t, l, fmt.Sprintf(`{job="postgres", node=%q}`, h.Name), 1, 90*time.Second)
	}
	const wall = "nft add table inet logs; nft 'add chain inet logs in { type filter hook input priority 0; }'; nft add rule inet logs in tcp dport 3100 drop"
	open := func() {
		_, _ = away.Exec(context.WithoutCancel(ctx), "nft", "delete", "table", "inet", "logs")
	}
	t.Cleanup(open)
	must[string](t)(away.Exec(ctx, "sh", "-c", wall))
	const n = 500
	say := func(word string) {
		t.Helper()
		must[string](t)(h.Exec(ctx, "runuser", "-u", "postgres", "--", "psql", "-X", "-c",
			fmt.Sprintf("do $$ begin for i in 1..%d loop raise log '%s %%', i; perform pg_sleep(0.01); end loop; end $$", n, word)))
	}
	say("outlast-one")
	began := time.Now()
	if got := logged(ctx, t, there, `{job="postgres"} |= "LOG:  outlast-one"`, n, 15*time.Second); len(got) != n {
		t.Errorf("%s has %d lines", there.Name, len(got))
	}
	t.Logf("%s had all %d lines %s after the last", there.Name, n, time.Since(began).Round(time.Millisecond))
	open()
	began = time.Now()
	if got := logged(ctx, t, away, `{job="postgres"} |= "LOG:  outlast-one"`, n, 60*time.Second); len(got) != n {
		t.Errorf("%s has %d lines", away.Name, len(got))
	}
	t.Logf("%s had all of them %s after it could be reached again", away.Name, time.Since(began).Round(time.Millisecond))

	// Killed, promtail goes on where it was; what it reads twice Loki keeps once.
	say("outlast-two")
	began = time.Now()
	for _, l := range lokis { // what was read and not sent when it is killed may be missing, see docs/LOGS.md
		logged(ctx, t, l, `{job="postgres"} |= "LOG:  outlast-two"`, n, 30*time.Second)
	}
	t.Logf("both had the second %d %s after the last", n, time.Since(began).Round(time.Millisecond))
	must[string](t)(h.Exec(ctx, "systemctl", "kill", "-s", "KILL", "pgctrl-promtail@1.service"))
	say("outlast-three")
	time.Sleep(time.Second)
	counts := map[string]int{}
	ok(t, fleet.Until(ctx, 30*time.Second, "all lines in both Lokis", func(ctx context.Context) error {
		for _, l := range lokis {
			for _, word := range []string{"two", "three"} {
				lines, err := loki(ctx, l, fmt.Sprintf(`{job="postgres"} |= "LOG:  outlast-%s"`, word))
				if err != nil {
					return err
				}
				if counts[l.Name+" "+word] = len(lines); len(lines) < n {
					return fmt.Errorf("%v", counts)
				}
			}
		}
		return nil
	}))
	for what, count := range counts {
		if count != n {
			t.Errorf("%s: %d lines of %d", what, count, n)
		}
	}
}

// TestLogsFollowMembership: with no act by anyone a new member is logged when it is ready,
// and one that was removed is looked for no more.
func TestLogsFollowMembership(t *testing.T) {
	ctx := begin(t)
	lokis := withLogs(ctx, t)
	leadsFirst(ctx, t)
	third := cluster + "-3"
	h := hosts.Node(third)
	for _, l := range lokis {
		logged(ctx, t, l, fmt.Sprintf(`{job="patroni", member=%q}`, third), 1, 90*time.Second)
	}
	removed(ctx, t, cluster, third, "--confirm", third)
	began := time.Now()
	ok(t, fleet.Until(ctx, loggedWithin, "nobody to look for its lines", func(ctx context.Context) error {
		// The node has role infra and a Loki, and nothing of the cluster.
		out, err := h.Exec(ctx, "sh", "-c", "ls /etc/pgctrl/promtail 2>/dev/null; systemctl is-active pgctrl-promtail@1 pgctrl-promtail@2 | sort -u")
		if strings.TrimSpace(out) != "inactive" {
			return fmt.Errorf("%q: %w", out, errors.Join(err, errors.New("there is a promtail")))
		}
		return nil
	}))
	t.Logf("promtail was gone %s after the member was", time.Since(began).Round(time.Millisecond))

	began = time.Now()
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "members/"+third, "node="+h.Name, "--wait", "2m"))
	ok(t, hosts.Whole(ctx, cluster, 2*time.Minute))
	ready := time.Now()
	for _, l := range lokis {
		query := fmt.Sprintf(`{job="postgres", cluster=%q, member=%q, node=%q}`, cluster, third, h.Name)
		ok(t, fleet.Until(ctx, loggedWithin, "the new member's lines on "+l.Name, func(ctx context.Context) error {
			lines, err := loki(ctx, l, query)
			if err == nil && !slices.ContainsFunc(lines, func(line logLine) bool { return line.at.After(began) }) {
				err = fmt.Errorf("none of %d is new", len(lines))
			}
			return err
		}))
		t.Logf("on %s %s after it was ready", l.Name, time.Since(ready).Round(time.Millisecond))
	}
	statusReady(ctx, t)
}

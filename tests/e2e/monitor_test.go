package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/pgctrl/pgctrl/tests/prom"
)

// Bounds of issue 5.
const (
	// scrapedWithin: a new member is measured, and one that was removed is no more.
	scrapedWithin = 15 * time.Second
	// labelsWithin is how long after its confirmation a primary is called one at most, on a
	// busy machine; see namesWithin.
	labelsWithin = 5 * time.Second
)

// prometheus is the one on a host.
func prometheus(h *lab.Host) prom.Server { return prom.Server("http://" + h.IP + ":9090") }

// wanted are the targets that there must be, as job/what.
func wanted(infra []*lab.Host, members []string) []string {
	out := []string{"etcd/infra1", "agent/infra1"}
	for _, h := range infra {
		out = append(out, "prometheus/"+h.Name, "server/"+h.Name)
	}
	for _, h := range hosts.Nodes {
		out = append(out, "agent/"+h.Name)
	}
	for _, m := range members {
		out = append(out, "postgres/"+m, "pgbouncer/"+m, "patroni/"+m, "haproxy/"+hosts.Node(m).Name)
	}
	slices.Sort(out)
	return out
}

// allUp fails unless every Prometheus has just these targets, has looked at each, and found
// it up. A server runs on infra1 alone.
func allUp(ctx context.Context, infra []*lab.Host, members []string) error {
	var errs []error
	for _, h := range infra {
		if err := upFor(ctx, h, wanted(infra, members)); err != nil {
			errs = append(errs, fmt.Errorf("on %s: %w", h.Name, err))
		}
	}
	return errors.Join(errs...)
}

func upFor(ctx context.Context, h *lab.Host, want []string) error {
	ts, err := prometheus(h).Targets(ctx)
	if err != nil {
		return err
	}
	var has []string
	var errs []error
	for _, m := range ts {
		what := m.Labels["member"]
		if what == "" {
			what = m.Labels["node"]
		}
		has = append(has, m.Labels["job"]+"/"+what)
		if alone := m.Labels["job"] == "server" && what != "infra1"; m.Health != "up" && !alone {
			errs = append(errs, fmt.Errorf("%s of %s is %s: %s", m.Labels["job"], what, m.Health, m.LastError))
		}
	}
	slices.Sort(has)
	if !slices.Equal(has, want) {
		errs = append(errs, fmt.Errorf("it looks at\n%v, want\n%v", has, want))
	}
	return errors.Join(errs...)
}

// exportersLeft prints what is left of exporters on a host.
const exportersLeft = "systemctl list-units --plain --no-legend --state=active 'postgres-exporter@*' 'pgbouncer-exporter@*'; ls /etc/pgctrl/exporters 2>/dev/null || true"

func memberNames() []string {
	var out []string
	for i := range hosts.Nodes {
		out = append(out, fmt.Sprintf("%s-%d", cluster, i+1))
	}
	return out
}

// TestMonitorFindsItsTargets: with a node that has role infra a real Prometheus looks at
// everything there is, by membership: a member that goes is looked at no more and has no
// name, and one that comes is and has, with no act by anyone.
func TestMonitorFindsItsTargets(t *testing.T) {
	ctx := begin(t)
	leadsFirst(ctx, t)
	infra := withInfra(ctx, t)
	namesUnder(ctx, t)
	everyone := memberNames()
	looks := func(what string, limit time.Duration, members []string) {
		t.Helper()
		start := time.Now()
		ok(t, fleet.Until(ctx, limit, what, func(ctx context.Context) error { return allUp(ctx, infra, members) }))
		t.Logf("%s: after %s", what, time.Since(start).Round(100*time.Millisecond))
	}
	looks("Prometheus to look at everything from the node's first word", 90*time.Second, everyone)
	statusReady(ctx, t)
	for query, want := range map[string]int{
		`pg_up == 1`: len(everyone), `pgbouncer_up == 1`: len(everyone), `patroni_primary{role="primary"} == 1`: 1, `patroni_primary{role="replica"} == 0`: len(everyone) - 1,
		`sum by (cluster) (pg_stat_database_numbackends)`: 1, `haproxy_backend_status{proxy="primary",state="UP"} == 1`: len(everyone),
		`pgagent_view_age_seconds{cluster="` + cluster + `"} < 3`: len(everyone) + 1, `etcd_server_has_leader == 1`: 1, `up{job!="server"} == 0`: 0, `pgbouncer_config_max_client_connections`: len(everyone),
	} {
		// A scrape in the middle of the move before has another answer, until the next one.
		ok(t, fleet.Until(ctx, 30*time.Second, query, func(ctx context.Context) error {
			lines, err := prometheus(infra[1]).Query(ctx, query)
			if err == nil && len(lines) != want {
				err = fmt.Errorf("%d samples, want %d: %v", len(lines), want, lines)
			}
			return err
		}))
	}
	rss(ctx, t)
	series, err := prometheus(infra[0]).Query(ctx, `prometheus_tsdb_head_series{node="infra1"}`)
	t.Logf("series: %v, %v", series, err)

	gone := everyone[1] // the last one's node has role infra, and the first one leads
	removed(ctx, t, cluster, gone, "--confirm", gone)
	looks(gone+" to be gone", scrapedWithin, slices.Delete(slices.Clone(everyone), 1, 2))
	leadsTo(ctx, t, infra, gone+suffix, namesAtMost)
	if out, err := hosts.Node(gone).Exec(ctx, "sh", "-c", exportersLeft); err != nil || out != "" {
		t.Errorf("left on its host: %s, %v", out, err)
	}
	operated(ctx, t, "set", cluster, "members/"+gone, "node="+hosts.Node(gone).Name, "--wait", "2m")
	ok(t, hosts.Whole(ctx, cluster, 2*time.Minute))
	leadsTo(ctx, t, infra, gone+suffix, namesAtMost, hosts.Node(gone).IP)
	looks(gone+" to be looked at after it is ready", scrapedWithin, everyone)
	statusReady(ctx, t)

	t.Cleanup(func() { drop(context.Background(), t, hosts.Layout.ClusterDoc(cluster, "monitor")) })
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "monitor", "enabled=false"))
	ok(t, fleet.Until(ctx, scrapedWithin, "no exporter to be there", func(ctx context.Context) error {
		for _, h := range hosts.Nodes {
			if out, err := h.Exec(ctx, "sh", "-c", exportersLeft); err != nil || out != "" {
				return fmt.Errorf("%s has %s (%v)", h.Name, out, err)
			}
		}
		return nil
	}))
	must[string](t)(hosts.Pgctrl(ctx, "unset", cluster, "monitor", "enabled"))
	looks("everything after monitoring was switched on again", 90*time.Second, everyone)
}

// TestR1RoleLabelsFollowWithoutControllers: the file of targets on infra1 calls another
// member primary at its confirmation with every server stopped, and Prometheus
// has it so.
func TestR1RoleLabelsFollowWithoutControllers(t *testing.T) {
	ctx := begin(t)
	infra := withInfra(ctx, t)
	from, to := leaderAndNext(ctx, t)
	calls := func(ctx context.Context, h *lab.Host, member string) error {
		ts, err := prometheus(h).Targets(ctx)
		if err != nil {
			return err
		}
		for _, m := range ts {
			want := map[bool]string{true: "primary", false: "replica"}[m.Labels["member"] == member]
			if m.Labels["member"] != "" && m.Labels["role"] != want {
				return fmt.Errorf("%s of %s has role %q", m.Labels["job"], m.Labels["member"], m.Labels["role"])
			}
		}
		if len(ts) < len(wanted(infra, memberNames())) {
			return fmt.Errorf("%d targets", len(ts))
		}
		return nil
	}
	both := func(limit time.Duration, member string) {
		t.Helper()
		ok(t, fleet.Until(ctx, limit, member+" to be called primary", func(ctx context.Context) error {
			return errors.Join(calls(ctx, infra[0], member), calls(ctx, infra[1], member))
		}))
	}
	both(90*time.Second, from)
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "stop", "pgctrl-server"))
	at := confirmation(ctx, t, to)
	changed := make(chan time.Time, 1)
	watching, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	go func() {
		_, err := hosts.Infra.Exec(watching, "sh", "-c", fmt.Sprintf(
			`while ! grep "member: '%s'" /etc/pgctrl/targets.d/%s.yml | grep -q "role: 'primary'"; do sleep 0.02; done`, to, cluster))
		if err == nil {
			changed <- time.Now()
		}
	}()
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	confirmed := wait(ctx, t, at, 20*time.Second)
	took := wait(ctx, t, changed, 20*time.Second).Sub(confirmed)
	t.Logf("%s was called primary %s after it was confirmed", to, took)
	if took > labelsWithin {
		t.Errorf("the label changed %s after the confirmation, want at most %s", took, labelsWithin)
	}
	start := time.Now()
	both(scrapedWithin, to)
	t.Logf("Prometheus had it so %s after the switchover", time.Since(start).Round(100*time.Millisecond))
}

// TestR9ExportersComeBack: killed or stopped, an exporter answers again within a second, and
// Prometheus on its node too.
func TestR9ExportersComeBack(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	back := func(h *lab.Host, port string, act ...string) {
		t.Helper()
		byHand(ctx, t, h, act...)
		start := time.Now()
		ok(t, fleet.Until(ctx, 5*time.Second, strings.Join(act, " ")+" to be undone", func(ctx context.Context) error {
			_, err := h.Exec(ctx, "curl", "-sf", "-m", "1", "-o", "/dev/null", "http://127.0.0.1:"+port+"/")
			return err
		}))
		took := time.Since(start)
		t.Logf("%s: back after %s", strings.Join(act, " "), took.Round(10*time.Millisecond))
		if took > repairedAtMost {
			t.Errorf("%s: back after %s, promised: 1s, at most %s here", strings.Join(act, " "), took, repairedAtMost)
		}
		statusReady(ctx, t)
		hold(ctx, 2*time.Second) // the repair is over as well
	}
	for port, unit := range map[string]string{"9630": "postgres-exporter@" + cluster, "9631": "pgbouncer-exporter@" + cluster} {
		back(hosts.Nodes[1], port, "systemctl", "kill", "-s", "KILL", unit)
		back(hosts.Nodes[1], port, "systemctl", "stop", unit)
		back(hosts.Nodes[1], port, "systemctl", "disable", "--now", unit)
	}
	statusReady(ctx, t)
}

// TestMonitorWithoutItsPackage: what a host lacks is said with the command that helps, and
// the cluster is Ready all the same.
func TestMonitorWithoutItsPackage(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	h := hosts.Nodes[2]
	const program = "/usr/bin/prometheus-postgres-exporter"
	t.Cleanup(func() {
		_, _ = h.Exec(context.Background(), "sh", "-c", "test -e "+program+" || mv "+program+".away "+program)
	})
	must[string](t)(h.Exec(ctx, "sh", "-c", "mv "+program+" "+program+".away; systemctl stop postgres-exporter@"+cluster))
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "monitor", "postgres_port=9633", "--wait", "0"))
	statusSays(ctx, t, "MissingProgram", "postgres_exporter is not installed", "apt-get install -y --no-install-recommends prometheus-postgres-exporter")
	statusReady(ctx, t)
	must[string](t)(h.Exec(ctx, "mv", program+".away", program))
	must[string](t)(hosts.Pgctrl(ctx, "unset", cluster, "monitor", "postgres_port"))
	ok(t, fleet.Until(ctx, time.Minute, "the exporter", func(ctx context.Context) error {
		_, err := h.Exec(ctx, "curl", "-sf", "-m", "1", "-o", "/dev/null", "http://127.0.0.1:9630/metrics")
		return err
	}))
}

// TestR11ExportersHideTheirPassword: it is in no environment and no file that others read.
func TestR11ExportersHideTheirPassword(t *testing.T) {
	ctx := begin(t)
	secrets := secretValues(ctx, t)
	for _, h := range hosts.Nodes {
		seen := must[string](t)(h.Exec(ctx, "sh", "-c", "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; find /etc/pgctrl /run/credentials -type f -perm /o=r -exec cat {} +"))
		for key, value := range secrets {
			if strings.Contains(seen, value) {
				t.Errorf("%s shows %s", h.Name, key)
			}
		}
	}
}

// rss logs what everything that runs beside PostgreSQL takes, for docs/MONITORING.md.
func rss(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, h := range append(infraNodes(), hosts.Nodes[0], hosts.Nodes[1]) {
		out, err := h.Exec(ctx, "sh", "-c", `for u in pgagent pgctrl-server pgctrl-etcd pgctrl-prometheus dnsmasq haproxy@`+cluster+` pgbouncer@`+cluster+` patroni@`+cluster+` postgres-exporter@`+cluster+` pgbouncer-exporter@`+cluster+`; do
  total=0; for p in $(cat /sys/fs/cgroup/$(systemctl show -p ControlGroup --value $u)/cgroup.procs 2>/dev/null); do
    case $(cat /proc/$p/comm) in postgres) ;; *) total=$((total + $(awk '/^Pss:/ {print $2}' /proc/$p/smaps_rollup)));; esac; done
  test $total -gt 0 && echo "$u $((total / 1024)) MB"; done; true`)
		t.Logf("%s: %v\n%s", h.Name, err, out)
	}
}

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/configs/monitoring"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/pgctrl/pgctrl/tests/prom"
)

// alertsHurry is by how much the rules' "for" is divided here: ten minutes are 15 s.
// Everything else of the rules is as on hosts; how long they wait is for promtool's cases.
const alertsHurry = 40

// alertsFire is how long after its fault an alert may come here, and alertsEnd how long
// after the fault is gone it may stay: the longest "for" is 15 s, targets are looked at
// every 2 s, and some faults take their time to show or to heal.
const (
	alertsFire = 40 * time.Second
	alertsEnd  = 90 * time.Second
)

// hurried is a second Prometheus on infra1, beside pgctrl's own: the same targets, by the
// same files, and the same rules, looked at every 2 s and with less patience.
func hurried(ctx context.Context, t *testing.T, h *lab.Host) prom.Server {
	t.Helper()
	const dir = "/run/hurried"
	must[string](t)(h.Exec(ctx, "mkdir", "-p", dir+"/data"))
	ok(t, h.WriteFile(ctx, dir+"/rules.yml", 0o644, []byte(monitoring.Render(monitoring.Groups(), alertsHurry))))
	ok(t, h.WriteFile(ctx, dir+"/prometheus.yml", 0o644, []byte(`
global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs:
- job_name: pgctrl
  file_sd_configs: [{files: [/etc/pgctrl/targets.d/*.yml]}]
`)))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		_, _ = h.Exec(ctx, "systemctl", "stop", "hurried.service")
		_, _ = h.Exec(ctx, "rm", "-r", dir)
	})
	must[string](t)(h.Exec(ctx, "systemd-run", "--unit=hurried", "--collect", "prometheus",
		"--config.file="+dir+"/prometheus.yml", "--storage.tsdb.path="+dir+"/data", "--web.listen-address=:9099"))
	server := prom.Server("http://" + h.IP + ":9099")
	ok(t, fleet.Until(ctx, 45*time.Second, "everything to be measured and nothing to fire", func(ctx context.Context) error {
		ss, err := server.Query(ctx, `up{job!="server"}`)
		if err != nil {
			return err
		}
		// Of each member three and its HAProxy, of each node its agent, etcd, two Prometheus.
		if want := 4*len(hosts.Nodes) + len(hosts.Nodes) + 1 + 1 + 2; len(ss) < want {
			return fmt.Errorf("%d targets, want %d at least", len(ss), want)
		}
		for _, s := range ss {
			if s.Value != 1 {
				return fmt.Errorf("%v is down", s.Labels)
			}
		}
		return quiet(ctx, server)
	}))
	return server
}

// quiet fails while anything fires.
func quiet(ctx context.Context, server prom.Server) error {
	alerts, err := server.Alerts(ctx)
	if err != nil {
		return err
	}
	for _, a := range alerts {
		if a.State == "firing" {
			return fmt.Errorf("%s fires: %v", a.Labels["alertname"], a.Labels)
		}
	}
	return nil
}

// fault is something that is wrong with a cluster, and what it is called then.
type fault struct {
	alert  string
	labels map[string]string
	// says is a word that the alert's description must have.
	says string
	act  func(ctx context.Context) error
	undo func(ctx context.Context) error
}

// TestAlertsFireAndClear: a real fault makes its alert fire, with words that name what is
// wrong, and the alert is over when the fault is.
func TestAlertsFireAndClear(t *testing.T) {
	ctx := begin(t)
	infra := withInfra(ctx, t)[0]
	server := hurried(ctx, t, infra)
	leader := must[string](t)(hosts.Leader(ctx, cluster))
	var replicas []string
	for i := range hosts.Nodes {
		if m := fmt.Sprintf("%s-%d", cluster, i+1); m != leader {
			replicas = append(replicas, m)
		}
	}
	for _, f := range faults(t, leader, replicas) {
		t.Run(f.alert, func(t *testing.T) { fireAndClear(ctx, t, server, f) })
	}
	ok(t, fleet.Until(ctx, alertsEnd, "nothing to fire at the end", func(ctx context.Context) error { return quiet(ctx, server) }))
}

// fireAndClear has the fault done, waits for its alert, has it undone and waits for the end.
func fireAndClear(ctx context.Context, t *testing.T, server prom.Server, f fault) {
	undone := false
	undo := func() {
		if !undone {
			undone = true
			if err := f.undo(context.WithoutCancel(ctx)); err != nil {
				t.Errorf("undo: %v", err)
			}
		}
	}
	defer undo()
	// What the last one did may be told by others a little longer, as drift by NotConverged.
	ok(t, fleet.Until(ctx, alertsEnd, "nothing to fire before the fault", func(ctx context.Context) error {
		alerts, err := server.Alerts(ctx)
		if err != nil {
			return err
		}
		for _, a := range alerts {
			if a.State == "firing" || a.Labels["alertname"] == f.alert {
				return fmt.Errorf("%s is %s: %v", a.Labels["alertname"], a.State, a.Labels)
			}
		}
		return nil
	}))
	started := time.Now()
	ok(t, f.act(ctx))
	var said prom.Alert
	ok(t, fleet.Until(ctx, alertsFire, f.alert+" to fire", func(ctx context.Context) error {
		a, err := firing(ctx, server, f)
		if err == nil && a == nil {
			err = fmt.Errorf("it does not fire")
		}
		if err == nil {
			said = *a
		}
		return err
	}))
	fired := time.Since(started)
	words := strings.Join(strings.Fields(said.Annotations["summary"]+" "+said.Annotations["description"]), " ")
	for _, bad := range []string{"<no value>", "<error", "%!"} {
		if strings.Contains(words, bad) {
			t.Errorf("the alert says %q", words)
		}
	}
	if !strings.Contains(words, f.says) {
		t.Errorf("the alert says %q and not %q", words, f.says)
	}
	started = time.Now()
	undo()
	ok(t, fleet.Until(ctx, alertsEnd, f.alert+" to be over", func(ctx context.Context) error {
		a, err := firing(ctx, server, f)
		if err == nil && a != nil {
			err = fmt.Errorf("%v still fires", a.Labels)
		}
		return err
	}))
	t.Logf("fired %.1f s after the fault, over %.1f s after its end: %s", fired.Seconds(), time.Since(started).Seconds(), words)
}

// firing is the fault's alert; nil: it does not fire.
func firing(ctx context.Context, server prom.Server, f fault) (*prom.Alert, error) {
	alerts, err := server.Alerts(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(alerts, func(a prom.Alert) bool {
		for k, v := range f.labels {
			if a.Labels[k] != v {
				return false
			}
		}
		return a.Labels["alertname"] == f.alert && a.State == "firing"
	})
	if i < 0 {
		return nil, nil
	}
	return &alerts[i], nil
}

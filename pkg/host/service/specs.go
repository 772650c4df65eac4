package service

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// ListenVariable tells each program where to listen; units put it behind the program's
// own flag.
const ListenVariable = "LISTEN"

// The programs that plans may name.
const (
	PostgresExporter = plan.PostgresExporter
	PoolerExporter   = plan.PoolerExporter
	Prometheus       = "prometheus"
	Promtail         = "promtail"
	Loki             = "loki"
)

// Where Prometheus's files are.
const (
	PrometheusDir = "/etc/pgctrl/prometheus"
	RulesDir      = "/etc/pgctrl/rules.d"
)

// exporterSurvives is five times what an exporter takes from its start to its answer, in
// which it has read all that it reads. While it is watched nothing else of the cluster is
// looked after on the node.
const exporterSurvives = 500 * time.Millisecond

// exporterWithin is thirty times what an exporter takes to answer, on a machine with
// nothing else to do.
const exporterWithin = 3 * time.Second

// Where promtail's and Loki's files are.
const (
	PromtailDir = "/etc/pgctrl/promtail"
	LokiDir     = "/etc/pgctrl/loki"
)

// grafana says where programs come from that Debian has not.
const grafana = "   (from Grafana's archive, apt.grafana.com: docs/LOGS.md)"

// Specs are the programs, by the word in plan.Unit.Program.
var Specs = map[string]Spec{
	PostgresExporter: {
		Package: "prometheus-postgres-exporter", Binary: "/usr/bin/prometheus-postgres-exporter", Reload: Restart, Within: exporterWithin,
		Port: PortFromEnvironment(ListenVariable), ReadyPath: "/", Survive: exporterSurvives,
	},
	// It is the agent's own program: what Debian 12 ships fails at every PgBouncer since 1.8.
	PoolerExporter: {
		Reload: Restart, Within: exporterWithin, Port: PortFromEnvironment(ListenVariable), ReadyPath: "/", Survive: exporterSurvives,
	},
	Prometheus: {
		Package: "prometheus", Binary: "/usr/bin/prometheus", Reload: Hangup,
		// The second looks into rules, which --syntax-only does not.
		Checks: []Check{
			{Pattern: PrometheusDir + "/*.yml", Command: []string{"promtool", "check", "config", "--syntax-only"}},
			{Pattern: RulesDir + "/*.yml", Command: []string{"promtool", "check", "rules"}},
		},
		Port: PortFromEnvironment(ListenVariable), ReadyPath: "/-/ready", Loaded: prometheusLoaded,
	},
	// Both could read their files again, and promtail would wait for a Loki that is away
	// until it did. A start is the same and ends.
	Promtail: {
		Package: "promtail" + grafana, Reload: Restart,
		Checks: []Check{{Pattern: PromtailDir + "/*.yml", Command: []string{"promtail", "-check-syntax", "-config.file"}}},
		Port:   PortFromLine("http_listen_port"), ReadyPath: "/ready",
	},
	// Its /ready waits ten seconds until its own parts have found each other.
	Loki: {
		Package: "loki" + grafana, Reload: Restart,
		Checks: []Check{{Pattern: LokiDir + "/*.yml", Command: []string{"loki", "-verify-config", "-config.file"}}},
		Port:   PortFromLine("http_listen_port"), ReadyPath: "/loki/api/v1/status/buildinfo",
	},
}

// prometheusLoaded reads what Prometheus says of its last reload. Its time in
// /api/v1/status/runtimeinfo is in whole seconds, that in its metrics is exact.
func prometheusLoaded(ctx context.Context, get Get) (Loaded, error) {
	text, err := get(ctx, "/metrics")
	if err != nil {
		return Loaded{}, err
	}
	var l Loaded
	found := 0
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "prometheus_config_last_reload_success_timestamp_seconds":
			l.Mark, found = value, found+1
		case "prometheus_config_last_reload_successful":
			l.Failed, found = value != "1", found+1
		}
	}
	if found != 2 {
		return Loaded{}, errors.New("its metrics do not say when it read its files")
	}
	return l, nil
}

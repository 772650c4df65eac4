package pgbouncer

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestExporterIsTheStatsUser: a real PgBouncer's metrics, over a restart of it, by a role
// that may look and do nothing.
func TestExporterIsTheStatsUser(t *testing.T) {
	r := newRig(t)
	u := r.unit("stats_users = looker")
	u.Files[1].Content += "\"looker\" " + plan.SecretRef("looker", plan.FormatVerifier) + "\n"
	if err := r.apply(u); err != nil {
		t.Fatal(err)
	}
	pgpass := filepath.Join(r.dir, "pgpass")
	if err := os.WriteFile(pgpass, []byte("*:*:*:looker:hushhush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGPASSFILE", pgpass)
	e := NewExporter(filepath.Join(r.dir, "run/pg"), "looker", zap.NewNop())
	t.Cleanup(func() {
		if e.conn != nil {
			e.conn.close()
		}
	})
	got := gather(t, e)
	for name, value := range map[string]float64{
		"pgbouncer_up": 1, "pgbouncer_databases_pool_size name=app": 7, "pgbouncer_config_max_client_connections": 100,
		"pgbouncer_used_clients": 1, "pgbouncer_pools_client_maxwait_seconds": 0, "pgbouncer_version_info": 1,
	} {
		if has, there := got[name]; !there || has != value {
			t.Errorf("%s is %v (there: %v), want %v", name, has, there, value)
		}
	}
	if _, there := got["pgbouncer_stats_queries_pooled_total"]; !there {
		t.Errorf("no statistics: %v", got)
	}
	if _, err := e.conn.ask(context.Background(), "PAUSE"); err == nil || !strings.Contains(err.Error(), "admin access needed") {
		t.Errorf("it could pause the pooler: %v", err)
	}
	r.kill(syscall.SIGKILL)
	if got := gather(t, e); got["pgbouncer_up"] != 0 {
		t.Error("PgBouncer is not there, and its exporter says that it is up")
	}
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if got = gather(t, e); got["pgbouncer_up"] == 1 {
			return
		}
	}
	t.Error("after a restart of PgBouncer its exporter says that it is down")
}

// gather are the metrics, with the name of the database or pool where there is one.
func gather(t *testing.T, e *Exporter) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(e)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				if l.GetName() == "name" {
					name += " name=" + l.GetValue()
				}
			}
			out[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

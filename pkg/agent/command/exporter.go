package command

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/agent/config"
	"github.com/pgctrl/pgctrl/pkg/host/pgbouncer"
	"github.com/pgctrl/pgctrl/pkg/host/service"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func (a *app) poolerExporterCommand() *cobra.Command {
	return &cobra.Command{
		Use: "pooler-exporter <cluster>", Short: "Serve a pooler's metrics (pgbouncer-exporter@.service runs this)",
		Long: `Serves what the cluster's PgBouncer on this host shows as metrics, at the address in
the environment's ` + service.ListenVariable + `. It logs in as PGUSER, whose password is in the file PGPASSFILE,
and needs neither the agent nor etcd.`,
		Example: "  LISTEN=:9631 PGUSER=pgctrl_monitor pgagent pooler-exporter pg-test",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			listen, user := a.Getenv(service.ListenVariable), a.Getenv("PGUSER")
			if listen == "" || user == "" {
				return fmt.Errorf("expected %s and PGUSER in the environment; systemctl start pgbouncer-exporter@%s", service.ListenVariable, args[0])
			}
			log, err := logger(config.Config{LogLevel: "info", Log: "auto"})
			if err != nil {
				return err
			}
			defer func() { _ = log.Sync() }() // standard error can't be synced everywhere
			registry := prometheus.NewRegistry()
			registry.MustRegister(pgbouncer.NewExporter(plan.PoolerDir(args[0]), user, log))
			return serveMetrics(cmd.Context(), listen, registry)
		},
	}
}

// serveMetrics answers until the context ends.
func serveMetrics(ctx context.Context, listen string, registry *prometheus.Registry) error {
	// It stands idle between two scrapes; the memory is the database's.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(20)
	}
	runtime.GOMAXPROCS(1)
	server := &http.Server{Addr: listen, Handler: metricsOf(registry), ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

func metricsOf(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "metrics are at /metrics") })
	return mux
}

package pgbouncer

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Exporter turns what a PgBouncer shows into metrics, under the names that Prometheus's
// own pgbouncer_exporter (Debian 13) gives them, so that dashboards made for that fit.
// Debian 12 ships another program, which ends at once: it wants a column that PgBouncer
// lost in 1.8 (measured with 1.18).
//
// It logs in as a role that may only look, and keeps its connection: a login costs a
// PgBouncer that serves everybody in one thread more than an answer does.
type Exporter struct {
	dir  string
	user string
	log  *zap.Logger

	mu   sync.Mutex // one scrape at a time
	conn *console
}

var _ prometheus.Collector = (*Exporter)(nil)

// scrapeTimeout is below the 10 s that Prometheus waits by default.
const scrapeTimeout = 5 * time.Second

// NewExporter makes the exporter of the PgBouncer whose socket is in the folder. The
// user's password is where libpq looks for it (PGPASSFILE).
func NewExporter(dir, user string, log *zap.Logger) *Exporter {
	return &Exporter{dir: dir, user: user, log: log}
}

// column is what becomes of one column of an answer.
type column struct {
	metric, help string
	factor       float64
}

// table is one SHOW, with a line per labels.
type table struct {
	show, prefix string
	kind         prometheus.ValueType
	labels       []string
	columns      map[string]column
}

var tables = []table{
	{"STATS", "pgbouncer_stats_", prometheus.CounterValue, []string{"database"}, map[string]column{
		"total_query_count": {"queries_pooled_total", "Queries.", 1},
		"total_query_time":  {"queries_duration_seconds_total", "Time in which PostgreSQL was at queries.", 1e-6},
		"total_xact_count":  {"sql_transactions_pooled_total", "Transactions.", 1},
		"total_xact_time":   {"server_in_transaction_seconds_total", "Time that connections to PostgreSQL were in a transaction.", 1e-6},
		"total_wait_time":   {"client_wait_seconds_total", "Time that clients waited for a connection to PostgreSQL.", 1e-6},
		"total_received":    {"received_bytes_total", "Bytes received.", 1},
		"total_sent":        {"sent_bytes_total", "Bytes sent.", 1},
	}},
	{"POOLS", "pgbouncer_pools_", prometheus.GaugeValue, []string{"database", "user"}, map[string]column{
		"cl_active":  {"client_active_connections", "Clients that have a connection to PostgreSQL, or want none at the moment.", 1},
		"cl_waiting": {"client_waiting_connections", "Clients that wait for a connection to PostgreSQL.", 1},
		"sv_active":  {"server_active_connections", "Connections to PostgreSQL that a client has.", 1},
		"sv_idle":    {"server_idle_connections", "Connections to PostgreSQL that are free.", 1},
		"sv_used":    {"server_used_connections", "Connections to PostgreSQL that are looked at before a client gets them.", 1},
		"sv_tested":  {"server_testing_connections", "Connections to PostgreSQL that are being looked at.", 1},
		"sv_login":   {"server_login_connections", "Connections to PostgreSQL that are logging in.", 1},
		"maxwait":    {"client_maxwait_seconds", "How long the client has waited that has waited longest.", 1},
	}},
	{"DATABASES", "pgbouncer_databases_", prometheus.GaugeValue, []string{"name", "host", "port", "database", "force_user", "pool_mode"}, map[string]column{
		"pool_size":           {"pool_size", "Connections to PostgreSQL that a pool may have.", 1},
		"max_connections":     {"max_connections", "Connections to PostgreSQL that the database may have; 0: any number.", 1},
		"current_connections": {"current_connections", "Connections to PostgreSQL that the database has.", 1},
		"paused":              {"paused", "1 while the database is paused.", 1},
		"disabled":            {"disabled", "1 while the database is disabled.", 1},
	}},
}

// lists and settings are answers with a line per name.
var (
	lists = map[string]string{
		"databases": "pgbouncer_databases", "users": "pgbouncer_users", "pools": "pgbouncer_pools",
		"free_clients": "pgbouncer_free_clients", "used_clients": "pgbouncer_used_clients", "login_clients": "pgbouncer_login_clients",
		"free_servers": "pgbouncer_free_servers", "used_servers": "pgbouncer_used_servers",
	}
	settings = map[string]string{
		"max_client_conn": "pgbouncer_config_max_client_connections", "max_user_connections": "pgbouncer_config_max_user_connections",
	}
)

// Describe implements prometheus.Collector. It says nothing: what there is depends on
// the PgBouncer.
func (e *Exporter) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (e *Exporter) Collect(ch chan<- prometheus.Metric) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	metrics, err := e.read(ctx)
	if err != nil && ctx.Err() == nil { // it was restarted since the last time, perhaps
		metrics, err = e.read(ctx)
	}
	up := 1.0
	if err != nil {
		up = 0
		e.log.Warn("PgBouncer does not say how it is", zap.Error(err))
	}
	for _, m := range metrics {
		ch <- m
	}
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("pgbouncer_up", "1 while PgBouncer answers.", nil, nil), prometheus.GaugeValue, up)
}

// read is one attempt. A connection that failed is not used again.
func (e *Exporter) read(ctx context.Context) (out []prometheus.Metric, err error) {
	if e.conn == nil {
		if e.conn, err = openAs(ctx, e.dir, e.user); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			e.conn.close()
			e.conn = nil
		}
	}()
	for _, t := range tables {
		rows, err := e.conn.ask(ctx, "SHOW "+t.show)
		if err != nil {
			return nil, err
		}
		out = append(out, t.metrics(rows)...)
	}
	for _, named := range []struct {
		show, name, value string
		metrics           map[string]string
	}{{"LISTS", "list", "items", lists}, {"CONFIG", "key", "value", settings}} {
		rows, err := e.conn.ask(ctx, "SHOW "+named.show)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			metric, known := named.metrics[r[named.name]]
			value, err := strconv.ParseFloat(r[named.value], 64)
			if !known || err != nil {
				continue
			}
			out = append(out, prometheus.MustNewConstMetric(
				prometheus.NewDesc(metric, "What SHOW "+named.show+" has as "+r[named.name]+".", nil, nil), prometheus.GaugeValue, value))
		}
	}
	// It is sent as the connection is made, and again when that changes.
	version := prometheus.NewDesc("pgbouncer_version_info", "The version of PgBouncer.", []string{"version"}, nil)
	return append(out, prometheus.MustNewConstMetric(version, prometheus.GaugeValue, 1,
		strings.TrimSuffix(e.conn.conn.ParameterStatus("server_version"), "/bouncer"))), nil
}

// metrics are a table's, of those columns that this PgBouncer shows.
func (t table) metrics(rows []row) []prometheus.Metric {
	var out []prometheus.Metric
	for _, r := range rows {
		labels := make([]string, len(t.labels))
		for i, l := range t.labels {
			labels[i] = strings.ToValidUTF8(r[l], string(utf8.RuneError))
		}
		for name, c := range t.columns {
			value, err := strconv.ParseFloat(r[name], 64)
			if err != nil {
				continue
			}
			if name == "maxwait" {
				if us, err := strconv.ParseFloat(r["maxwait_us"], 64); err == nil {
					value += us * 1e-6
				}
			}
			out = append(out, prometheus.MustNewConstMetric(prometheus.NewDesc(t.prefix+c.metric, c.help, t.labels, nil), t.kind, value*c.factor, labels...))
		}
	}
	return out
}

// openAs connects to the console with a password.
func openAs(ctx context.Context, dir, user string) (*console, error) {
	port, err := socketIn(dir)
	if err != nil {
		return nil, err
	}
	pc, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s dbname=pgbouncer sslmode=disable", dir, port, user))
	if err != nil {
		return nil, fmt.Errorf("connect to the console in %s: %w", dir, err)
	}
	pc.RuntimeParams = nil
	c := &console{port: port}
	if c.conn, err = pgconn.ConnectConfig(ctx, pc); err != nil {
		return nil, fmt.Errorf("connect to the console in %s: %w", dir, err)
	}
	return c, nil
}

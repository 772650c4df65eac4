package engine

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgctrl/pgctrl/pkg/store"
)

// metrics is what the engine counts. Everything that can happen is there from the
// start with 0, so that a first occurrence is a rate and not a new series.
type metrics struct {
	reconciles *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	panics     prometheus.Counter
	writes     *prometheus.CounterVec
	skipped    prometheus.Counter
	whole      prometheus.Counter
	all        []prometheus.Collector
}

func newMetrics(e *Engine) *metrics {
	m := &metrics{
		reconciles: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pgctrl_engine_reconcile_total", Help: "Steps of the controllers, by what came of them.",
		}, []string{"controller", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pgctrl_engine_reconcile_seconds", Help: "How long steps took, writing included.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}, []string{"controller"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pgctrl_engine_panics_total", Help: "Panics of controllers, undeclared reads included.",
		}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pgctrl_engine_writes_total", Help: "Keys written, by family.",
		}, []string{"family"}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pgctrl_engine_writes_skipped_total", Help: "Outputs that were so already.",
		}),
		whole: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pgctrl_engine_plans_read_total", Help: "Plans read from etcd because a controller wanted to see them whole.",
		}),
	}
	for _, c := range e.controllers {
		for _, r := range results {
			m.reconciles.WithLabelValues(c.Name(), r)
		}
		m.seconds.WithLabelValues(c.Name())
		for _, w := range c.writes {
			m.writes.WithLabelValues(string(w.name))
		}
	}
	m.all = []prometheus.Collector{
		m.reconciles, m.seconds, m.panics, m.writes, m.skipped, m.whole,
		gauge("pgctrl_engine_queue_depth", "Keys that wait for a worker.", nil, func() float64 {
			if t := e.term.Load(); t != nil {
				return float64(t.queue.Len())
			}
			return 0
		}),
		gauge("pgctrl_engine_leader", "1 while this engine leads.", nil, func() float64 {
			if _, ok := e.Leading(); ok {
				return 1
			}
			return 0
		}),
	}
	for name, mirror := range map[string]*store.Mirror{"bulk": e.bulk, "fast": e.fast} {
		m.all = append(m.all, mirrorMetrics(name, mirror)...)
	}
	return m
}

func mirrorMetrics(name string, m *store.Mirror) []prometheus.Collector {
	labels := prometheus.Labels{"mirror": name}
	counter := func(name, help string, f func() int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(f()) })
	}
	return []prometheus.Collector{
		gauge("pgctrl_store_watch_staleness_seconds", "Age of the newest proof that the mirror has everything; -1 before the first.", labels, func() float64 {
			at, _ := m.Fresh()
			if at.IsZero() {
				return -1
			}
			return time.Since(at).Seconds()
		}),
		counter("pgctrl_store_divergence_total", "Keys that a full compare found different from etcd; not 0 is a fault.", m.Divergences),
		counter("pgctrl_store_relist_total", "Full lists after the first one.", m.Relists),
	}
}

func gauge(name, help string, labels prometheus.Labels, f func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, f)
}

func (m *metrics) register(r prometheus.Registerer) error {
	for _, c := range m.all {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

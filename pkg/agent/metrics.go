package agent

import "github.com/prometheus/client_golang/prometheus"

// metrics are what the agent counts and times; gauges are what holds at this moment.
// Names are part of its interface.
type metrics struct {
	moveSeconds *prometheus.HistogramVec // cluster
	moves       *prometheus.CounterVec   // cluster
	asserts     *prometheus.CounterVec   // cluster, result
	confirms    *prometheus.CounterVec   // cluster, kind
	confirmTime *prometheus.HistogramVec // cluster
	drift       *prometheus.CounterVec   // concern, resource
	repairTime  *prometheus.HistogramVec // concern
	converge    *prometheus.HistogramVec // concern
	reports     *prometheus.CounterVec   // result
	vipActs     *prometheus.CounterVec   // cluster, act
	vipSeconds  *prometheus.HistogramVec // cluster
}

func newMetrics(r prometheus.Registerer) *metrics {
	// A move is one etcd hop and a few socket round trips of 0.3 to 0.8 ms.
	fast := []float64{.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5}
	slow := []float64{.01, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 120}
	m := &metrics{
		moveSeconds: histogram("pgagent_route_move_seconds", "From a leader or primary event received to HAProxy told.", fast, "cluster"),
		moves:       counter("pgagent_route_moves_total", "Servers whose state was changed.", "cluster"),
		asserts:     counter("pgagent_route_asserts_total", "Times that routes were asserted, by result: ok or error.", "cluster", "result"),
		confirms:    counter("pgagent_confirms_total", "Primary records written, by kind: own, other or withdraw.", "cluster", "kind"),
		confirmTime: histogram("pgagent_confirm_seconds", "From PostgreSQL asked to its confirmation written.", fast, "cluster"),
		drift:       counter("pgagent_drift_total", "Resources found different from what had been applied.", "concern", "resource"),
		repairTime:  histogram("pgagent_drift_repair_seconds", "From drift noticed to the host being as planned again.", slow, "concern"),
		converge:    histogram("pgagent_converge_seconds", "From a plan received to the host being so.", slow, "concern"),
		reports:     counter("pgagent_reports_total", "Reports, by result: written, conflict or error.", "result"),
	}
	m.vipActs = counter("pgagent_vip_acts_total", "Times that the virtual address was added or removed, by act.", "cluster", "act")
	m.vipSeconds = histogram("pgagent_vip_take_seconds", "From this node's member seen confirmed to the virtual address added.", fast, "cluster")
	r.MustRegister(m.vipActs, m.vipSeconds)
	r.MustRegister(m.moveSeconds, m.moves, m.asserts, m.confirms, m.confirmTime, m.drift, m.repairTime, m.converge, m.reports)
	return m
}

// begin has what a move of the leader counts there with 0: the first move after a start is
// a rate then, and not a new series.
func (m *metrics) begin(cluster string) {
	for _, h := range []*prometheus.HistogramVec{m.moveSeconds, m.confirmTime, m.vipSeconds} {
		h.WithLabelValues(cluster)
	}
	m.moves.WithLabelValues(cluster)
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

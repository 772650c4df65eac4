package agent

import "github.com/prometheus/client_golang/prometheus"

// metrics are the agent's own; names are part of its interface.
type metrics struct {
	moveSeconds *prometheus.HistogramVec // cluster
	moves       *prometheus.CounterVec   // cluster
	asserts     *prometheus.CounterVec   // cluster, result
	confirmed   *prometheus.GaugeVec     // cluster
	confirms    *prometheus.CounterVec   // cluster, kind
	confirmTime *prometheus.HistogramVec // cluster
	drift       *prometheus.CounterVec   // concern, resource
	converge    *prometheus.HistogramVec // concern
	reports     *prometheus.CounterVec   // result
	viewAge     *prometheus.GaugeVec     // cluster
	vipHeld     *prometheus.GaugeVec     // cluster
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
		confirmed: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pgagent_primary_confirmed", Help: "1 while the agent's fresh view has a confirmed primary."}, []string{"cluster"}),
		confirms:    counter("pgagent_confirms_total", "Primary records written, by kind: own, other or withdraw.", "cluster", "kind"),
		confirmTime: histogram("pgagent_confirm_seconds", "From PostgreSQL asked to its confirmation written.", fast, "cluster"),
		drift:       counter("pgagent_drift_total", "Resources found different from what had been applied.", "concern", "resource"),
		converge:    histogram("pgagent_converge_seconds", "From a plan received to the host being so.", slow, "concern"),
		reports:     counter("pgagent_reports_total", "Reports, by result: written, conflict or error.", "result"),
		viewAge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pgagent_view_age_seconds", Help: "Age of the newest proof that the view of etcd is current."}, []string{"cluster"}),
	}
	m.vipHeld = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "pgagent_vip_held", Help: "1 while the cluster's virtual address is on this host."}, []string{"cluster"})
	m.vipActs = counter("pgagent_vip_acts_total", "Times that the virtual address was added or removed, by act.", "cluster", "act")
	m.vipSeconds = histogram("pgagent_vip_take_seconds", "From this node's member seen confirmed to the virtual address added.", fast, "cluster")
	r.MustRegister(m.vipHeld, m.vipActs, m.vipSeconds)
	r.MustRegister(m.moveSeconds, m.moves, m.asserts, m.confirmed, m.confirms, m.confirmTime, m.drift, m.converge, m.reports, m.viewAge)
	return m
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

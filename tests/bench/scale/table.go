package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// table is everything that was measured.
type table struct {
	clusters int
	nothing  planned
	size     []size
	restarts []restarted
	changes  []round
	after    usage // of the server, after the changes
}

func (t table) print(w io.Writer) {
	fmt.Fprintf(w, "\n%d clusters of %d members; `pgctrl server` and `pgctrl etcd` are processes of their own\n\n", t.clusters, members)
	for _, s := range t.size {
		fmt.Fprintf(w, "%-12s %8d keys %10s\n", s.family, s.keys, mib(int64(s.bytes)))
	}
	fmt.Fprintf(w, "\nplanned from nothing in %s (CPU %s), memory at most %s\n\n", seconds(t.nothing.took), seconds(t.nothing.cpu), mib(t.nothing.peak))
	fmt.Fprintf(w, "%-9s %8s %9s %9s %9s %9s %9s %7s %9s\n", "restart", "ready", "compared", "CPU", "at ready", "after", "peak", "plans", "revisions")
	for i, r := range t.restarts {
		fmt.Fprintf(w, "%-9d %8s %9s %9s %9s %9s %9s %7d %9d\n", i+1, seconds(r.ready), seconds(r.compared), seconds(r.at.cpu),
			mib(r.atReady.resident), mib(r.at.resident), mib(r.at.peak), r.plans, r.writes)
	}
	if len(t.changes) == 0 {
		return
	}
	fmt.Fprintf(w, "memory after the changes: %s, peak %s\n", mib(t.after.resident), mib(t.after.peak))
	fmt.Fprintf(w, "\n%d rounds of %d changes; the median of the rounds, and the least and the most\n\n", len(t.changes), len(t.changes[0][bare]))
	fmt.Fprintf(w, "%-32s %23s %23s %14s %14s\n", "", "p50", "p99", "to bare", "to put, put")
	names := []string{bare, relay}
	for _, d := range documents {
		names = append(names, d.name)
	}
	for _, name := range names {
		fmt.Fprintf(w, "%-32s %23s %23s %14s %14s\n", name, t.spread(name, 0.5), t.spread(name, 0.99), t.ratios(name, bare), t.ratios(name, relay))
	}
}

// spread is a quantile's median, least and most over the rounds.
func (t table) spread(name string, q float64) string {
	var of []time.Duration
	for _, r := range t.changes {
		of = append(of, quantile(r[name], q))
	}
	slices.Sort(of)
	return fmt.Sprintf("%s (%s..%s)", millis(of[len(of)/2]), millis(of[0]), millis(of[len(of)-1]))
}

// ratios is how many times longer the median is than another's in the same round.
func (t table) ratios(name, than string) string {
	var of []float64
	for _, r := range t.changes {
		of = append(of, float64(quantile(r[name], 0.5))/float64(quantile(r[than], 0.5)))
	}
	slices.Sort(of)
	return fmt.Sprintf("%.2f (%.2f..%.2f)", of[len(of)/2], of[0], of[len(of)-1])
}

// quantile is the nearest rank.
func quantile(list []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d.Microseconds())/1000) }

func mib(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

type report struct {
	Started time.Time
	Idle    *idle
	Moves   []move
	Reloads []reloads
}

func (r report) print(w io.Writer) {
	if r.Idle != nil {
		r.Idle.print(w)
	}
	if len(r.Moves) == 0 && len(r.Reloads) == 0 {
		return
	}
	column := func(get func(move) time.Duration) []time.Duration {
		out := make([]time.Duration, len(r.Moves))
		for i, m := range r.Moves {
			out[i] = get(m)
		}
		slices.Sort(out)
		return out
	}
	ours, checks := column(func(m move) time.Duration { return m.Ours }), column(func(m move) time.Duration { return m.Checks })
	fmt.Fprintf(w, "\n%d planned switchovers; attempts are new connections that write one row\n\n", len(r.Moves))
	fmt.Fprintf(w, "%-46s %10s %10s %10s %10s\n", "", "min", "p50", "p99", "max")
	row(w, "Patroni's floor (old 5432 to new 5432)", column(func(m move) time.Duration { return m.Floor }))
	row(w, "writable to first write, pgctrl 5436", ours)
	row(w, "writable to first write, checks alone", checks)
	row(w, "gap a client sees, pgctrl 5436", column(func(m move) time.Duration { return m.OursGap }))
	row(w, "gap a client sees, checks alone", column(func(m move) time.Duration { return m.ChecksGap }))
	var a, b int
	for _, m := range r.Moves {
		a, b = a+m.OursLeaks, b+m.ChecksLeaks
	}
	fmt.Fprintf(w, "\nattempts that reached a server in recovery during the moves: pgctrl %d, checks alone %d\n", a, b)
	if len(ours) > 0 && ours[len(ours)/2] > 0 {
		fmt.Fprintf(w, "checks alone take %.0f times as long (p50 to p50)\n", float64(checks[len(checks)/2])/float64(ours[len(ours)/2]))
	}
	fmt.Fprintln(w, "\nconnections that reached a replica through a read-write service, under writes")
	for _, x := range r.Reloads {
		fmt.Fprintf(w, "%2d x %-11s  pgctrl %d of %d attempts (%d leaky)   hand-written %d of %d attempts (%d leaky)\n",
			x.Times, x.Act, x.Ours.Replica, x.Ours.Attempts, x.Ours.Leaky, x.HandMade.Replica, x.HandMade.Attempts, x.HandMade.Leaky)
	}
}

func row(w io.Writer, name string, sorted []time.Duration) {
	if len(sorted) == 0 {
		return
	}
	fmt.Fprintf(w, "%-46s %10s %10s %10s %10s\n", name, ms(sorted[0]), ms(quantile(sorted, 0.5)), ms(quantile(sorted, 0.99)), ms(sorted[len(sorted)-1]))
}

// quantile is the nearest rank, so with few samples p99 is the maximum.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

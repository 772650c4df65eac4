package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/pgctrl/pgctrl/tests/probe/holders"
)

type report struct {
	Started time.Time
	Idle    *idle
	Moves   []move
	Reloads []reloads
	// VIPManager is the version of the vip-manager that pgctrl is compared with.
	VIPManager string
	// Holders judges who had which address: pgctrl's, then vip-manager's.
	Holders [2]holders.Report
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
	heading(w)
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
	r.printAddresses(w, column)
	fmt.Fprintln(w, "\nconnections that reached a replica through a read-write service, under writes")
	for _, x := range r.Reloads {
		fmt.Fprintf(w, "%2d x %-11s  pgctrl %d of %d attempts (%d leaky)   hand-written %d of %d attempts (%d leaky)\n",
			x.Times, x.Act, x.Ours.Replica, x.Ours.Attempts, x.Ours.Leaky, x.HandMade.Replica, x.HandMade.Attempts, x.HandMade.Leaky)
	}
}

// printAddresses compares the virtual addresses.
func (r report) printAddresses(w io.Writer, column func(func(move) time.Duration) []time.Duration) {
	fmt.Fprintf(w, "\nvirtual addresses in the same moves; vip-manager is %s\n\n", r.VIPManager)
	heading(w)
	row(w, "confirmed primary to address, pgctrl", column(func(m move) time.Duration { return m.VIP.FromKey }))
	row(w, "leader key to address, vip-manager", column(func(m move) time.Duration { return m.Rival.FromKey }))
	row(w, "leader key to confirmed primary", column(func(m move) time.Duration { return m.Promotion }))
	row(w, "leader key to first write, pgctrl", column(func(m move) time.Duration { return m.VIP.Write }))
	row(w, "leader key to first write, vip-manager", column(func(m move) time.Duration { return m.Rival.Write }))
	var sum [2]address
	for _, m := range r.Moves {
		for i, a := range []address{m.VIP, m.Rival} {
			sum[i].Leaks, sum[i].Attempts = sum[i].Leaks+a.Leaks, sum[i].Attempts+a.Attempts
		}
	}
	fmt.Fprintln(w)
	r.ratio(w, "to the address, each from its key", func(m move) (ours, theirs time.Duration) { return m.VIP.FromKey, m.Rival.FromKey })
	r.ratio(w, "leader key to first write", func(m move) (ours, theirs time.Duration) { return m.VIP.Write, m.Rival.Write })
	for i, name := range []string{"pgctrl", "vip-manager"} {
		h := r.Holders[i]
		fmt.Fprintf(w, "%-12s %d of %d attempts reached a server in recovery; %d moments with two holders, %d flaps, %d moves\n",
			name, sum[i].Leaks, sum[i].Attempts, len(h.Doubles), len(h.Flaps), h.Moves)
		for _, s := range h.Blind {
			fmt.Fprintln(w, "  "+s)
		}
	}
}

// ratio prints how many times pgctrl's time vip-manager's is, move by move: what the
// machine did to one move it did to both.
func (r report) ratio(w io.Writer, what string, get func(move) (ours, theirs time.Duration)) {
	var all []float64
	for _, m := range r.Moves {
		ours, theirs := get(m)
		all = append(all, float64(theirs)/float64(ours))
	}
	slices.Sort(all)
	if len(all) > 0 {
		fmt.Fprintf(w, "vip-manager / pgctrl, %s: p50 %.2f, from %.2f to %.2f\n", what, quantile(all, 0.5), all[0], all[len(all)-1])
	}
}

func heading(w io.Writer) {
	fmt.Fprintf(w, "%-46s %10s %10s %10s %10s\n", "", "min", "p50", "p99", "max")
}

func row(w io.Writer, name string, sorted []time.Duration) {
	if len(sorted) == 0 {
		return
	}
	fmt.Fprintf(w, "%-46s %10s %10s %10s %10s\n", name, ms(sorted[0]), ms(quantile(sorted, 0.5)), ms(quantile(sorted, 0.99)), ms(sorted[len(sorted)-1]))
}

// quantile is the nearest rank, so with few samples p99 is the maximum.
func quantile[T any](sorted []T, q float64) T {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

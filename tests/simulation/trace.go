package simulation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// entry is one thing that happened: who did what, and when on the simulated clock.
type entry struct {
	at        time.Duration
	who, what string
}

// Trace is what happened in one run. Entries of one millisecond are sorted by their
// text: which of several goroutines that are ready at one instant runs first is
// Go's choice and not the seed's, and nothing here may depend on it. For the same
// reason no entry holds an etcd revision.
type Trace []entry

func (w *World) say(who, format string, args ...any) {
	w.trace = append(w.trace, entry{w.elapsed(), who, fmt.Sprintf(format, args...)})
}

// String is the trace for people, a line each.
func (t Trace) String() string {
	t = slices.Clone(t)
	for i := range t {
		t[i].at = t[i].at.Round(time.Millisecond)
	}
	slices.SortStableFunc(t, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.who, b.who), cmp.Compare(a.what, b.what))
	})
	var b strings.Builder
	for _, e := range t {
		fmt.Fprintf(&b, "%9.3fs  %-10s %s\n", e.at.Seconds(), e.who, e.what)
	}
	return b.String()
}

// apart is how far two runs of one seed may be from one another: the choices that
// are Go's move an act by less than that.
const apart = 25 * time.Millisecond

// differ says in what two traces differ, "" when everybody did the same at the same
// time.
func differ(a, b Trace) string {
	order := func(t Trace) Trace {
		t = slices.Clone(t)
		slices.SortStableFunc(t, func(x, y entry) int {
			return cmp.Or(cmp.Compare(x.who, y.who), cmp.Compare(x.what, y.what), cmp.Compare(x.at, y.at))
		})
		return t
	}
	a, b = order(a), order(b)
	for i := range min(len(a), len(b)) {
		if x, y := a[i], b[i]; x.who != y.who || x.what != y.what || (x.at-y.at).Abs() > apart {
			return fmt.Sprintf("%s %s: %q and %s %s: %q", x.at, x.who, x.what, y.at, y.who, y.what)
		}
	}
	if len(a) != len(b) {
		return fmt.Sprintf("%d and %d entries", len(a), len(b))
	}
	return ""
}

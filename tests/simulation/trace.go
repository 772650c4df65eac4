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

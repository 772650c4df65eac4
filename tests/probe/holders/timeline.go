package holders

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Host is where somebody may have the address.
type Host struct {
	Name string
	// Namespace is the path of its network namespace; it need not exist yet.
	Namespace string
}

// Change is one host beginning or ceasing to have the address, on whatever interfaces.
type Change struct {
	At   time.Time
	Host string
	Has  bool
}

// Timeline is what was seen, in the kernel's order.
type Timeline struct {
	Address netip.Addr
	// Start and End bound the watch.
	Start, End time.Time
	Changes    []Change
	// Blind says when and why something may have been missed. A timeline with any
	// proves nothing.
	Blind []string
}

// Move is a change of holder that somebody asked for. It excuses one hand-over to
// Host (empty: to any other) that is complete between After and Before. With Host
// the holder itself it excuses one going and coming back, as in a reboot.
type Move struct {
	After, Before time.Time
	Host          string
}

// Double is a time in which more than one host had the address.
type Double struct {
	Hosts    []string // sorted
	From, To time.Time
}

// Unasked is a change of holder that nobody asked for.
type Unasked struct {
	// From and To are the holders before and after; equal in a flap: one host let
	// go and took it again with nobody in between.
	From, To string
	// Gone is when From let go, Back when To took it. Back is earlier when they overlapped.
	Gone, Back time.Time
}

// Report is the judgement of a timeline.
type Report struct {
	Doubles []Double
	Flaps   []Unasked
	// Moves counts the changes of holder that were asked for.
	Moves int
	Blind []string
}

// Judge finds every moment with two holders and every change of holder that was not
// asked for. The first to take an address is nobody's hand-over.
func (t Timeline) Judge(asked ...Move) Report {
	r := Report{Doubles: t.doubles(), Blind: t.Blind}
	used := make([]bool, len(asked))
	for _, c := range t.moves() {
		i := 0
		for i < len(asked) && (used[i] || !asked[i].excuses(c)) {
			i++
		}
		if i == len(asked) {
			r.Flaps = append(r.Flaps, c)
			continue
		}
		used[i] = true
		r.Moves++
	}
	return r
}

func (m Move) excuses(c Unasked) bool {
	if c.Back.Before(m.After) || c.Back.After(m.Before) || c.Gone.Before(m.After) {
		return false
	}
	return m.Host == c.To || m.Host == "" && c.From != c.To
}

// moves lists each change of who has the address. A second holder that goes first
// changes nothing: it is a double and no move.
func (t Timeline) moves() []Unasked {
	var out []Unasked
	var have []string // in the order of their taking; the first is the holder
	last := ""        // the holder, or who was it last
	since, gone := map[string]time.Time{}, map[string]time.Time{}
	for _, c := range t.Changes {
		if c.Has {
			have, since[c.Host] = append(have, c.Host), c.At
			if len(have) == 1 && last != "" {
				out = append(out, Unasked{From: last, To: c.Host, Gone: gone[last], Back: c.At})
			}
		} else {
			gone[c.Host] = c.At
			holder := len(have) > 0 && have[0] == c.Host
			have = slices.DeleteFunc(have, func(h string) bool { return h == c.Host })
			if holder && len(have) > 0 {
				out = append(out, Unasked{From: c.Host, To: have[0], Gone: c.At, Back: since[have[0]]})
			}
		}
		if len(have) > 0 {
			last = have[0]
		}
	}
	return out
}

// doubles lists the intervals with more than one holder; the holders of an
// interval don't change. One of no length counts: the order of changes proves it.
func (t Timeline) doubles() []Double {
	var out []Double
	has := map[string]bool{}
	open := false
	for _, c := range t.Changes {
		if open {
			out[len(out)-1].To = c.At
		}
		if has[c.Host] = c.Has; !c.Has {
			delete(has, c.Host)
		}
		if open = len(has) > 1; open {
			d := Double{From: c.At, To: t.End}
			for h := range has {
				d.Hosts = append(d.Hosts, h)
			}
			slices.Sort(d.Hosts)
			out = append(out, d)
		}
	}
	return out
}

// Clean reports that nothing is wrong and nothing may have been missed.
func (r Report) Clean() bool { return len(r.Doubles)+len(r.Flaps)+len(r.Blind) == 0 }

// String is the report in a line, and a line for each finding.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d moments with two holders, %d flaps, %d moves that were asked for", len(r.Doubles), len(r.Flaps), r.Moves)
	for _, d := range r.Doubles {
		fmt.Fprintf(&b, "\n%s  %s for %s", clock(d.From), strings.Join(d.Hosts, " and "), d.To.Sub(d.From))
	}
	for _, f := range r.Flaps {
		if f.From == f.To {
			fmt.Fprintf(&b, "\n%s  %s was without it for %s", clock(f.Gone), f.To, f.Back.Sub(f.Gone))
		} else {
			fmt.Fprintf(&b, "\n%s  %s took it from %s unasked", clock(f.Back), f.To, f.From)
		}
	}
	for _, s := range r.Blind {
		fmt.Fprintf(&b, "\n%s", s)
	}
	return b.String()
}

func clock(t time.Time) string { return t.Format("15:04:05.000000") }

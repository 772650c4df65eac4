package trace

import (
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
)

// durations are how long the parts of a story lasted. Of a node that was away and follows
// minutes later only its own line tells.
func durations(s Story) Durations {
	var d Durations
	first := func(to **float64, at float64) {
		if *to == nil {
			*to = &at
		}
	}
	last := func(to **float64, at float64) { *to = &at }
	routed := map[string]float64{} // node -> when its last service led to the new primary
	for _, st := range s.Steps {
		if st.Beside {
			continue
		}
		switch observed.MoveKind(st.What) {
		case observed.MoveLeader:
			first(&d.Taken, st.Ms)
		case observed.MoveWritable:
			first(&d.Writable, st.Ms)
		case observed.MoveConfirmed:
			first(&d.Confirmed, st.Ms)
		case observed.MoveRoute:
			if st.To == s.To && st.From != st.To {
				first(&d.FirstRoute, st.Ms)
				routed[st.Node] = max(routed[st.Node], st.Ms)
			}
		case observed.MoveVIPAdded:
			last(&d.VIP, st.Ms)
		case observed.MoveDNS:
			if st.To == s.To {
				last(&d.DNS, st.Ms)
			}
		}
	}
	d.Routes = len(routed)
	for _, at := range routed {
		if d.LastRoute == nil || at > *d.LastRoute {
			d.LastRoute = &at
		}
	}
	for _, at := range []*float64{d.Confirmed, d.LastRoute, d.VIP} {
		if at != nil && (d.Writes == nil || *at > *d.Writes) {
			d.Writes = at
		}
	}
	if d.FirstRoute == nil && d.VIP == nil {
		d.Writes = nil // nobody said that clients find it
	}
	return d
}

// near is how far Patroni's time of a promotion, which is a node's clock in the file of its
// timeline, may be from the story's.
const near = 5 * time.Minute

// timelineOf is Patroni's word on the promotion: the timeline that the new leader ended.
func timelineOf(history []patroni.Timeline, s Story) *patroni.Timeline {
	for i := len(history) - 1; i >= 0; i-- {
		t := history[i]
		if (t.Leader == "" || t.Leader == s.To) && t.At.Sub(s.Began).Abs() < near {
			return &t
		}
	}
	return nil
}

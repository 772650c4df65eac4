package trace

import (
	"maps"
	"slices"
	"time"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/observed"
)

// Clock is how far a node's clock is from that of the node which the story goes by.
type Clock struct {
	Node string `json:"node"`
	// Ahead is in milliseconds; negative: behind. It is the median over By things that both saw in
	// etcd, which a watch shows within a few milliseconds.
	Ahead float64 `json:"ahead_ms"`
	By    int     `json:"by"`
	// Corrected: the difference is more than a watch may be late, so the node's stamps are told as
	// if it were none.
	Corrected bool `json:"corrected,omitempty"`
}

// trusted is how far clocks may be apart before stamps are corrected: etcd tells watchers of one
// write within 5 ms of one another (p99, measured with and without disk syncs), and hosts that
// are busy with a failover are slower.
const trusted = 20 * time.Millisecond

func (c Clock) corrected() time.Duration {
	if !c.Corrected {
		return 0
	}
	return time.Duration(c.Ahead * float64(time.Millisecond))
}

// clocks compares the nodes' clocks by what all of them saw in etcd. The story goes by the clock
// of the new primary's node, or of the first by name.
func clocks(own map[string][]observed.Move, epoch int64, home string) []Clock {
	nodes := slices.Sorted(maps.Keys(own))
	if len(nodes) == 0 {
		return nil
	}
	if own[home] == nil {
		home = nodes[0]
	}
	here := sights(own[home], epoch)
	var out []Clock
	for _, node := range nodes {
		var apart []time.Duration
		for what, at := range sights(own[node], epoch) {
			if ref, both := here[what]; both {
				apart = append(apart, at.Sub(ref))
			}
		}
		slices.Sort(apart)
		c := Clock{Node: node, By: len(apart)}
		if len(apart) > 0 {
			d := apart[len(apart)/2]
			c.Ahead, c.Corrected = ms(d), d.Abs() > trusted
		}
		out = append(out, c)
	}
	return out
}

// sights are when a node saw what every node sees in etcd.
func sights(list []observed.Move, epoch int64) map[observed.MoveKind]time.Time {
	out := map[observed.MoveKind]time.Time{}
	for _, m := range list {
		switch m.What {
		case observed.MoveLost:
			out[m.What] = m.At
		case observed.MoveLeader, observed.MoveConfirmed:
			if _, there := out[m.What]; !there && m.Epoch == epoch {
				out[m.What] = m.At
			}
		}
	}
	return out
}

// home is the node of a new leader: its own agent confirmed it, or stamped that it takes writes.
func home(in Input, t term) string {
	for _, r := range in.Moves {
		for _, m := range r.Moves {
			if m.What == observed.MoveWritable && m.Epoch == t.epoch {
				return r.Node
			}
		}
	}
	for _, e := range in.Events {
		if e.Kind == events.PrimaryConfirmed && e.Epoch == t.epoch {
			return e.Node
		}
	}
	return ""
}

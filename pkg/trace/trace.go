// Package trace tells the story of a move of a cluster's leader: who saw what when, how long each
// part took, and when clients could write again. It is put together from what each node stamped
// with its own clock (observed.Moves), the stream of events, and Patroni's history. Pure
// functions only.
package trace

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Input is all that stories are made of.
type Input struct {
	Cluster string
	// Events are the cluster's, in order.
	Events []events.Event
	// Moves are the nodes' records.
	Moves []observed.Moves
	// History is Patroni's; the newest timeline is the last.
	History []patroni.Timeline
}

// Story is one move of the leader. It is what -o json prints; fields are added and never change
// their meaning.
type Story struct {
	Cluster string `json:"cluster"`
	// Epoch is the mod revision of the leader key that To took, From who had it before.
	Epoch int64  `json:"epoch"`
	From  string `json:"from,omitempty"`
	To    string `json:"to"`
	// Began is when the first node saw the former leader go, or the new one come; every Ms
	// counts from there.
	Began time.Time `json:"began"`
	// Clocks are how far the nodes' clocks are from that of the first.
	Clocks []Clock `json:"clocks,omitempty"`
	// Steps are all that was seen and done, in the order of time.
	Steps []Step `json:"steps"`
	// Took is how long the parts lasted.
	Took Durations `json:"took"`
	// Timeline is Patroni's word on the promotion; nil: it has none, or is gone.
	Timeline *patroni.Timeline `json:"timeline,omitempty"`
}

// Step is one line of a story.
type Step struct {
	At time.Time `json:"at"`
	// Ms is the time since Began, in milliseconds, by one clock.
	Ms float64 `json:"ms"`
	// Node stamped it; empty: a server saw it in etcd, at its own time.
	Node    string `json:"node,omitempty"`
	What    string `json:"what"`
	Subject string `json:"subject,omitempty"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
	Text    string `json:"text"`
	// Event is the event's ID that it is from, if it is from one.
	Event string `json:"event,omitempty"`
	// Beside: it is no part of the move, and happened around it.
	Beside bool `json:"beside,omitempty"`
}

// Durations are the parts of a move, in milliseconds since it began; nil: nobody stamped it.
type Durations struct {
	// Taken is when the leader key named the new leader, Writable when its PostgreSQL was seen to
	// take writes, Confirmed when that was written.
	Taken     *float64 `json:"taken,omitempty"`
	Writable  *float64 `json:"writable,omitempty"`
	Confirmed *float64 `json:"confirmed,omitempty"`
	// FirstRoute and LastRoute are when the first and the last node sent clients to the new
	// primary; Routes is how many nodes did.
	FirstRoute *float64 `json:"first_route,omitempty"`
	LastRoute  *float64 `json:"last_route,omitempty"`
	Routes     int      `json:"routes"`
	// VIP is when the virtual address was on the new primary's node, DNS when the last name led
	// there.
	VIP *float64 `json:"vip,omitempty"`
	DNS *float64 `json:"dns,omitempty"`
	// Writes is when clients could write again through every way that there is.
	Writes *float64 `json:"writes,omitempty"`
}

// around is how long before and after a move other events belong to its story.
const (
	before = 30 * time.Second
	after  = 30 * time.Second
)

// Stories are the moves since a time, the oldest first; the zero time: all that are known.
func Stories(in Input, since time.Time) []Story {
	var out []Story
	for _, t := range terms(in) {
		if s, ok := story(in, t); ok && !s.Began.Before(since) {
			out = append(out, s)
		}
	}
	return out
}

// term is one leadership.
type term struct {
	epoch    int64
	from, to string
}

// terms are the leaderships that began with another leader, by events and by what nodes saw. A
// leader that comes back, and one whose key is stamped anew, is none.
func terms(in Input) []term {
	by := map[int64]string{}
	for _, e := range in.Events {
		if e.Kind == events.LeaderChanged {
			by[e.Epoch] = e.To
		}
	}
	for _, r := range in.Moves {
		for _, m := range r.Moves {
			if m.What == observed.MoveLeader && m.Epoch > 0 {
				by[m.Epoch] = m.To
			}
		}
	}
	var out []term
	last := ""
	for _, epoch := range slices.Sorted(maps.Keys(by)) {
		to := by[epoch]
		if last != "" && to != last {
			out = append(out, term{epoch, last, to})
		}
		last = to
	}
	return out
}

// story tells one leadership; false when nobody stamped anything of it.
func story(in Input, t term) (Story, bool) {
	s := Story{Cluster: in.Cluster, Epoch: t.epoch, From: t.from, To: t.to}
	own := map[string][]observed.Move{}
	for _, r := range in.Moves {
		if part := partOf(r.Moves, t.epoch); len(part) > 0 {
			own[r.Node] = part
		}
	}
	s.Clocks = clocks(own, t.epoch, home(in, t))
	ahead := map[string]time.Duration{}
	for _, c := range s.Clocks {
		ahead[c.Node] = c.corrected()
	}
	for node, part := range own {
		for _, m := range part {
			s.Steps = append(s.Steps, Step{
				At: m.At.Add(-ahead[node]), Node: node, What: string(m.What), Subject: m.Name, From: m.From, To: m.To, Text: words(m, node),
			})
		}
	}
	if len(s.Steps) == 0 {
		s.Steps = fromEvents(in, t)
	}
	if len(s.Steps) == 0 {
		return s, false
	}
	sortSteps(s.Steps)
	s.Began = s.Steps[0].At
	s.Steps = append(s.Steps, beside(in, s.Began, s.Steps[len(s.Steps)-1].At)...)
	sortSteps(s.Steps)
	for i := range s.Steps {
		s.Steps[i].Ms = ms(s.Steps[i].At.Sub(s.Began))
	}
	s.Took = durations(s)
	s.Timeline = timelineOf(in.History, s)
	return s, true
}

func ms(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

func sortSteps(list []Step) {
	slices.SortStableFunc(list, func(a, b Step) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(order(a.What), order(b.What)), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Subject, b.Subject))
	})
}

// order is what comes first of two things in the same millisecond.
func order(what string) int {
	return slices.Index([]string{
		string(observed.MoveLost), string(observed.MoveVIPRemoved), string(observed.MoveLeader), string(observed.MoveWritable), string(observed.MoveConfirmed),
	}, what)
}

// partOf is what of a node's record belongs to a leadership: from the loss before it to the next
// one. What follows the leadership before is told apart by its epoch.
func partOf(list []observed.Move, epoch int64) []observed.Move {
	at := slices.IndexFunc(list, func(m observed.Move) bool { return m.What == observed.MoveLeader && m.Epoch == epoch })
	if at < 0 {
		return nil
	}
	from := at
	for from > 0 && list[from-1].What != observed.MoveLeader {
		from--
	}
	// Without a loss that was seen it began with the new leader.
	begins := at
	for i := from; i < at; i++ {
		if list[i].What == observed.MoveLost {
			begins = i
			break
		}
	}
	// A planned move begins before: who leads takes no writes any more, and makes way.
	for i := begins - 1; i >= from && madeWay(list[i]) && list[begins].At.Sub(list[i].At) < makesWay; i-- {
		begins = i
	}
	var out []observed.Move
	for i := begins; i < len(list) && (i <= at || list[i].What != observed.MoveLeader && list[i].What != observed.MoveLost); i++ {
		if m := list[i]; m.What != observed.MoveRoute || !strings.HasSuffix(m.Name, plan.FallbackSuffix) {
			out = append(out, m)
		}
	}
	return out
}

// makesWay is how long a step of a planned move comes before the next: a shutdown of PostgreSQL
// with its last checkpoint.
const makesWay = 5 * time.Second

func madeWay(m observed.Move) bool {
	return m.What == observed.MoveVIPRemoved || m.What == observed.MovePooler || m.What == observed.MoveRoute && m.To == ""
}

// words is what a node's stamp says.
func words(m observed.Move, node string) string {
	to := strings.ReplaceAll(m.To, ",", ", ")
	if to == "" {
		to = "nobody"
	}
	switch m.What {
	case observed.MoveLost:
		return "the leader key is gone"
	case observed.MoveLeader:
		return "the leader key names " + to
	case observed.MoveWritable:
		return "PostgreSQL takes writes"
	case observed.MoveConfirmed:
		return to + " is the confirmed primary"
	case observed.MoveRoute:
		return fmt.Sprintf("%s goes to %s", m.Name, to)
	case observed.MoveVIPAdded:
		return m.Name + " is on " + node
	case observed.MoveVIPRemoved:
		return m.Name + " is off " + node
	case observed.MovePooler:
		return "the pooler is " + m.To
	case observed.MoveDNS:
		return fmt.Sprintf("%s leads to %s", m.Name, to)
	}
	return string(m.What)
}

// fromEvents is a story without any node's stamps: as a server saw it.
func fromEvents(in Input, t term) []Step {
	at := slices.IndexFunc(in.Events, func(e events.Event) bool { return e.Kind == events.LeaderChanged && e.Epoch == t.epoch })
	if at < 0 || in.Events[at].Late {
		return nil
	}
	var out []Step
	for i := at - 1; i >= 0 && in.Events[i].Kind != events.LeaderChanged; i-- {
		if in.Events[i].Kind == events.LeaderLost {
			out = append(out, stepOf(in.Events[i]))
			break
		}
	}
	for _, e := range in.Events[at:] {
		if e.Epoch == t.epoch && !e.Late {
			out = append(out, stepOf(e))
		}
	}
	return out
}

func stepOf(e events.Event) Step {
	what := map[events.Kind]observed.MoveKind{
		events.LeaderLost: observed.MoveLost, events.LeaderChanged: observed.MoveLeader, events.PrimaryConfirmed: observed.MoveConfirmed,
		events.RouteMoved: observed.MoveRoute, events.VIPTaken: observed.MoveVIPAdded, events.VIPReleased: observed.MoveVIPRemoved, events.DNSMoved: observed.MoveDNS,
	}[e.Kind]
	s := Step{At: e.At, What: string(what), Subject: e.Subject, From: e.From, To: e.To, Text: e.Message, Event: e.ID}
	if what == "" {
		s.What = string(e.Kind)
	}
	return s
}

// besideOfAKind is how many events of one kind are told beside a move: those next to it.
const besideOfAKind = 3

// beside are the events around a move that may explain it, a few of each kind.
func beside(in Input, from, to time.Time) []Step {
	told := []events.Kind{
		events.LeaderChanged, events.LeaderLost, events.PrimaryConfirmed, events.PrimaryWithdrawn, events.RouteMoved, events.VIPTaken,
		events.VIPReleased, events.DNSMoved,
	}
	kinds := map[string][]Step{}
	for _, e := range in.Events {
		if slices.Contains(told, e.Kind) || strings.HasPrefix(string(e.Kind), "hook.") || e.At.Before(from.Add(-before)) || e.At.After(to.Add(after)) {
			continue
		}
		s := stepOf(e)
		s.Beside = true
		kinds[s.What] = append(kinds[s.What], s)
	}
	var out []Step
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		list := kinds[kind]
		away := func(s Step) time.Duration { return max(from.Sub(s.At), s.At.Sub(to), 0) }
		slices.SortStableFunc(list, func(a, b Step) int { return cmp.Compare(away(a), away(b)) })
		if more := len(list) - besideOfAKind; more > 0 {
			list = list[:besideOfAKind]
			list[besideOfAKind-1].Text += fmt.Sprintf(" (and %d more of %s)", more, kind)
		}
		out = append(out, list...)
	}
	return out
}

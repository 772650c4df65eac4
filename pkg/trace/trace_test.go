package trace

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
)

var start = time.Date(2026, 11, 27, 17, 0, 0, 0, time.UTC)

// record is a node's record; each stamp is in milliseconds after start, by a clock that is ahead.
type record struct {
	node  string
	ahead time.Duration
	list  []observed.Move
}

func (r *record) add(ms float64, what observed.MoveKind, name, from, to string, epoch int64) *record {
	r.list = append(r.list, observed.Move{
		Seq: int64(len(r.list) + 1), At: start.Add(time.Duration(ms * float64(time.Millisecond))).Add(r.ahead), What: what, Name: name, From: from, To: to, Epoch: epoch,
	})
	return r
}

func (r *record) moves() observed.Moves { return observed.Moves{Node: r.node, Moves: r.list} }

// crash is a failover from pg-test-1 to pg-test-2 after two earlier leaderships, as three nodes
// and a node with role infra saw it; pg3's clock is 300 ms ahead.
func crash() Input {
	past := func(r *record) *record {
		return r.add(-600_000, observed.MoveLeader, "", "", "pg-test-3", 90).
			add(-500_000, observed.MoveLost, "", "pg-test-3", "", 90).
			add(-499_000, observed.MoveLeader, "", "", "pg-test-1", 100).
			add(-498_800, observed.MoveRoute, "primary", "pg-test-3", "pg-test-1", 100)
	}
	pg1 := past(&record{node: "pg1"}) // its host died: nothing of this move, until it is back
	pg2 := past(&record{node: "pg2"}).
		add(0, observed.MoveLost, "", "pg-test-1", "", 100).
		add(40, observed.MoveLeader, "", "", "pg-test-2", 200).
		add(210, observed.MoveWritable, "", "", "pg-test-2", 200).
		add(212, observed.MoveConfirmed, "", "", "pg-test-2", 200).
		add(213.5, observed.MoveVIPAdded, "10.0.0.9", "", "", 200).
		add(214, observed.MoveRoute, "primary", "pg-test-1", "pg-test-2", 200).
		add(214, observed.MoveRoute, "default", "pg-test-1", "pg-test-2", 200).
		add(1500, observed.MoveRoute, "replica", "pg-test-2,pg-test-3", "pg-test-3", 200)
	pg3 := past(&record{node: "pg3", ahead: 300 * time.Millisecond}).
		add(1, observed.MoveLost, "", "pg-test-1", "", 100).
		add(41, observed.MoveLeader, "", "", "pg-test-2", 200).
		add(214, observed.MoveConfirmed, "", "", "pg-test-2", 200).
		add(216, observed.MoveRoute, "primary", "pg-test-1", "pg-test-2", 200)
	infra := (&record{node: "infra1"}).
		add(2, observed.MoveLost, "", "pg-test-1", "", 100).
		add(42, observed.MoveLeader, "", "", "pg-test-2", 200).
		add(213, observed.MoveConfirmed, "", "", "pg-test-2", 200).
		add(218, observed.MoveDNS, "pg-test", "pg-test-1", "pg-test-2", 200)
	event := func(ms int, id string, k events.Kind, epoch int64, to, msg string) events.Event {
		at := start.Add(time.Duration(ms) * time.Millisecond)
		return events.Event{ID: id, Cluster: "pg-test", Kind: k, At: at, Seen: at, Epoch: epoch, To: to, Message: msg}
	}
	return Input{
		Cluster: "pg-test", Moves: []observed.Moves{pg1.moves(), pg2.moves(), pg3.moves(), infra.moves()},
		Events: []events.Event{
			event(-499_000, "100-0", events.LeaderChanged, 100, "pg-test-1", "pg-test-1 leads"),
			event(-10_000, "190-0", events.AgentLost, 0, "", "the agent of <pg1> is away"),
			event(3, "199-0", events.LeaderLost, 0, "", "nobody leads"),
			event(43, "200-0", events.LeaderChanged, 200, "pg-test-2", "pg-test-2 leads"),
			event(900_000, "300-0", events.BackupDone, 0, "", "much later"),
		},
		History: []patroni.Timeline{
			{Number: 1, At: start.Add(-499 * time.Second), Leader: "pg-test-1"},
			{Number: 2, LSN: 0x1_02000060, Reason: "no recovery target specified", At: start.Add(time.Second), Leader: "pg-test-2"},
		},
	}
}

func is(t *testing.T, what string, got *float64, want float64) {
	t.Helper()
	if got == nil || math.Abs(*got-want) > 1.5 {
		if got == nil {
			t.Errorf("%s: not told, want %v", what, want)
			return
		}
		t.Errorf("%s: %v ms, want %v", what, *got, want)
	}
}

func TestStoryOfACrash(t *testing.T) {
	stories := Stories(crash(), start.Add(-time.Minute))
	if len(stories) != 1 {
		t.Fatalf("%d stories since a minute before: %+v", len(stories), stories)
	}
	s := stories[0]
	if s.From != "pg-test-1" || s.To != "pg-test-2" || s.Epoch != 200 || !s.Began.Equal(start) {
		t.Errorf("%s -> %s, epoch %d, at %s", s.From, s.To, s.Epoch, s.Began)
	}
	is(t, "taken", s.Took.Taken, 40)
	is(t, "writable", s.Took.Writable, 210)
	is(t, "confirmed", s.Took.Confirmed, 212)
	is(t, "first route", s.Took.FirstRoute, 214)
	is(t, "last route", s.Took.LastRoute, 216)
	is(t, "vip", s.Took.VIP, 213.5)
	is(t, "dns", s.Took.DNS, 218)
	is(t, "writes", s.Took.Writes, 216)
	if s.Took.Routes != 2 {
		t.Errorf("%d nodes route", s.Took.Routes)
	}
	if s.Timeline == nil || s.Timeline.Number != 2 {
		t.Errorf("Patroni's word: %+v", s.Timeline)
	}
	for _, c := range s.Clocks {
		want := map[string]float64{"pg2": 0, "pg3": 301, "infra1": 2}[c.Node]
		if math.Abs(c.Ahead-want) > 1 || c.Corrected != (c.Node == "pg3") || c.By != 3 {
			t.Errorf("clock %+v, want %v ms ahead by three sights", c, want)
		}
	}
	// The order is that of things and not of clocks, and nothing of the leadership before is in it.
	var told []string
	for i, st := range s.Steps {
		if i > 0 && st.Ms < s.Steps[i-1].Ms {
			t.Errorf("%v after %v", st, s.Steps[i-1])
		}
		if st.Beside {
			told = append(told, st.Event)
		}
		if strings.Contains(st.Text, "much later") || st.To == "pg-test-1" {
			t.Errorf("no part of it: %+v", st)
		}
	}
	if len(s.Steps) != 17 || strings.Join(told, " ") != "190-0" {
		t.Errorf("%d steps, beside them %v: %+v", len(s.Steps), told, s.Steps)
	}
	if all := Stories(crash(), time.Time{}); len(all) != 2 || all[0].To != "pg-test-1" {
		t.Errorf("of all times: %d", len(all))
	}
}

// Of what happens around a move a few of each kind are told, those next to it, and how many more
// there are.
func TestStoryIsNotDrowned(t *testing.T) {
	in := crash()
	for i := range 200 {
		at := start.Add(-time.Duration(i+1) * 100 * time.Millisecond)
		in.Events = append(in.Events, events.Event{ID: fmt.Sprint(199-i, "-9"), Kind: events.DocumentChanged, At: at, Seen: at, Message: fmt.Sprint("change ", i)})
	}
	events.Sort(in.Events)
	s := Stories(in, start.Add(-time.Minute))
	var told []string
	for _, st := range s[0].Steps {
		if st.What == string(events.DocumentChanged) {
			told = append(told, st.Text)
		}
	}
	if got, want := strings.Join(told, "; "), "change 2 (and 197 more of document.changed); change 1; change 0"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

// Without any node's record it is told as a server saw it; of what was seen afterwards no
// milliseconds are made up.
func TestStoryByEventsAlone(t *testing.T) {
	in := crash()
	in.Moves = nil
	s := Stories(in, start.Add(-time.Minute))
	if len(s) != 1 || len(s[0].Steps) != 3 {
		t.Fatalf("%+v", s)
	}
	is(t, "taken", s[0].Took.Taken, 40)
	if s[0].Took.Writes != nil || s[0].Took.Confirmed != nil {
		t.Errorf("%+v", s[0].Took)
	}
	for i := range in.Events {
		in.Events[i].Late = true
	}
	if s := Stories(in, time.Time{}); len(s) != 0 {
		t.Errorf("stories of events that nobody saw when they happened: %+v", s)
	}
}

// A planned move begins when the primary takes no writes any more; what the move before it did on
// the same node is not of it, and neither are backends that no client names.
func TestStoryOfASwitchover(t *testing.T) {
	r := (&record{node: "pg1"}).add(-20_000, observed.MoveLeader, "", "", "a", 10).add(-19_900, observed.MoveConfirmed, "", "", "a", 10).
		add(-12_800, observed.MoveVIPRemoved, "10.0.0.9", "", "", 10).
		add(0, observed.MoveRoute, "primary", "a", "", 10).add(1000, observed.MoveLost, "", "a", "", 10).add(1040, observed.MoveLeader, "", "", "b", 20).
		add(1200, observed.MoveConfirmed, "", "", "b", 20).add(1201, observed.MoveRoute, "primary", "", "b", 20).add(1202, observed.MoveRoute, "replica_fallback", "", "b", 20)
	s := Stories(Input{Cluster: "c", Moves: []observed.Moves{r.moves()}}, time.Time{})
	if len(s) != 1 || !s[0].Began.Equal(start) || len(s[0].Steps) != 5 {
		t.Fatalf("%+v", s)
	}
	is(t, "taken", s[0].Took.Taken, 1040)
	is(t, "writes", s[0].Took.Writes, 1201)
}

// A leader that comes back, or whose key is stamped anew, has not moved.
func TestNoStory(t *testing.T) {
	r := (&record{node: "pg1"}).add(0, observed.MoveLeader, "", "", "a", 10).add(5, observed.MoveLost, "", "a", "", 10).
		add(9, observed.MoveLeader, "", "", "a", 20).add(11, observed.MoveLeader, "", "", "a", 30)
	if s := Stories(Input{Cluster: "c", Moves: []observed.Moves{r.moves()}}, time.Time{}); len(s) != 0 {
		t.Errorf("%+v", s)
	}
}

func TestPicture(t *testing.T) {
	s := Stories(crash(), start.Add(-time.Minute))[0]
	svg := s.SVG()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"pg-test-2 leads after pg-test-1", "&lt;pg1&gt;", "clocks put right: pg3 +301 ms", ">promotion<", ">writes<"} {
		if !strings.Contains(svg, want) {
			t.Errorf("the picture has no %q", want)
		}
	}
}

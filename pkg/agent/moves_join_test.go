package agent

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

func ledBy(m string, epoch int64) observed.Move {
	return observed.Move{What: observed.MoveLeader, To: m, Epoch: epoch}
}

func routedTo(m string) observed.Move {
	return observed.Move{What: observed.MoveRoute, Name: "primary", To: m, Epoch: 10}
}

func TestJoin(t *testing.T) {
	lost := observed.Move{What: observed.MoveLost, Epoch: 10}
	added := observed.Move{What: observed.MoveVIPAdded, Name: "10.0.0.99/24"}
	removed := observed.Move{What: observed.MoveVIPRemoved, Name: "10.0.0.99/24"}
	again := observed.Move{What: observed.MoveConfirmed, To: "m1", Epoch: 10}
	for name, c := range map[string]struct {
		old    []observed.Move
		stamps []stamp
		want   string // what and from and to of what is new
	}{
		"learnt, and nothing known":            {nil, []stamp{{ledBy("m1", 10), true}, {lost, true}, {routedTo("m1"), true}}, ""},
		"seen, and nothing known":              {nil, []stamp{{ledBy("m1", 10), false}}, "leader >m1"},
		"learnt as known":                      {[]observed.Move{ledBy("m1", 10)}, []stamp{{ledBy("m1", 10), true}}, ""},
		"learnt at another epoch":              {[]observed.Move{ledBy("m1", 10)}, []stamp{{ledBy("m1", 12), true}}, "leader m1>m1"},
		"nobody leads, and so it was":          {[]observed.Move{ledBy("m1", 10), lost}, []stamp{{lost, true}}, ""},
		"nobody leads, and somebody did":       {[]observed.Move{lost, ledBy("m1", 10)}, []stamp{{lost, true}}, "leader-lost m1>"},
		"the address is here, as it was":       {[]observed.Move{removed, added}, []stamp{{added, true}}, ""},
		"the address went meanwhile":           {[]observed.Move{added}, []stamp{{removed, true}}, "vip-removed >"},
		"another name is another thing":        {[]observed.Move{{What: observed.MoveRoute, Name: "replica", To: "m1"}}, []stamp{{routedTo("m1"), true}}, ""},
		"a route to where it leads already":    {[]observed.Move{routedTo("m1")}, []stamp{{routedTo("m1"), false}, {routedTo("m2"), false}}, "route m1>m2"},
		"a route of which nothing was known":   {[]observed.Move{routedTo("m1")}, []stamp{{routedTo("m2"), false}}, "route m1>m2"},
		"confirmed anew under one leadership":  {[]observed.Move{again}, []stamp{{again, false}}, "confirmed >m1"},
		"learnt to be confirmed, which it was": {[]observed.Move{again}, []stamp{{again, true}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range c.old {
				c.old[i].Seq = int64(i + 5)
			}
			out := join(c.old, c.stamps)
			var got []string
			for i, m := range out[len(c.old):] {
				got = append(got, string(m.What)+" "+m.From+">"+m.To)
				want := int64(i + 1)
				if len(c.old) > 0 {
					want = int64(len(c.old) + 5 + i)
				}
				if m.Seq != want {
					t.Errorf("%s has number %d, want %d", m.What, m.Seq, want)
				}
			}
			if got := strings.Join(got, ", "); got != c.want {
				t.Errorf("new: %q, want %q", got, c.want)
			}
		})
	}
}

// TestJoinOrdersAndForgets: by time, whoever came first to stamp; the oldest go.
func TestJoinOrdersAndForgets(t *testing.T) {
	begin := t0.Truncate(time.Millisecond)
	at := func(m observed.Move, d time.Duration) stamp {
		m.At = begin.Add(d)
		return stamp{m, false}
	}
	out := join(nil, []stamp{at(routedTo("m2"), 2500*time.Microsecond), at(ledBy("m2", 10), time.Millisecond)})
	if out[0].What != observed.MoveLeader || out[1].Seq != 2 || !out[1].At.Equal(begin.Add(2*time.Millisecond)) {
		t.Errorf("%+v", out)
	}
	var many []stamp
	for i := range observed.MaxMoves {
		many = append(many, at(ledBy("m2", int64(i+20)), time.Second))
	}
	out = join(out, many)
	if len(out) != observed.MaxMoves || out[0].Seq != 3 || lastSeq(observed.Moves{Moves: out}) != int64(observed.MaxMoves+2) {
		t.Errorf("%d kept, from %d to %d", len(out), out[0].Seq, out[len(out)-1].Seq)
	}
}

// TestRebase: a write whose answer was lost may have arrived, and an older process may
// have written after this one read.
func TestRebase(t *testing.T) {
	record := func(ms ...observed.Move) (r observed.Moves) {
		for i, m := range ms {
			m.Seq, m.At = int64(i+1), t0.UTC().Truncate(time.Millisecond).Add(time.Duration(m.Epoch)*time.Second)
			r.Moves = append(r.Moves, m)
		}
		return r
	}
	a, b, c, d := ledBy("m1", 1), ledBy("m2", 2), ledBy("m1", 3), ledBy("m3", 4)
	for name, tt := range map[string]struct {
		found, ours observed.Moves
		unsaved     int
		want        []int64 // epochs
		left        int
	}{
		"nothing known here": {record(a, b), observed.Moves{}, 0, []int64{1, 2}, 0},
		"it did not arrive":  {record(a), record(a, b, c), 2, []int64{1, 2, 3}, 2},
		"it did":             {record(a, b, c), record(a, b, c), 2, []int64{1, 2, 3}, 0},
		"a part did":         {record(a, b), record(a, b, c), 2, []int64{1, 2, 3}, 1},
		"deleted by hand":    {observed.Moves{}, record(a, b), 1, []int64{1, 2}, 1},
		"another wrote":      {record(a, d), record(a, b, c), 2, []int64{1, 4, 2, 3}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			all, left := rebase(tt.found, tt.ours, tt.unsaved)
			if len(all.Moves) != len(tt.want) || left != tt.left {
				t.Fatalf("%d left of %+v", left, all.Moves)
			}
			for i, m := range all.Moves {
				if m.Epoch != tt.want[i] || m.Seq != int64(i+1) {
					t.Errorf("at %d: %+v, want epoch %d", i, m, tt.want[i])
				}
			}
		})
	}
}

func TestMovesDue(t *testing.T) {
	s := func(n float64) time.Time { return t0.Add(time.Duration(n * float64(time.Second))) }
	for name, c := range map[string]struct {
		oldest, newest, leader float64
		over                   bool
		want                   float64
	}{
		"a second after the last of it":        {0, 0.4, 0.1, true, 1.4},
		"not before the leader settled":        {-9, -4, 0, true, 1},
		"a move that nobody has confirmed":     {0, 0.2, 0.2, false, 5.2},
		"what never ends is told all the same": {0, 4.9, -60, true, 5},
	} {
		t.Run(name, func(t *testing.T) {
			if got := movesDue(s(c.oldest), s(c.newest), s(c.leader), c.over); !got.Equal(s(c.want)) {
				t.Errorf("due at %s, want %s", got.Sub(t0), s(c.want).Sub(t0))
			}
		})
	}
}

// TestStampsAreInTheOrderOfTime: a leader is acted on before it is noted, and what came of it may
// be noted first.
func TestStampsAreInTheOrderOfTime(t *testing.T) {
	m := newMoves(nil)
	now := time.Now()
	for _, s := range []struct {
		after time.Duration
		what  observed.MoveKind
	}{{1, observed.MoveWritable}, {1, observed.MoveConfirmed}, {1, observed.MoveLeader}, {0, observed.MoveLost}, {2, observed.MoveRoute}, {1, observed.MoveVIPAdded}} {
		m.stampLocked(now.Add(s.after), false, observed.Move{What: s.what})
	}
	var got []observed.MoveKind
	for _, s := range m.stamps {
		got = append(got, s.What)
	}
	want := []observed.MoveKind{
		observed.MoveLost, observed.MoveLeader, observed.MoveWritable, observed.MoveConfirmed, observed.MoveVIPAdded, observed.MoveRoute,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

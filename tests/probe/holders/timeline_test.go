package holders

import (
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }

// script reads "+a 0 -a 10 +b 10": who takes and lets go, and after how many milliseconds.
func script(t *testing.T, s string) Timeline {
	tl := Timeline{Start: t0, End: at(1000)}
	fs := strings.Fields(s)
	for i := 0; i+1 < len(fs); i += 2 {
		d, err := time.ParseDuration(fs[i+1] + "ms")
		if err != nil {
			t.Fatal(err)
		}
		tl.Changes = append(tl.Changes, Change{At: t0.Add(d), Host: fs[i][1:], Has: fs[i][0] == '+'})
	}
	return tl
}

func TestJudge(t *testing.T) {
	moved := func(host string, from, to int) Move { return Move{After: at(from), Before: at(to), Host: host} }
	for _, c := range []struct {
		name, script   string
		asked          []Move
		doubles, flaps int
		moves          int
		words          string
	}{
		{name: "one holder", script: "+a 0"},
		{name: "nobody"},
		{name: "a move", script: "+a 0 -a 10 +b 12", asked: []Move{moved("b", 5, 20)}, moves: 1},
		{name: "a move to anybody", script: "+a 0 -a 10 +b 12", asked: []Move{moved("", 5, 20)}, moves: 1},
		{name: "a move to another than asked", script: "+a 0 -a 10 +b 12", asked: []Move{moved("c", 5, 20)}, flaps: 1, words: "b took it from a unasked"},
		{name: "a move that nobody asked for", script: "+a 0 -a 10 +b 12", flaps: 1},
		{name: "there and back for one request", script: "+a 0 -a 10 +b 12 -b 13 +a 14", asked: []Move{moved("", 5, 20)}, flaps: 1, moves: 1},
		{name: "before it was asked for", script: "+a 0 -a 3 +b 12", asked: []Move{moved("b", 5, 20)}, flaps: 1},
		{name: "too late", script: "+a 0 -a 10 +b 22", asked: []Move{moved("b", 5, 20)}, flaps: 1},
		{name: "a flap", script: "+a 0 -a 10 +a 30", flaps: 1, words: "a was without it for 20ms"},
		{name: "a flap during a move to anybody", script: "+a 0 -a 10 +a 12 -a 13 +b 14", asked: []Move{moved("", 5, 20)}, flaps: 1, moves: 1},
		{name: "a reboot", script: "+a 0 -a 10 +a 300", asked: []Move{moved("a", 5, 400)}, moves: 1},
		{name: "a second holder", script: "+a 0 +b 10 -b 30", doubles: 1, words: "a and b for 20ms"},
		{name: "a second holder of no length", script: "+a 0 +b 10 -b 10", doubles: 1},
		{name: "a second holder to the end", script: "+a 0 +b 10", doubles: 1, words: "a and b for 990ms"},
		{name: "a move that overlaps", script: "+a 0 +b 10 -a 12", asked: []Move{moved("b", 5, 20)}, doubles: 1, moves: 1},
		{name: "three", script: "+a 0 +b 10 +c 20 -b 30 -c 40", doubles: 3, words: "a and b and c for 10ms"},
		{name: "a second holder, then a move", script: "+a 0 +b 10 -b 12 -a 20 +c 21", asked: []Move{moved("c", 15, 30)}, doubles: 1, moves: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := script(t, c.script).Judge(c.asked...)
			if len(r.Doubles) != c.doubles || len(r.Flaps) != c.flaps || r.Moves != c.moves || !strings.Contains(r.String(), c.words) {
				t.Errorf("want %d doubles, %d flaps, %d moves, %q; got\n%s", c.doubles, c.flaps, c.moves, c.words, r)
			}
			if r.Clean() != (c.doubles+c.flaps == 0) {
				t.Errorf("clean: %v", r.Clean())
			}
		})
	}
	if (Report{Blind: []string{"x"}}).Clean() {
		t.Error("a blind observer calls it clean")
	}
}

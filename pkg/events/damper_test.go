package events

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func pooler(rev int64, kind Kind) Event {
	return Event{ID: ID{Revision: rev}.String(), Cluster: "c", Kind: kind, Node: "pg1"}
}

// A pooler that comes and goes five times a second for a minute is told ten times, then once in
// ten seconds, and every time is counted.
func TestDamperCountsWhatItHolds(t *testing.T) {
	var d Damper
	start := time.Unix(1_000_000, 0)
	kept, stands := 0, 0
	last := ""
	keep := func(e Event) { kept++; stands += 1 + e.Repeats; last = e.ID }
	for i := range int64(300) {
		now := start.Add(time.Duration(i) * 200 * time.Millisecond)
		for _, e := range d.Due(now) {
			keep(e)
		}
		if e := pooler(i+1, PoolerDown); d.Offer(e, now) {
			keep(e)
		}
		if d.Oldest() != 0 && d.Oldest() <= int64(stands) {
			t.Fatalf("the oldest that is held is %d, and %d were told", d.Oldest(), stands)
		}
	}
	if kept < 14 || kept > 16 {
		t.Errorf("%d events of 300 were kept, want ten and five or six", kept)
	}
	end := start.Add(2 * time.Minute)
	for _, e := range d.Due(end) {
		keep(e)
	}
	if stands != 300 || last != "300-0" || d.Oldest() != 0 || d.Next(end) != 0 {
		t.Errorf("kept events stand for %d of 300, the last is %s, %d is held", stands, last, d.Oldest())
	}
	d.Due(end.Add(time.Hour))
	if len(d.kinds) != 0 {
		t.Errorf("%d kinds are remembered after an hour of quiet", len(d.kinds))
	}
}

// Events that differ in anything that matters are not counted together.
func TestDamperTellsApart(t *testing.T) {
	var d Damper
	now := time.Unix(1_000_000, 0)
	for i := range 100 {
		e := pooler(int64(i+1), RouteMoved)
		e.Subject = fmt.Sprint("service", i%20)
		if !d.Offer(e, now) {
			t.Fatalf("event %d was held: five of each are not many", i)
		}
	}
}

// Whatever comes whenever, what is kept stands for all of it, once, and in order.
func TestDamperLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d Damper
		now, rev := time.Unix(1_000_000, 0), int64(0)
		stands := map[string]int{}
		offered := map[string]int{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			before := int64(0)
			for _, e := range d.Due(now) {
				stands[e.Node] += 1 + e.Repeats
				if id, _ := ParseID(e.ID); id.Revision < before {
					t.Fatalf("%d after %d", id.Revision, before)
				} else {
					before = id.Revision
				}
			}
			rev++
			e := pooler(rev, PoolerDown)
			e.Node = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "node")
			offered[e.Node]++
			if d.Offer(e, now) {
				stands[e.Node]++
			}
			if next := d.Next(now); (next == 0) != (d.Oldest() == 0) {
				t.Fatalf("next is %s while %d is held", next, d.Oldest())
			}
		}
		for d.Next(now) > 0 {
			now = now.Add(d.Next(now))
			for _, e := range d.Due(now) {
				stands[e.Node] += 1 + e.Repeats
			}
		}
		for node, n := range offered {
			if stands[node] != n {
				t.Fatalf("%d of %d events of %s are told", stands[node], n, node)
			}
		}
	})
}

package wal

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// past is a database's history as it is drawn: what recovery needs, in order, and what else lies
// in its archive.
type past struct {
	size    int64
	needs   []string
	history []Switch
	others  []string
}

func drawPast(t *rapid.T) (p past) {
	p.size = int64(1) << rapid.IntRange(20, 30).Draw(t, "size")
	perLog := uint64(1<<32) / uint64(p.size)
	name := func(tl int, s uint64) string { return fmt.Sprintf("%08X%08X%08X", tl, s/perLog, s%perLog) }
	at := rapid.Uint64Range(1, 3*perLog).Draw(t, "from")
	tls := rapid.IntRange(1, 4).Draw(t, "timelines")
	for tl := 1; tl <= tls; tl++ {
		if tl > 1 {
			p.needs = append(p.needs, fmt.Sprintf("%08X.history", tl))
		}
		least := uint64(0) // a timeline may be left in the segment in which it began
		if tl == 1 || tl == tls {
			least = 1
		}
		n := rapid.Uint64Range(least, 12).Draw(t, "segments")
		for range n {
			p.needs = append(p.needs, name(tl, at))
			at++
		}
		if tl < tls {
			p.history = append(p.history, Switch{uint32(tl), at*uint64(p.size) + uint64(rapid.Int64Range(0, p.size-1).Draw(t, "place"))})
			for i := range rapid.Uint64Range(0, 3).Draw(t, "left behind") { // with holes
				if rapid.Bool().Draw(t, "there") {
					p.others = append(p.others, name(tl, at+i))
				}
			}
			p.others = append(p.others, name(tl, at)+".partial")
		}
	}
	return p
}

func (p past) archive(has []string) *Archive {
	a := &Archive{}
	for _, n := range append(has, p.others...) {
		if strings.HasSuffix(n, ".history") {
			a.Add(n, noon)
		} else {
			a.Add(n+sum+".gz", noon)
		}
	}
	return a
}

// TestPlantedGapsAreFound: of any history whose archive is whole nothing is said, and whatever
// was taken out of it is, exactly. Some files go, and never the newest.
func TestPlantedGapsAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPast(t)
		q := Query{Starts: []string{p.needs[0]}, History: p.history, SegmentSize: p.size}
		if gaps := p.archive(p.needs).Gaps(q); len(gaps) > 0 {
			t.Fatalf("a whole archive lacks %v", gaps)
		}
		// The newest history file has the places; which of them are missing is another matter.
		newest := fmt.Sprintf("%08X.history", len(p.history)+1)
		var has, want []string
		open := ""
		for i, n := range p.needs {
			if i < len(p.needs)-1 && n != newest && rapid.Bool().Draw(t, "lost") {
				if open == "" {
					open = n
				}
				continue
			}
			has = append(has, n)
			// A history alone between missing segments ends no gap: it holds no WAL.
			if open != "" && !strings.HasSuffix(n, ".history") {
				want, open = append(want, open), ""
			}
		}
		var got []string
		for _, g := range p.archive(has).Gaps(q) {
			got = append(got, g.First)
			if g.First > g.Last {
				t.Fatalf("%+v", g)
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("missing %v, want %v\nof %v", got, want, p.needs)
		}
	})
}

// FuzzGaps: whatever a repository lists and a history says, an answer comes.
func FuzzGaps(f *testing.F) {
	f.Add("00000001000000000000000100000002.history 000000020000000000000005"+sum, "1\t0/5000100\tx\n", "000000010000000000000001", int64(16<<20))
	f.Add("FFFFFFFFFFFFFFFF00000FFF"+sum+" FFFFFFFF.history 000000010000000000000001"+sum, "1\t0/0\tx", "000000010000000000000001", int64(0))
	f.Fuzz(func(t *testing.T, files, history, start string, size int64) {
		a := &Archive{}
		for _, name := range strings.Fields(files) {
			a.Add(name, noon)
		}
		known, _ := ParseHistory(history)
		for _, g := range a.Gaps(Query{Starts: []string{start}, History: known, SegmentSize: size}) {
			if g.Segments < 0 || g.First == "" || g.Last == "" {
				t.Fatalf("%+v", g)
			}
		}
	})
}

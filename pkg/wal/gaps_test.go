package wal

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const sum = "-e4120e6f8eba6aca5a7c05692829c41f5e131ec4"

// of is an archive with these files, each archived a minute after the one before. One that is
// written as a-b is all segments from a to b.
func of(files string) *Archive {
	a, at := &Archive{}, noon
	for _, f := range strings.Fields(files) {
		from, to, several := strings.Cut(f, "-")
		if len(to) != 24 {
			from, several = f, false
		}
		for name := from; ; name = next(name) {
			at = at.Add(time.Minute)
			if len(name) == 24 {
				a.Add("15-1/"+name[:16]+"/"+name+sum+".zst", at)
			} else {
				a.Add("15-1/"+name, at)
			}
			if !several || name == to {
				break
			}
		}
	}
	return a
}

// next is the segment after one, of 16 MB.
func next(name string) string {
	log, low := number(name[8:16]), number(name[16:])+1
	if low == 256 {
		log, low = log+1, 0
	}
	return fmt.Sprintf("%s%08X%08X", name[:8], log, low)
}

func minute(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }

func TestGaps(t *testing.T) {
	seg := func(tl, n int) string { return fmt.Sprintf("%08X%016X", tl, n) }
	r := func(tl, from, to int) string { return seg(tl, from) + "-" + seg(tl, to) + " " }
	two := []Switch{{1, 0x5000100}}
	for name, tc := range map[string]struct {
		archive string
		history []Switch
		starts  string // segment 2 of timeline 1 when empty
		want    string
	}{
		"whole":                               {archive: r(1, 1, 9)},
		"nothing":                             {},
		"across log files":                    {archive: "0000000100000000000000FE-000000010000000100000002", starts: "0000000100000000000000FE"},
		"one is missing":                      {archive: r(1, 1, 4) + r(1, 6, 9), want: seg(1, 5)},
		"three are":                           {archive: r(1, 1, 4) + r(1, 8, 9), want: seg(1, 5) + " to " + seg(1, 7) + " (3 segments)"},
		"at the end of a log file":            {archive: "0000000100000000000000FD-0000000100000000000000FE 000000010000000100000001", starts: "0000000100000000000000FD", want: "0000000100000000000000FF to 000000010000000100000000 (2 segments)"},
		"two gaps":                            {archive: r(1, 1, 4) + r(1, 6, 6) + r(1, 8, 9), want: seg(1, 5) + ", " + seg(1, 7)},
		"before the oldest backup":            {archive: r(1, 1, 4) + r(1, 6, 9), starts: seg(1, 6)},
		"what a backup begins with":           {archive: r(1, 4, 9), want: seg(1, 2) + " to " + seg(1, 3) + " (2 segments)"},
		"expired behind the oldest":           {archive: r(1, 1, 1) + r(1, 4, 9), starts: seg(1, 4) + " " + seg(1, 7)},
		"no backup":                           {archive: r(1, 1, 4) + r(1, 6, 9), starts: "-"},
		"a partial one is none":               {archive: r(1, 1, 4) + "000000010000000000000005.partial" + sum + ".zst " + r(1, 6, 9), want: seg(1, 5)},
		"where a backup began":                {archive: r(1, 1, 4) + "000000010000000000000005.00000028.backup " + r(1, 6, 9), want: seg(1, 5)},
		"a move":                              {archive: r(1, 1, 4) + "00000002.history " + r(2, 5, 9), history: two},
		"a move, with the partial one":        {archive: r(1, 1, 4) + "000000010000000000000005.partial" + sum + " 00000002.history " + r(2, 5, 9), history: two},
		"what was left is no gap":             {archive: r(1, 1, 5) + r(1, 8, 9) + "00000002.history " + r(2, 5, 9), history: two},
		"where timelines meet, before":        {archive: r(1, 1, 3) + "00000002.history " + r(2, 5, 9), history: two, want: seg(1, 4)},
		"where timelines meet, after":         {archive: r(1, 1, 5) + "00000002.history " + r(2, 6, 9), history: two, want: seg(2, 5)},
		"where timelines meet, both":          {archive: r(1, 1, 3) + "00000002.history " + r(2, 7, 9), history: two, want: seg(1, 4) + " to " + seg(2, 6) + " (3 segments)"},
		"a move between two segments":         {archive: r(1, 1, 4) + "00000002.history " + r(2, 5, 9), history: []Switch{{1, 0x5000000}}},
		"nothing since the move":              {archive: r(1, 1, 4) + "00000002.history", history: two},
		"nothing since, and a gap":            {archive: r(1, 1, 2) + r(1, 4, 4) + "00000002.history", history: two, want: seg(1, 3)},
		"the last of before is not there yet": {archive: r(1, 1, 3) + "00000002.history", history: two},
		"back to an earlier moment": {
			archive: r(1, 1, 9) + "00000002.history " + r(2, 4, 6) + "00000003.history " + r(3, 3, 8), history: []Switch{{1, 0x3000100}},
		},
		"three timelines, one of them short": {
			archive: r(1, 1, 4) + "00000002.history 00000003.history " + r(3, 5, 9), history: []Switch{{1, 0x5000100}, {2, 0x5000200}},
		},
		"a backup of what was left begins nothing": {
			archive: r(1, 1, 3) + r(1, 8, 9) + "00000002.history " + r(2, 5, 9), history: two, starts: seg(1, 8),
		},
		"the history is missing":                   {archive: r(1, 1, 4) + r(2, 5, 9), want: "00000002.history"},
		"it and segments are":                      {archive: r(1, 1, 3) + r(2, 5, 9), want: seg(1, 4) + " to 00000002.history (1 segment)"},
		"it is, and all backups are newer":         {archive: r(1, 1, 3) + r(2, 5, 9), starts: seg(2, 6)},
		"that of one between":                      {archive: r(1, 1, 4) + "00000003.history " + r(3, 5, 9), history: two, want: "00000002.history"},
		"the newest alone is, and known is before": {archive: r(1, 1, 4) + "00000002.history " + r(2, 5, 6) + r(3, 7, 9), history: two, want: "00000003.history"},
	} {
		t.Run(name, func(t *testing.T) {
			starts := strings.Fields(tc.starts)
			if tc.starts == "" {
				starts = []string{seg(1, 2)}
			}
			var got []string
			for _, g := range of(tc.archive).Gaps(Query{Starts: starts, History: tc.history}) {
				got = append(got, g.String())
			}
			if is := strings.Join(got, ", "); is != tc.want {
				t.Errorf("missing %q, want %q", is, tc.want)
			}
		})
	}
}

// TestAGapIsTold: where WAL ends, and when what is beside the gap was archived.
func TestAGapIsTold(t *testing.T) {
	gaps := of("000000010000000A00000001-000000010000000A00000003 000000010000000A00000006").Gaps(Query{Starts: []string{"000000010000000A00000001"}})
	want := observed.Gap{First: "000000010000000A00000004", Last: "000000010000000A00000005", Segments: 2, LSN: "A/4000000", Since: minute(3), Until: minute(4)}
	if len(gaps) != 1 || gaps[0] != want {
		t.Errorf("%+v", gaps)
	}
}

// TestOtherOrder: a listing need not be sorted, and may have a segment twice.
func TestOtherOrder(t *testing.T) {
	a := of("000000010000000000000009 000000010000000000000003-000000010000000000000005 000000010000000000000001-000000010000000000000004 000000010000000000000007")
	gaps := a.Gaps(Query{Starts: []string{"000000010000000000000001"}})
	if len(gaps) != 2 || gaps[0].First != "000000010000000000000006" || gaps[1].First != "000000010000000000000008" {
		t.Errorf("%+v", gaps)
	}
}

func TestSegmentSize(t *testing.T) {
	starts := Query{Starts: []string{"000000010000000000000001"}}
	for name, tc := range map[string]struct {
		archive string
		known   int64
		want    int
	}{
		"64 MB, known":                        {"00000001000000000000003E-00000001000000000000003F 000000010000000100000000", 64 << 20, 0},
		"64 MB, told by two whole log files":  {"00000001000000000000003E-00000001000000000000003F 000000010000000100000000", 0, 0},
		"16 MB, not known":                    {"0000000100000000000000FE-0000000100000000000000FF 000000010000000100000000", 0, 0},
		"1 MB, told by a name":                {"000000010000000000000FFE 000000010000000000000FFF 000000010000000100000000", 0, 0},
		"1 MB, told by a name against a size": {"000000010000000000000FFE 000000010000000000000FFF 000000010000000100000000", 16 << 20, 0},
		"16 MB, and the end is missing":       {"0000000100000000000000FE 000000010000000100000000", 16 << 20, 1},
	} {
		a := of(tc.archive)
		starts.Starts[0] = "0000000100000000" + tc.archive[16:24]
		if gaps := a.Gaps(Query{Starts: starts.Starts, SegmentSize: tc.known}); len(gaps) != tc.want {
			t.Errorf("%s: %+v", name, gaps)
		}
	}
}

func TestParseHistory(t *testing.T) {
	got, err := ParseHistory("1\t0/F000138\tno recovery target specified\n\n# x\n3\t1/0\tafter 2026\n")
	if err != nil || !slices.Equal(got, []Switch{{1, 0xF000138}, {3, 1 << 32}}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"x", "1", "0\t0/1\n", "1\tx/1\n", "1\t0\n", "2\t0/2\n1\t0/3\n", "1\t0/2\n2\t0/1\n"} {
		if got, err := ParseHistory(bad); err == nil {
			t.Errorf("%q was taken for %v", bad, got)
		}
	}
}

// TestAMillionSegments take little room.
func TestAMillionSegments(t *testing.T) {
	a := &Archive{}
	for i := range 1 << 20 {
		a.Add(fmt.Sprintf("%08X%08X%08X%s", 1, i>>8, i&255, sum), noon)
	}
	runs := 0
	for _, of := range a.runs {
		runs += len(of)
	}
	if runs > 1<<12 || len(a.Gaps(Query{Starts: []string{"000000010000000000000000"}})) > 0 {
		t.Errorf("%d entries, %v", runs, a.Gaps(Query{Starts: []string{"000000010000000000000000"}}))
	}
}

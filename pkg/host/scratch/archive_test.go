package scratch

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/wal"
)

const sha = "-ae2f0a97b015592e93973f1f2802dc3668640482"

func TestListsWhatRecoveryAsksFor(t *testing.T) {
	out := `15-1
15-1/00000002.history
15-1/0000000100000000
15-1/0000000100000000/000000010000000000000002` + sha + `.zst
15-1/0000000100000000/000000010000000000000003` + sha + `.zst
15-1/0000000100000000/000000010000000000000003.00000028.backup
15-1/0000000100000000/000000010000000000000004` + sha + `
15-1/0000000100000000/000000010000000000000005.partial` + sha + `.zst
15-1/0000000200000000/000000020000000000000005` + sha + `.gz
`
	a := list([]byte(out), "000000010000000000000003")
	if !slices.Equal(a.Segments, []string{"000000010000000000000003", "000000010000000000000004", "000000020000000000000005"}) || !slices.Equal(a.Histories, []string{"00000002.history"}) {
		t.Errorf("%+v", a)
	}
	if n := a.NewestHistory(); n != 2 {
		t.Errorf("newest timeline %d", n)
	}
}

func TestFindsTheSegmentThatIsMissing(t *testing.T) {
	const mb16 = 16 << 20
	seg := func(tl, log, n int) string { return fmt.Sprintf("%08X%08X%08X", tl, log, n) }
	for name, c := range map[string]struct {
		segments  []string
		histories []string
		history   string
		gap, last string
	}{
		"whole":           {segments: []string{seg(1, 0, 3), seg(1, 0, 4)}, last: seg(1, 0, 4)},
		"first is gone":   {segments: []string{seg(1, 0, 4)}, gap: seg(1, 0, 3), last: seg(1, 0, 4)},
		"one between":     {segments: []string{seg(1, 0, 3), seg(1, 0, 5)}, gap: seg(1, 0, 4), last: seg(1, 0, 5)},
		"over 4 GiB":      {segments: []string{seg(1, 0, 3), seg(1, 1, 0)}, gap: seg(1, 0, 4), last: seg(1, 1, 0)},
		"nothing is left": {},
		// 0/5000100 is in segment 5, which the next timeline has a copy of.
		"a failover":     {[]string{seg(1, 0, 3), seg(1, 0, 4), seg(2, 0, 5)}, []string{"00000002.history"}, "1\t0/5000100\tno recovery target specified\n", "", seg(2, 0, 5)},
		"of the old one": {[]string{seg(1, 0, 3), seg(2, 0, 5)}, []string{"00000002.history"}, "1\t0/5000100\tx\n", seg(1, 0, 4), seg(2, 0, 5)},
		"of the new one": {[]string{seg(1, 0, 3), seg(1, 0, 4), seg(1, 0, 5), seg(2, 0, 6)}, []string{"00000002.history"}, "1\t0/5000100\tx\n", seg(2, 0, 5), seg(2, 0, 6)},
		// What the former primary finished after the fork is on no way.
		"beside the way": {[]string{seg(1, 0, 3), seg(1, 0, 4), seg(1, 0, 7), seg(2, 0, 5)}, []string{"00000002.history"}, "1\t0/5000100\tx\n", "", seg(2, 0, 5)},
		"two failovers": {[]string{seg(1, 0, 3), seg(2, 0, 4), seg(3, 0, 5)}, []string{"00000002.history", "00000003.history"},
			"1\t0/4000100\tx\n\n2\t0/5000100\tx\n", "", seg(3, 0, 5)},
		// Recovery looks for it, and goes no further than the timeline before.
		"a history": {[]string{seg(1, 0, 3), seg(2, 0, 4), seg(3, 0, 5)}, []string{"00000003.history"}, "1\t0/4000100\tx\n\n2\t0/5000100\tx\n", "00000002.history", seg(3, 0, 5)},
	} {
		history, err := wal.ParseHistory(c.history)
		if err != nil {
			t.Fatal(err)
		}
		gap, last := list([]byte(strings.Join(append(c.segments, c.histories...), "\n")), seg(1, 0, 3)).missing(seg(1, 0, 3), history, mb16)
		if gap != c.gap || last != c.last {
			t.Errorf("%s: missing %q up to %q, want %q up to %q", name, gap, last, c.gap, c.last)
		}
	}
}

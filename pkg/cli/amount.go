package cli

import (
	"fmt"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// barWidth is how many places a bar of progress has; with the words around it, it fits a
// terminal of 80.
const barWidth = 24

// share is how much of the whole is done, in percent; 100 at most, and 0 of nothing.
func share(p *observed.Progress) int64 {
	if p == nil || p.Total <= 0 || p.Done <= 0 {
		return 0
	}
	// In floating point, because bytes times 100 may be too many for 64 bits.
	return min(100, int64(float64(p.Done)/float64(p.Total)*100))
}

// percent is the share in words; empty when nobody says how far it is.
func percent(p *observed.Progress) string {
	if p == nil || p.Total <= 0 {
		return ""
	}
	return fmt.Sprintf("%d%%", share(p))
}

// amount is how far it is in full.
func amount(p *observed.Progress) string {
	if p.Unit != "B" {
		return fmt.Sprintf("%d%%", share(p))
	}
	return fmt.Sprintf("%d%% (%s of %s)", share(p), size(p.Done), size(p.Total))
}

func bar(p *observed.Progress) string {
	full := int(share(p)) * barWidth / 100
	head := ""
	if full > 0 && full < barWidth {
		full, head = full-1, ">"
	}
	return "[" + strings.Repeat("=", full) + head + strings.Repeat(" ", barWidth-full-len(head)) + "]"
}

// size is a number of bytes in a unit that fits, with one place while that says much.
func size(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}} {
		if n >= u.size {
			if n < 10*u.size {
				return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
			}
			return fmt.Sprintf("%d %s", n/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

package cli

import (
	"fmt"
	"strings"
)

// didYouMean is "; did you mean X?" when one of the names is at most two slips
// away from what was typed, or begins with it.
func didYouMean(typed string, names []string) string {
	best, at := "", 3
	for _, n := range names {
		if d := distance(strings.ToLower(typed), strings.ToLower(n)); d < at && d < len(typed) {
			best, at = n, d
		}
	}
	if best == "" {
		for _, n := range names {
			if len(typed) >= 2 && strings.HasPrefix(n, typed) {
				best = n
				break
			}
		}
	}
	if best == "" || best == typed {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// distance counts inserted, dropped, changed and swapped letters.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

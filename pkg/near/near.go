// Package near finds the word that was probably meant when another one was typed,
// for "did you mean". Documents and commands guess alike.
package near

import (
	"fmt"
	"strings"
)

// Miss returns the candidate that was most likely meant: one or two slips away
// (insert, drop, change, swap), or the only one that begins with what was typed.
// Case does not count. What is a candidate itself missed nothing.
func Miss(typed string, candidates []string) (string, bool) {
	limit := 2
	if len(typed) <= 3 {
		limit = 1 // two slips in three letters is another word
	}
	lower := strings.ToLower(typed)
	best, at := "", limit+1
	for _, c := range candidates {
		if d := distance(lower, strings.ToLower(c), limit); d < at {
			best, at = c, d
		}
	}
	if at <= limit {
		return best, best != typed
	}
	found := 0
	for _, c := range candidates {
		if len(typed) >= 2 && strings.HasPrefix(strings.ToLower(c), lower) {
			best = c
			found++
		}
	}
	return best, found == 1
}

// Hint is the near miss as a suggestion, empty when nothing is near.
func Hint(typed string, candidates []string) string {
	if c, ok := Miss(typed, candidates); ok {
		return fmt.Sprintf("did you mean %q?", c)
	}
	return ""
}

// distance is the Damerau-Levenshtein distance (optimal string alignment); texts
// whose lengths alone differ by more than limit are not compared.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	prev2 := make([]int, len(b)+1)
	prev := make([]int, len(b)+1)
	cur := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}

package probe

import "slices"

// Turns are the times in which one server after the other took writes: the first write
// of each. Two servers that take writes at one time have turn after turn, more than
// there were moves. Samples of several samplers count together; they have one clock.
//
// A write that was under way on the server before when the next one took its first
// is late, not a turn.
func Turns(samples []Sample) []Sample {
	written := slices.DeleteFunc(slices.Clone(samples), func(s Sample) bool { return s.Outcome != Written })
	slices.SortFunc(written, func(a, b Sample) int { return a.End.Compare(b.End) })
	var turns []Sample
	for _, s := range written {
		n := len(turns)
		switch {
		case n == 0:
		case turns[n-1].Server == s.Server, s.Start.Before(turns[n-1].End):
			continue
		}
		turns = append(turns, s)
	}
	return turns
}

package server

import "testing"

// TestGarbage: little memory for a small fleet, few collections; a large one pays half of
// what it needs at most.
func TestGarbage(t *testing.T) {
	for _, c := range []struct{ live, total uint64 }{ // in MiB
		{0, 0}, {10, 25}, {32, 80}, {64, 160}, {80, 160}, {100, 160}, {160, 240}, {1000, 1500},
	} {
		live := c.live << 20
		if total := (live + live*uint64(garbage(live))/100) >> 20; total != c.total {
			t.Errorf("%d MiB live: collected at %d MiB, want %d", c.live, total, c.total)
		}
	}
}

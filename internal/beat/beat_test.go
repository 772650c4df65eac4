package beat

import (
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	for _, b := range []Beat{{}, New(start), New(start.Add(time.Hour))} {
		for i := range 1000 {
			now := start.Add(time.Duration(i) * 7777 * time.Microsecond)
			half, whole := b.Next(now, time.Second/2), b.Next(now, time.Second)
			if half <= 0 || half > time.Second/2 || whole <= 0 || whole > time.Second {
				t.Fatalf("%s, %s", half, whole)
			}
			if whole != half && whole != half+time.Second/2 {
				t.Fatalf("a second's beat is none of half a second: %s and %s", whole, half)
			}
			if again := b.Next(now.Add(half), time.Second/2); again != time.Second/2 {
				t.Fatalf("from a beat to the next: %s", again)
			}
		}
	}
}

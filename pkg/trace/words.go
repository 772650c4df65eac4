package trace

import (
	"fmt"
	"math"
	"strings"
)

// Title is what the story is about, on one line.
func (s Story) Title() string {
	if s.From == "" {
		return fmt.Sprintf("%s: %s leads", s.Cluster, s.To)
	}
	return fmt.Sprintf("%s: %s leads after %s", s.Cluster, s.To, s.From)
}

// Summary is how long the parts took, on one line.
func (s Story) Summary() string {
	var parts []string
	add := func(at *float64, format string, args ...any) {
		if at != nil {
			parts = append(parts, fmt.Sprintf(format, args...)+" "+InWords(*at))
		}
	}
	t := s.Took
	if t.Taken != nil && *t.Taken > 0 {
		add(t.Taken, "key taken after")
	}
	add(t.Writable, "writable")
	add(t.Confirmed, "confirmed")
	if t.Routes > 0 && t.FirstRoute != nil && t.LastRoute != nil {
		who := fmt.Sprintf("%d nodes route", t.Routes)
		if t.Routes == 1 {
			who = "1 node routes"
		}
		parts = append(parts, fmt.Sprintf("%s %s to %s", who, InWords(*t.FirstRoute), InWords(*t.LastRoute)))
	}
	add(t.VIP, "address")
	add(t.DNS, "names")
	add(t.Writes, "writes everywhere after")
	return strings.Join(parts, ", ")
}

// ClockWords says what was done about clocks that differ.
func (s Story) ClockWords() string {
	var parts []string
	most := 0.0
	for _, c := range s.Clocks {
		most = max(most, math.Abs(c.Ahead))
		if c.Corrected {
			parts = append(parts, fmt.Sprintf("%s %+.0f ms", c.Node, c.Ahead))
		}
	}
	switch {
	case len(parts) > 0:
		return "; clocks put right: " + strings.Join(parts, ", ")
	case len(s.Clocks) > 1:
		return fmt.Sprintf("; clocks within %.0f ms", math.Ceil(most))
	}
	return ""
}

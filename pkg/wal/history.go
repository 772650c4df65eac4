package wal

import (
	"fmt"
	"strconv"
	"strings"
)

// Switch is where a timeline ends and the next one of a history begins.
type Switch struct {
	Timeline uint32
	LSN      uint64
}

// ParseHistory reads a timeline's history file: the timelines that it comes from, the oldest
// first, and where each was left.
func ParseHistory(text string) (out []Switch, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return nil, fmt.Errorf("read a timeline's history: expected a timeline and a WAL position, found %q", line)
		}
		tl, err := strconv.ParseUint(fields[0], 10, 32)
		at, err2 := ParseLSN(fields[1])
		s := Switch{uint32(tl), at}
		if err != nil || err2 != nil || tl == 0 || len(out) > 0 && (out[len(out)-1].Timeline >= s.Timeline || out[len(out)-1].LSN > s.LSN) {
			return nil, fmt.Errorf("read a timeline's history: expected a later timeline and a WAL position, found %q", line)
		}
		out = append(out, s)
	}
	return out, nil
}

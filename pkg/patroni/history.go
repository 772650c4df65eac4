package patroni

import (
	"encoding/json"
	"fmt"
	"time"
)

// Timeline is one line of Patroni's history: a timeline that ended with a promotion.
type Timeline struct {
	// Number is the timeline that ended, LSN where.
	Number int64  `json:"timeline"`
	LSN    int64  `json:"lsn"`
	Reason string `json:"reason"`
	// At is when Patroni saw the new one; the zero time: it was not there to see it.
	At time.Time `json:"at,omitzero"`
	// Leader is who led after it; empty before Patroni 2.0.
	Leader string `json:"leader,omitempty"`
}

// ParseHistory reads the value of the history key: lists of a timeline, a position, a reason and,
// where Patroni was there, a time and a leader. A line that is none is left out.
func ParseHistory(value []byte) ([]Timeline, error) {
	var lines [][]any
	if err := json.Unmarshal(value, &lines); err != nil {
		return nil, fmt.Errorf("parse Patroni's history: %w", err)
	}
	var out []Timeline
	for _, l := range lines {
		if len(l) < 3 {
			continue
		}
		number, ok1 := l[0].(float64)
		lsn, ok2 := l[1].(float64)
		reason, ok3 := l[2].(string)
		if !ok1 || !ok2 || !ok3 {
			continue
		}
		t := Timeline{Number: int64(number), LSN: int64(lsn), Reason: reason}
		if len(l) > 3 {
			at, _ := l[3].(string)
			t.At, _ = time.Parse("2006-01-02T15:04:05.999999-07:00", at)
		}
		if len(l) > 4 {
			t.Leader, _ = l[4].(string)
		}
		out = append(out, t)
	}
	return out, nil
}

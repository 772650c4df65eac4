package plan

import "time"

// Freeze says that a concern is left alone for a while: the node takes its plans in
// and answers them, applies and repairs nothing, and goes on to follow the leader.
// It comes with the plan, so that it holds before any change that comes with it, and
// ends by the node's own clock, so that it needs nobody to end.
type Freeze struct {
	// Until is when it ends, by wall clocks.
	Until  time.Time `json:"until"`
	Owner  string    `json:"owner,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

// Active reports whether the freeze holds at the moment; a nil one never does.
func (f *Freeze) Active(now time.Time) bool { return f != nil && now.Before(f.Until) }

// Same reports whether two freezes, either of which may be nil, say the same.
func (f *Freeze) Same(o *Freeze) bool {
	if f == nil || o == nil {
		return f == o
	}
	return f.Until.Equal(o.Until) && f.Owner == o.Owner && f.Reason == o.Reason
}

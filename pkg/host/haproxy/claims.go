package haproxy

import (
	"fmt"
	"sync"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// claims closes the gap between "this port is free" and the bind: two clusters of a
// node are applied at the same time, and HAProxy binds a port that another HAProxy has
// without a word (SO_REUSEPORT), which splits the clients between two clusters.
type claims struct {
	mu     sync.Mutex
	byUnit map[string]claim
}

type claim struct {
	binds []Bind
	until time.Time
}

// claimFor is how long a claim holds: as long as the agent gives one apply. What was
// bound by then is found among the listening sockets, and what was not is free again.
const claimFor = time.Minute

// take claims the binds for a unit, in place of what it claimed before, unless another
// unit has claimed one of them.
func (c *claims) take(unit, path string, binds []Bind, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for other, held := range c.byUnit {
		if other == unit || now.After(held.until) {
			continue
		}
		for _, o := range held.binds {
			for _, b := range binds {
				if (listener{Host: o.Host, Port: o.Port}).clashes(b) {
					return &plan.Refusal{Reason: observed.PortInUse,
						Message: fmt.Sprintf("%s: line %d binds %s, which %s is about to listen on", path, b.Line, b, other)}
				}
			}
		}
	}
	if c.byUnit == nil {
		c.byUnit = map[string]claim{}
	}
	c.byUnit[unit] = claim{binds: binds, until: now.Add(claimFor)}
	return nil
}

package agent

import (
	"errors"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// fullPause is how long a report waits while etcd refuses every write: somebody has
// to make room first, and asking is not free for an etcd in that state.
const fullPause = 10 * time.Second

// fullNext is what makes room.
const fullNext = "pgctrl etcd compact"

// wrote notes whether etcd takes writes. A full etcd takes nothing away from the
// host: what is known of the leader stays fresh, so routes go on; only what this
// agent has to say is not heard, confirmations included.
func (a *Agent) wrote(err error) {
	full := errors.Is(err, store.ErrNoSpace)
	if err != nil && !full && !errors.Is(err, store.ErrConflict) {
		return // says nothing about room
	}
	if a.full.Swap(full) == full {
		return
	}
	if full {
		a.log.Error("etcd is full; nothing can be reported or confirmed, everything on the host goes on")
	} else {
		a.log.Info("etcd takes writes again")
	}
}

// fullCondition is what status says about it; nil: etcd takes writes.
func (a *Agent) fullCondition() *observed.Condition {
	if !a.full.Load() {
		return nil
	}
	return &observed.Condition{
		Type: observed.Healthy, Status: observed.False, Reason: observed.NoSpace, Next: fullNext,
		Message: "etcd is full: this agent can report and confirm nothing; routes go on and follow what is confirmed",
	}
}

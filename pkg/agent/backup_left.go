package agent

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

const (
	// leftEvery is how often a replica tries again to archive what it finished when it led.
	// PostgreSQL removes that with one of its next restartpoints, minutes apart.
	leftEvery = 15 * time.Second
	// leftWithin bounds one attempt: a segment takes a tenth of a second.
	leftWithin = time.Minute
)

// left is what a replica still has of the time when it led.
type left struct {
	basis string // of the last attempt: since when somebody else leads
	waits bool
	next  time.Time
	cond  *observed.Condition
}

// archiveLeft sends what the member finished and had not archived when another one took over,
// until nothing of it waits; it says how long not to ask again. A member that leads archives by
// itself.
func (w *backups) archiveLeft(ctx context.Context, follows bool, basis string) time.Duration {
	c, l := w.c, &w.left
	now := time.Now()
	switch {
	case !follows:
		l.basis, l.waits = "", false
		w.sayLeft(nil)
		return sqlIdle
	case basis == l.basis && !l.waits:
		return sqlIdle
	case basis == l.basis && now.Before(l.next):
		return l.next.Sub(now)
	}
	part, cancel := context.WithTimeout(ctx, leftWithin)
	waits, err := c.a.o.Host.Backups.Left(part, c.name)
	cancel()
	if ctx.Err() != nil {
		return sqlIdle
	}
	if waits == 0 && err == nil {
		if l.waits {
			c.log.Info("what was finished before another member led is archived")
		}
		l.basis, l.waits = basis, false
		w.sayLeft(nil)
		return sqlIdle
	}
	if !l.waits {
		c.log.Warn("WAL of the time when this member led is not archived yet", zap.Int("files", waits), zap.Error(err))
	}
	l.basis, l.waits, l.next = basis, true, time.Now().Add(leftEvery)
	w.sayLeft(&observed.Condition{
		Type: observed.Healthy, Status: observed.True, Reason: observed.ArchiveFailing,
		Message: fmt.Sprintf("WAL that was finished here before another member led is not archived yet: %v", err),
		Next:    "pgctrl backup check " + c.name,
	})
	return leftEvery
}

// sayLeft changes what is reported of it. The words stay those of the first attempt (R8).
func (w *backups) sayLeft(cond *observed.Condition) {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	if (cond == nil) == (w.left.cond == nil) {
		return
	}
	w.left.cond = cond
	poke(w.c.wakeWork)
}

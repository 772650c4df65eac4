package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// What the agent finds out about the host itself goes with its presence: it is nothing
// that a plan asked for, and nobody waits for it. It is looked at every inventoryEvery,
// and said in steps, so that a disk that fills writes four times to etcd and not for ever
// (R8).

// clockSteps are how wrong a clock may be before it is said, and said anew; below the first is
// what asking in whole seconds can't tell.
var clockSteps = []time.Duration{2 * time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute, time.Hour}

// roomSteps are the parts of a file system, in percent, below which it is said that so much
// is left.
var roomSteps = []uint64{10, 5, 2, 1}

// noted is how far each thing had got when it was last said, so that what is near a step is
// not said and taken back in turns.
type noted map[string]int

// step is the step that a thing is at: the furthest that is reached, or the one it was at
// while it is still nearly that.
func (n noted) step(what string, reached, nearly func(step int) bool, steps int) int {
	at := 0
	for i := 1; i <= steps; i++ {
		if reached(i) || i <= n[what] && nearly(i) {
			at = i
		}
	}
	n[what] = at
	return at
}

// notesWithin is how long the presence waits for them: a file system that hangs, as a
// network's does, holds up whoever looks.
const notesWithin = 3 * time.Second

// hostNotes are the newest notes, or the ones before while somebody still looks.
func (a *Agent) hostNotes(ctx context.Context) []observed.Condition {
	if a.looking.CompareAndSwap(false, true) {
		found := make(chan struct{})
		go func() {
			defer a.looking.Store(false)
			defer close(found)
			notes := a.lookAtHost(ctx)
			a.notes.Store(&notes)
		}()
		timer := time.NewTimer(notesWithin)
		defer timer.Stop()
		select {
		case <-found:
		case <-timer.C:
		}
	}
	if notes := a.notes.Load(); notes != nil {
		return *notes
	}
	return nil
}

// lookAtHost looks at the clock and at the room of the members' folders.
func (a *Agent) lookAtHost(ctx context.Context) []observed.Condition {
	var out []observed.Condition
	if a.o.Host.Clock != nil {
		// etcd that is away is said elsewhere.
		if ahead, endpoint, err := a.o.Host.Clock(ctx); err == nil {
			if c := a.noted.clock(a.o.Node, endpoint, ahead); c != nil {
				out = append(out, *c)
			}
		}
	}
	if a.o.Host.Rooms == nil {
		return out
	}
	for _, c := range a.all() {
		u, member, ok := c.ownPostgres()
		if !ok {
			continue
		}
		for _, r := range a.o.Host.Rooms(c.name, u) {
			if n := a.noted.room(a.o.Node, member, r); n != nil {
				out = append(out, *n)
			}
		}
	}
	return out
}

// clock is what to say of a clock; nil: nothing.
func (n noted) clock(node, endpoint string, ahead time.Duration) *observed.Condition {
	by := ahead.Abs()
	at := n.step("clock", func(i int) bool { return by >= clockSteps[i-1] },
		func(i int) bool { return by >= clockSteps[i-1]-time.Second }, len(clockSteps))
	if at == 0 {
		return nil
	}
	how := "ahead of"
	if ahead < 0 {
		how = "behind"
	}
	return &observed.Condition{
		Type: observed.Healthy, Status: observed.True, Reason: observed.ClockWrong,
		Message: fmt.Sprintf("the clock of node %s is about %s or more %s that of etcd at %s", node, clockSteps[at-1], how, endpoint),
		Next:    fmt.Sprintf("timedatectl status (on %s and on etcd's host)", node),
	}
}

// room is what to say of a folder's file system; nil: nothing.
func (n noted) room(node, member string, r Room) *observed.Condition {
	left := func(free, of uint64, what string) string {
		at := n.step(member+" "+r.Folder+" "+what,
			func(i int) bool { return of > 0 && free < of/100*roomSteps[i-1] },
			func(i int) bool { return of > 0 && free < of/100*roomSteps[i-1]*5/4 }, len(roomSteps))
		if at == 0 {
			return ""
		}
		return fmt.Sprintf("about %d %% or less of the %s", roomSteps[at-1], what)
	}
	said := left(r.Free, r.Size, "room")
	if files := left(r.Inodes, r.Most, "number of files"); said == "" {
		said = files
	}
	if said == "" {
		return nil
	}
	return &observed.Condition{
		Type: observed.Healthy, Status: observed.True, Reason: observed.DiskFilling,
		Message: fmt.Sprintf("%s is left where %s has its %s", said, member, folderWords[r.Folder]),
		Next:    fmt.Sprintf("df -h, df -i (on %s)", node),
	}
}

var folderWords = map[string]string{"data": "data", "wal": "WAL", "repository": "backup repository"}

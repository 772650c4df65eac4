package agent

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// When drift returns: two that write one thing against each other cost each other
// more than the drift does, and people must hear of it.
const (
	// FightAfter repairs of one resource within FightWindow are a fight.
	FightAfter  = 3
	FightWindow = 10 * time.Second
	// fightFirst is the first pause between two repairs in a fight; it doubles, up
	// to RetryCap.
	fightFirst = 2 * time.Second
)

// fight is how often a resource was repaired, and for how long it is left alone.
// Time is an argument everywhere.
type fight struct {
	repairs []time.Time // the last FightAfter
	pause   time.Duration
	since   time.Time // when the present drift was noticed; zero: there is none
	what    string    // what differed last
}

func (con *concern) fight(id string) *fight {
	f := con.fights[id]
	if f == nil {
		f = &fight{}
		con.fights[id] = f
	}
	return f
}

// noticed notes drift: found now, after an event at seen if that is not zero.
func (f *fight) noticed(now, seen time.Time, what string) {
	if !f.on(now) {
		f.pause = 0
	}
	f.since, f.what = now, what
	if !seen.IsZero() && seen.Before(now) {
		f.since = seen
	}
}

// hold is how long the present drift is left as it is.
func (f *fight) hold(now time.Time) time.Duration {
	if f.pause == 0 || len(f.repairs) == 0 {
		return 0
	}
	return max(0, f.repairs[len(f.repairs)-1].Add(f.pause).Sub(now))
}

// repaired notes a repair and returns how long after the drift was noticed it came.
func (f *fight) repaired(now time.Time) time.Duration {
	took := now.Sub(f.since)
	if f.since.IsZero() {
		took = 0
	}
	f.since = time.Time{}
	f.repairs = append(f.repairs, now)
	f.repairs = f.repairs[max(0, len(f.repairs)-FightAfter):]
	switch {
	case f.pause > 0:
		f.pause = min(2*f.pause, RetryCap)
	case len(f.repairs) == FightAfter && now.Sub(f.repairs[0]) <= FightWindow:
		f.pause = fightFirst
	}
	return took
}

// on reports whether the fight goes on, as far as is known.
func (f *fight) on(now time.Time) bool { return f.left(now) > 0 }

// left is how long until the fight counts as over when nothing happens any more.
func (f *fight) left(now time.Time) time.Duration {
	if f.pause == 0 {
		return 0
	}
	if !f.since.IsZero() {
		return FightWindow // it differs at this moment
	}
	return max(0, f.repairs[len(f.repairs)-1].Add(f.pause+FightWindow).Sub(now))
}

func (f *fight) condition(cluster, concern, id string) observed.Condition {
	return observed.Condition{
		Type: observed.Applied, Status: observed.False, Reason: observed.DriftReturns,
		Message: fmt.Sprintf("%s is changed again each time it is put right (%s); it is repaired every %s at most until that stops", id, f.what, f.pause),
		Next:    fmt.Sprintf("pgctrl freeze %s %s --for 30m --reason ... (to leave it so while you look for who writes it)", cluster, concern),
	}
}

// holdBack says whether a drifted resource is left as it is for now, because it is
// fought over.
func (c *cluster) holdBack(con *concern, id string, now time.Time) (observed.Condition, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := con.fights[id]
	if _, drifted := con.drifted[id]; !drifted || f == nil {
		return observed.Condition{}, 0 // a change, or the first time
	}
	wait := f.hold(now)
	return f.condition(c.name, con.name, id), wait
}

// fighting are the conditions about what is fought over, and how long until the
// first of them is over.
func (c *cluster) fighting(con *concern, now time.Time) ([]observed.Condition, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []observed.Condition
	next := DriftEvery
	for _, id := range slices.Sorted(maps.Keys(con.fights)) {
		if f := con.fights[id]; f.on(now) {
			out = append(out, f.condition(c.name, con.name, id))
			next = min(next, f.left(now))
		}
	}
	return out, next
}

// noteRepair writes the fact of a repair. In a fight the condition says it, and a
// fact that counts would be written again and again. The caller holds mu.
func (con *concern) noteRepair(id, was string) {
	con.repairs++
	if con.repaired == "" || !con.fight(id).on(time.Now()) {
		con.repaired = fmt.Sprintf("%d times; last %s: %s", con.repairs, id, was)
	}
}

// repairedByRouter takes in what was set by hand in the running program and put
// back while routes were asserted.
func (c *cluster) repairedByRouter(concern, unit string) {
	if c.a.o.Host.Repairs == nil {
		return
	}
	for _, r := range c.a.o.Host.Repairs(unit) {
		c.repairedByHand(concern, unit, r)
	}
}

// repairedByHand notes one thing that was set by hand in a running program and put back.
func (c *cluster) repairedByHand(concern, unit string, r Repair) {
	now := time.Now()
	c.mu.Lock()
	con := c.concerns[concern]
	if con == nil {
		c.mu.Unlock()
		return
	}
	f := con.fight(r.What)
	f.noticed(now, time.Time{}, r.Was)
	f.repaired(now)
	con.noteRepair(r.What, r.Was)
	c.mu.Unlock()
	c.a.metrics.drift.WithLabelValues(concern, r.What).Inc()
	c.log.Warn("set by hand; put back", zap.String("concern", concern), zap.String("unit", unit), zap.String("what", r.What), zap.String("was", r.Was))
	poke(c.wakeWork)
}

package agent

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// When drift returns: two that write one thing against each other cost each other
// more than the drift does, and people must hear of it.
const (
	// FightAfter times that one thing differed in one way, within FightWindow, are a
	// fight. Different things that happen to one resource are none: somebody who
	// stops a unit, starts it and disables it does each once.
	FightAfter  = 3
	FightWindow = 10 * time.Second
	// fightFirst is the first pause between two repairs in a fight; it doubles, up
	// to RetryCap.
	fightFirst = 2 * time.Second
)

// drift is one way in which one resource differed.
type drift struct {
	id, what string
}

func (d drift) before(o drift) int {
	return cmp.Or(strings.Compare(d.id, o.id), strings.Compare(d.what, o.what))
}

// fight is how often a drift came back, and for how long it is left as it is. Time
// is an argument everywhere.
type fight struct {
	// came is when the last FightAfter were noticed. The repairs' own times would not
	// do: a slow one, of a busy host, would come closer to the next.
	came  []time.Time
	ended time.Time // the last repair
	pause time.Duration
	since time.Time // when the present one was noticed; zero: there is none
	what  string    // what differed last
}

func (con *concern) fight(d drift) *fight {
	f := con.fights[d]
	if f == nil {
		f = &fight{}
		con.fights[d] = f
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
	if f.pause == 0 {
		return 0
	}
	return max(0, f.ended.Add(f.pause).Sub(now))
}

// repaired notes a repair and returns how long after the drift was noticed it came.
func (f *fight) repaired(now time.Time) time.Duration {
	came := f.since
	if came.IsZero() {
		came = now
	}
	f.since, f.ended = time.Time{}, now
	f.came = append(f.came, came)
	f.came = f.came[max(0, len(f.came)-FightAfter):]
	switch {
	case f.pause > 0:
		f.pause = min(2*f.pause, RetryCap)
	case len(f.came) == FightAfter && came.Sub(f.came[0]) <= FightWindow:
		f.pause = fightFirst
	}
	return now.Sub(came)
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
	return max(0, f.ended.Add(f.pause+FightWindow).Sub(now))
}

// stale: whatever comes now, what was before plays no part in it.
func (f *fight) stale(now time.Time) bool {
	return f.since.IsZero() && !f.on(now) && now.Sub(f.ended) > FightWindow
}

func (f *fight) condition(cluster, concern, id string) observed.Condition {
	return observed.Condition{
		Type: observed.Applied, Status: observed.False, Reason: observed.DriftReturns,
		Message: fmt.Sprintf("%s is changed again each time it is put right (%s); it is repaired every %s at most until that stops", id, f.what, f.pause),
		Next:    fmt.Sprintf("pgctrl freeze %s %s --for 30m --reason ... (to leave it so while you look for who writes it)", cluster, concern),
	}
}

// holdBack says whether a resource that differs is left as it is for now, because it
// is fought over. hash is what it should be: a change does not wait for a fight.
func (c *cluster) holdBack(con *concern, id, hash string, now time.Time) (observed.Condition, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := con.drifted[id]
	if !ok || d.hash != hash {
		return observed.Condition{}, 0
	}
	f := con.fight(drift{id, d.what})
	return f.condition(c.name, con.name, id), f.hold(now)
}

// fighting are the conditions about what is fought over, and how long until the
// first of them is over.
func (c *cluster) fighting(con *concern, now time.Time) ([]observed.Condition, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(con.fights, func(_ drift, f *fight) bool { return f.stale(now) })
	var out []observed.Condition
	next := DriftEvery
	for _, d := range slices.SortedFunc(maps.Keys(con.fights), drift.before) {
		if f := con.fights[d]; f.on(now) {
			out = append(out, f.condition(c.name, con.name, d.id))
			next = min(next, f.left(now))
		}
	}
	return out, next
}

// noteRepair writes the fact of a repair. In a fight the condition says it, and a
// fact that counts would be written again and again. The caller holds mu.
func (con *concern) noteRepair(id, was string, f *fight) {
	con.repairs++
	if con.repaired == "" || !f.on(time.Now()) {
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
	// Whatever was set, it is the same server: what it can be set to has no end.
	f := con.fight(drift{id: r.What})
	f.noticed(now, time.Time{}, r.Was)
	f.repaired(now)
	con.noteRepair(r.What, r.Was, f)
	c.mu.Unlock()
	c.a.metrics.drift.WithLabelValues(concern, r.What).Inc()
	c.log.Warn("set by hand; put back", zap.String("concern", concern), zap.String("unit", unit), zap.String("what", r.What), zap.String("was", r.Was))
	poke(c.wakeWork)
}

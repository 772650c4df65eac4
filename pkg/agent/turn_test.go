package agent_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// repairs lets time pass and lists which node applied something and when. While
// anybody does, no other node that began may be unwell (R15), by the reports in etcd if
// those can be written.
func (w *world) repairs(d time.Duration, reports bool) (who []string, at []time.Time) {
	w.t.Helper()
	began, acts := map[string]bool{}, map[string]int{}
	for n, r := range w.agents {
		acts[n] = len(r.host.Events())
	}
	for end := time.Now().Add(d); time.Now().Before(end); after(50 * time.Millisecond) {
		for i := 1; i <= 3; i++ {
			n := node(i)
			if len(w.agents[n].host.Events()) == acts[n] {
				continue
			}
			acts[n] = len(w.agents[n].host.Events())
			for other := range began {
				j := int(other[2] - '0')
				if r := w.report(j, "haproxy"); reports && other != n && !r.Done(r.Plan) {
					w.t.Errorf("%s is repaired while %s is not well yet: %+v", n, other, r.Conditions)
				}
			}
			began[n] = true
			who, at = append(who, n), append(at, time.Now())
		}
	}
	return who, at
}

// driftFrozen has every node's HAProxy drift during a freeze that ends in a minute.
func (w *world) driftFrozen(t *testing.T) {
	t.Helper()
	settle(t, w)
	after(2 * time.Second)
	for i := 1; i <= 3; i++ {
		w.etcd.Put(layout.PlanKey(node(i), "c", "haproxy"), frozenPlan(haproxyPlan(i), time.Minute))
	}
	after(time.Second)
	for i := 1; i <= 3; i++ {
		w.agents[node(i)].host.DriftNow(unitName)
	}
	after(time.Second)
	for i := 1; i <= 3; i++ {
		expect(t, "frozen", applied(t, w.report(i, "haproxy")).Reason, observed.Frozen)
	}
}

func (w *world) wellAgain(t *testing.T) {
	t.Helper()
	for i := 1; i <= 3; i++ {
		r := w.report(i, "haproxy")
		expect(t, node(i)+" done", r.Done(r.Plan), true)
	}
	if _, _, there := w.etcd.Get(layout.TurnKey("c")); there {
		t.Error("a turn is left")
	}
}

// TestR15RepairsAfterAFreeze: a freeze ends on all nodes at one instant, and what
// drifted meanwhile is repaired on one after the other, each once the last is well.
func TestR15RepairsAfterAFreeze(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"by the clock": func(*world) { after(58 * time.Second) },
		"by a person": func(w *world) {
			for i := 1; i <= 3; i++ {
				w.etcd.Put(layout.PlanKey(node(i), "c", "haproxy"), string(plan.Encode(haproxyPlan(i))))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				w.driftFrozen(t)
				end(w)
				waiting := ""
				after(time.Second)
				for i := 1; i <= 3; i++ {
					if c := applied(t, w.report(i, "haproxy")); c.Reason == observed.RollingOut {
						waiting = c.Message
					}
				}
				who, _ := w.repairs(20*time.Second, true)
				if len(who) != 3 { // those that began before the first look
					for i := 1; i <= 3; i++ {
						if !slices.Contains(who, node(i)) {
							who = append([]string{node(i)}, who...)
						}
					}
				}
				slices.Sort(who)
				expect(t, "repaired", fmt.Sprint(who), "[pg1 pg2 pg3]")
				mentions(t, "who waits says", waiting, "since the freeze, and waits until node pg", "has repaired its own")
				w.wellAgain(t)
			})
		})
	}
}

// TestR15ANodeThatCannotBeRepairedHoldsNobodyUp: it gives its turn back after each try.
func TestR15ANodeThatCannotBeRepairedHoldsNobodyUp(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.driftFrozen(t)
		w.agents["pg2"].host.Fail("unit "+unitName, &plan.Refusal{Reason: observed.PortInUse, Message: "taken"})
		after(40 * time.Second)
		after(time.Minute)
		for _, i := range []int{1, 3} {
			r := w.report(i, "haproxy")
			expect(t, node(i), r.Done(r.Plan), true)
		}
		expect(t, "pg2", applied(t, w.report(2, "haproxy")).Reason, observed.PortInUse)
		w.agents["pg2"].host.Fail("unit "+unitName, nil)
		after(time.Minute)
		w.wellAgain(t)
	})
}

// TestR15NobodyTakesAnothersTurn, for as long as that one has it.
func TestR15NobodyTakesAnothersTurn(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.driftFrozen(t)
		w.etcd.Put(layout.TurnKey("c"), `{"node":"pg9"}`)
		who, _ := w.repairs(90*time.Second, true)
		expect(t, "repaired while another has the turn", len(who), 0)
		w.etcd.Delete(layout.TurnKey("c"))
		who, _ = w.repairs(20*time.Second, true)
		expect(t, "repaired after it", len(who), 3)
		w.wellAgain(t)
	})
}

// TestR15RepairsWithoutEtcd: by the clock and each node's place, the leader's last.
func TestR15RepairsWithoutEtcd(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.driftFrozen(t)
		for i := 1; i <= 3; i++ {
			w.etcd.Cut(node(i))
		}
		who, at := w.repairs(2*time.Minute, false)
		expect(t, "in this order", fmt.Sprint(who), "[pg2 pg3 pg1]")
		for i := 1; i < len(at); i++ {
			if d := at[i].Sub(at[i-1]); d < time.Second {
				t.Errorf("%s came %s after %s", who[i], d, who[i-1])
			}
		}
	})
}

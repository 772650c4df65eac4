package agent_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

var inPlace = plan.Restore{Operation: "restore-1", First: "m1", Data: "/data/c", Bin: "/bin", Backup: "1F", Target: "time", Value: "2026-11-26 12:00:00+00"}

// askRestore asks node i for an act of a restore, under the leadership that there is now.
func askRestore(w *world, i int, id string, act plan.Act) {
	_, epoch, led := w.etcd.Get(layout.Leader("c"))
	if !led {
		epoch = 0
	}
	w.etcd.Put(layout.StepKey(node(i), id), string(observed.Encode(plan.Step{
		Schema: plan.Schema, Act: act, Cluster: "c", Member: member(i), Store: "S1", UID: "U1", Epoch: plan.Epoch(epoch), By: "a test",
		Restore: &inPlace, Operation: inPlace.Operation,
	})))
}

func (w *world) answer(i int, id string) string {
	w.t.Helper()
	r := w.result(i, id)
	return strings.TrimSuffix(fmt.Sprintf("%s %s: %s", r.State, r.Reason, r.Message), ": ")
}

// withData gives every host data that can be told apart.
func withData(t *testing.T, w *world) (a1, a2, a3 *running) {
	t.Helper()
	a1, a2, a3 = withBackups(t, w)
	for i, a := range []*running{a1, a2, a3} {
		a.host.InPlace().Put(inPlace.Data, "former "+member(i+1))
	}
	return a1, a2, a3
}

// prepared has the backup restored beside m1's data.
func prepared(t *testing.T, w *world, a1 *running) {
	t.Helper()
	askRestore(w, 1, "c.restore-1-1", plan.ActPrepare)
	after(3 * time.Second)
	a1.host.Scratch().Finish(observed.Recovered{Timeline: 2, LSN: "0/5000000", System: system}, nil)
	a1.host.InPlace().Put(inPlace.Prepared()+"/data", "restored")
	after(3 * time.Second)
	expect(t, "prepared", w.answer(1, "c.restore-1-1"), "done : recovered up to 0/5000000")
}

func TestRestoreIsPrepared(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := withData(t, w)
		s := a1.host.Scratch()
		askRestore(w, 1, "c.restore-1-1", plan.ActPrepare)
		after(3 * time.Second)
		expect(t, "runs", s.Running(), "c.restore-1-1")
		s.At(40, "copying")
		after(3 * time.Second)
		expect(t, "progress", *w.result(1, "c.restore-1-1").Progress, observed.Progress{Done: 40, Total: 100, Unit: "B"})
		// The agent is started anew; the restore goes on and is looked after.
		a1 = w.again(1, a1, func(*running) { after(20 * time.Second) })
		after(time.Minute)
		expect(t, "goes on", s.Running(), "c.restore-1-1")
		expect(t, "still leads", a1.host.InPlace().Up(), true)
		s.Finish(observed.Recovered{Timeline: 2, LSN: "0/5000000", System: system, At: time.Unix(1000, 0)}, nil)
		after(3 * time.Second)
		expect(t, "done", w.answer(1, "c.restore-1-1"), "done : recovered up to 0/5000000, whose last transaction is of 1970-01-01T00:16:40Z")
		expect(t, "kept", strings.Join(s.Dirs(), " "), inPlace.Prepared())
		order := s.Orders()[0]
		expect(t, "target", order.Target, plan.RecoveryTarget{Type: "time", Value: inPlace.Value})
		expect(t, "kept", order.Keep, true)

		// Data that the cluster could not follow.
		for i, bad := range map[string]observed.Recovered{
			"1F": {Timeline: 1, System: system}, // the cluster is on 1 itself
			"2F": {Timeline: 2, System: "7300000000000000002"},
		} {
			id := "c.restore-bad-" + i
			askRestore(w, 1, id, plan.ActPrepare)
			after(3 * time.Second)
			s.Finish(bad, nil)
			after(3 * time.Second)
			expect(t, "refused", w.result(1, id).Reason, observed.RestoreFailed)
		}
		expect(t, "none is left", strings.Join(s.Dirs(), " "), "")

		// Given up, and nothing is left of it.
		askRestore(w, 1, "c.restore-1-2", plan.ActPrepare)
		after(3 * time.Second)
		w.etcd.Delete(layout.StepKey("pg1", "c.restore-1-2"))
		after(3 * time.Second)
		expect(t, "stopped", s.Running(), "")
		expect(t, "none is left", strings.Join(s.Dirs(), " "), "")
		// And one that can't be swapped later is not begun.
		n := len(s.Events())
		a1.host.InPlace().Fail("can swap", &plan.Refusal{Reason: observed.Unsupported, Message: "/data/c is a mount point"})
		askRestore(w, 1, "c.restore-1-3", plan.ActPrepare)
		after(3 * time.Second)
		expect(t, "refused", w.answer(1, "c.restore-1-3"), "failed Unsupported: /data/c is a mount point")
		expect(t, "nothing begun", strings.Join(s.Events()[n:], ", "), "remove "+inPlace.Prepared())
	})
}

// TestR14RestoreLooksAtTheLeader: data go from under a leader only where others are ready.
func TestR14RestoreLooksAtTheLeader(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2, _ := withData(t, w)
		askRestore(w, 1, "c.restore-1-1", plan.ActAside)
		askRestore(w, 2, "c.restore-1-2", plan.ActSwap)
		after(2 * time.Second)
		expect(t, "the leader's data", w.result(1, "c.restore-1-1").Reason, observed.Leading)
		expect(t, "a replica's", w.result(2, "c.restore-1-2").Reason, observed.LeaderChanged)
		askRestore(w, 1, "c.restore-1-3", plan.ActSwap)
		after(2 * time.Second)
		expect(t, "nothing prepared", w.answer(1, "c.restore-1-3"), "failed RestoreFailed: nothing was prepared")
		w.etcd.Put(layout.StepKey("pg2", "c.restore-1-4"), string(observed.Encode(plan.Step{
			Schema: plan.Schema, Act: plan.ActAside, Cluster: "c", Member: "m2", Store: "S1", UID: "U1", Epoch: 1, Restore: &inPlace,
		})))
		w.etcd.Put(layout.StepKey("pg2", "c.restore-1-5"), string(observed.Encode(plan.Step{
			Schema: plan.Schema, Act: plan.ActDiscard, Cluster: "c", Member: "m2", Store: "S1", UID: "U1", Epoch: 1,
		})))
		after(2 * time.Second)
		expect(t, "asked under another leader", w.result(2, "c.restore-1-4").Reason, observed.LeaderChanged)
		expect(t, "of nothing", w.result(2, "c.restore-1-5").Reason, observed.NotPlanned)
		for _, a := range []*running{a1, a2} {
			expect(t, "runs", a.host.InPlace().Up(), true)
		}
		expect(t, "data", a2.host.InPlace().Data(inPlace.Data), "former m2")
	})
}

// TestR14RestoreIsJudgedAgain: an agent that was started anew in the middle of a step looks who
// leads before it goes on, and never puts older data under a leader.
func TestR14RestoreIsJudgedAgain(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := withData(t, w)
		a2.stop()
		askRestore(w, 2, "c.restore-1-1", plan.ActAside)
		_, rev, _ := w.etcd.Get(layout.StepKey("pg2", "c.restore-1-1"))
		w.etcd.Put(layout.ResultKey("pg2", "c.restore-1-1"), string(observed.Encode(observed.StepResult{Schema: observed.Schema, Step: rev, State: observed.StepAccepted})))
		w.leader(2)
		a2 = w.again(2, a2, func(*running) {})
		expect(t, "not set aside", w.result(2, "c.restore-1-1").Reason, observed.LeaderChanged)
		expect(t, "runs", a2.host.InPlace().Up(), true)
		a2.host.InPlace().Put(inPlace.Before(), "older")
		askRestore(w, 2, "c.restore-1-2", plan.ActBack)
		after(3 * time.Second)
		expect(t, "whether it takes writes is waited for", w.result(2, "c.restore-1-2").State, observed.StepAccepted)
		a2.host.SetPostgres(writable(2))
		after(3 * time.Second)
		expect(t, "left", w.answer(2, "c.restore-1-2"), "done Leading: leads, and is left so; data that were set aside here stay so")
		expect(t, "data", a2.host.InPlace().Data(inPlace.Data), "former m2")
	})
}

// swapped is a cluster whose data are aside, with m1's replaced; its leader key is still there,
// as it is when a Patroni had to be killed.
func swapped(t *testing.T, w *world) (a1, a2 *running) {
	t.Helper()
	a1, a2, _ = withData(t, w)
	prepared(t, w, a1)
	askRestore(w, 2, "c.restore-1-2", plan.ActAside)
	after(2 * time.Second)
	expect(t, "aside", w.answer(2, "c.restore-1-2"), "done : stopped; its data are kept in "+inPlace.Before())
	askRestore(w, 1, "c.restore-1-3", plan.ActSwap)
	after(2 * time.Second)
	expect(t, "swapped", w.result(1, "c.restore-1-3").State, observed.StepDone)
	a1.host.SetPostgres(agent.PostgresState{Refused: true})
	after(2 * time.Second)
	return a1, a2
}

// stopped is swapped, and nobody leads.
func stopped(t *testing.T, w *world) (a1, a2 *running) {
	t.Helper()
	a1, a2 = swapped(t, w)
	w.etcd.Delete(layout.Leader("c"))
	for _, key := range []string{"status", "sync", "failsafe", "history"} {
		w.etcd.Put(layout.Scope("c")+key, "{}")
	}
	after(2 * time.Second)
	return a1, a2
}

func TestRestoredDataLead(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2 := stopped(t, w)
		askRestore(w, 1, "c.restore-1-4", plan.ActLead)
		after(2 * time.Second)
		expect(t, "started", a1.host.InPlace().Up(), true)
		expect(t, "not there yet", w.result(1, "c.restore-1-4").State, observed.StepAccepted)
		for key, want := range map[string]bool{"status": false, "sync": false, "failsafe": false, "history": true, "initialize": true, "config": true} {
			if _, _, there := w.etcd.Get(layout.Scope("c") + key); there != want {
				t.Errorf("Patroni's key %s is there: %v", key, there)
			}
		}
		// An agent that is started anew goes on waiting.
		a1 = w.again(1, a1, func(*running) {})
		w.leader(1)
		s := writable(2)
		s.Data = 7
		a1.host.SetPostgres(s)
		after(3 * time.Second)
		expect(t, "leads", w.answer(1, "c.restore-1-4"), "done : takes writes")

		askRestore(w, 2, "c.restore-1-5", plan.ActFollow)
		after(2 * time.Second)
		expect(t, "copies", w.result(2, "c.restore-1-5").State, observed.StepAccepted)
		a2.host.InPlace().Put(inPlace.Data, "copied")
		a2 = w.again(2, a2, func(*running) {})
		expect(t, "is not begun anew", a2.host.InPlace().Data(inPlace.Data), "copied")
		// Nor when it is asked once more, as after etcd was away for a while.
		w.etcd.Delete(layout.StepKey("pg2", "c.restore-1-5"))
		after(3 * time.Second)
		askRestore(w, 2, "c.restore-1-6", plan.ActFollow)
		after(2 * time.Second)
		expect(t, "is not thrown away", a2.host.InPlace().Data(inPlace.Data), "copied")
		a2.host.SetPostgres(streaming())
		after(3 * time.Second)
		expect(t, "follows", w.answer(2, "c.restore-1-6"), "done : copied and streaming")
		expect(t, "data", a1.host.InPlace().Data(inPlace.Data), "restored")
		expect(t, "kept", a2.host.InPlace().Data(inPlace.Before()), "former m2")
	})
}

// TestWhatOutlivesTheFormerDataIsNoLead: the leader key of a Patroni that was killed lives for
// its ttl, and the confirmation of the former data is never withdrawn by a PostgreSQL that is
// stopped. Neither makes restored data lead, nor does a key that is taken before the promotion.
func TestWhatOutlivesTheFormerDataIsNoLead(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _ := swapped(t, w)
		w.etcd.Put(layout.Scope("c")+"status", "{}")
		askRestore(w, 1, "c.restore-1-4", plan.ActLead)
		after(10 * time.Second)
		expect(t, "the key of the former ones", w.result(1, "c.restore-1-4").State, observed.StepAccepted)
		w.etcd.Delete(layout.Leader("c"))
		after(2 * time.Second)
		_, _, there := w.etcd.Get(layout.Scope("c") + "status")
		expect(t, "what says who may lead is there", there, false)
		w.leader(1)
		after(5 * time.Second)
		expect(t, "the key of the restored ones, not promoted", w.result(1, "c.restore-1-4").State, observed.StepAccepted)
		a1.host.SetPostgres(recovering())
		after(5 * time.Second)
		expect(t, "in recovery", w.result(1, "c.restore-1-4").State, observed.StepAccepted)
		a1.host.SetPostgres(writable(2))
		after(3 * time.Second)
		expect(t, "leads", w.answer(1, "c.restore-1-4"), "done : takes writes")
	})
}

// TestPuttingBackWaitsForALeaderKeyThatOutlives: what it was the key of is stopped.
func TestPuttingBackWaitsForALeaderKeyThatOutlives(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _ := swapped(t, w)
		a1.host.SetPeer("m1", patroni.Status{State: "running", Started: "now"})
		askRestore(w, 1, "c.restore-1-4", plan.ActBack)
		after(10 * time.Second)
		expect(t, "the key of the former data", w.result(1, "c.restore-1-4").State, observed.StepAccepted)
		expect(t, "data", a1.host.InPlace().Data(inPlace.Data), "restored")
		w.etcd.Delete(layout.Leader("c"))
		after(3 * time.Second)
		expect(t, "data", a1.host.InPlace().Data(inPlace.Data), "former m1")
		w.leader(1)
		after(3 * time.Second)
		expect(t, "put back", w.answer(1, "c.restore-1-4"), "done : runs on its former data")
	})
}

// TestPuttingBackGivesUpOnAKeyThatNobodyLeadsBy: it is said, and the server asks again.
func TestPuttingBackGivesUpOnAKeyThatNobodyLeadsBy(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		swapped(t, w)
		askRestore(w, 1, "c.restore-1-4", plan.ActBack)
		after(agent.BackWithin + 5*time.Second)
		expect(t, "given up", w.answer(1, "c.restore-1-4"), "failed NotAnswering: holds the leader key for 3m0s, and its PostgreSQL takes no writes")
	})
}

func TestRestoredDataDoNotLead(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2 := stopped(t, w)
		a1.host.InPlace().Fail("run", errors.New("it ends at once"))
		askRestore(w, 1, "c.restore-1-4", plan.ActLead)
		after(15 * time.Second)
		expect(t, "ended", w.answer(1, "c.restore-1-4"), "failed RestoreFailed: patroni@c.service has ended: its last words")
		a1.host.InPlace().Fail("run", nil)
		a1.host.SetPeer("m1", patroni.Status{State: "start failed"})
		askRestore(w, 1, "c.restore-1-5", plan.ActLead)
		after(4 * time.Minute)
		expect(t, "never led", w.result(1, "c.restore-1-5").Reason, observed.NotAnswering)

		for n, a := range []*running{a1, a2} {
			i := n + 1
			a.host.SetPeer(member(i), patroni.Status{State: "running", Started: "now"})
			askRestore(w, i, "c.restore-1-6", plan.ActBack)
			after(3 * time.Second)
			if i == 1 { // the others wait for it
				expect(t, "does not lead yet", w.result(i, "c.restore-1-6").State, observed.StepAccepted)
				w.leader(1)
				after(3 * time.Second)
			}
			expect(t, "put back", w.answer(i, "c.restore-1-6"), "done : runs on its former data")
			expect(t, "data", a.host.InPlace().Data(inPlace.Data), "former "+member(i))
		}
		expect(t, "kept", a1.host.InPlace().Data(inPlace.Undone()), "restored")
		askRestore(w, 1, "c.restore-1-7", plan.ActDiscard)
		after(time.Second)
		expect(t, "discarded", w.answer(1, "c.restore-1-7"), "done : removed "+inPlace.Undone())
	})
}

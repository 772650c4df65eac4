package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/patroni"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// ask asks node i for an act under the present leadership.
func ask(w *world, i int, id string, act plan.Act) {
	_, epoch, _ := w.etcd.Get(layout.Leader("c"))
	w.etcd.Put(layout.StepKey(node(i), id), string(observed.Encode(plan.Step{
		Schema: plan.Schema, Act: act, Cluster: "c", Member: member(i), Store: "S1", UID: "U1", Epoch: plan.Epoch(epoch), By: "a test",
	})))
}

func (w *world) result(i int, id string) observed.StepResult {
	w.t.Helper()
	var r observed.StepResult
	v, _, ok := w.etcd.Get(layout.ResultKey(node(i), id))
	if ok {
		if err := json.Unmarshal([]byte(v), &r); err != nil {
			w.t.Fatal(err)
		}
	}
	return r
}

func TestStepIsDoneOnceAndAnswered(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		withPostgres(w)
		a1, a2, _ := settle(t, w)
		after(6 * time.Second)
		n, n1 := len(a2.host.Events()), len(a1.host.Events())
		ask(w, 2, "c.restart-1-1", plan.ActRestart)
		after(time.Second)
		expect(t, "acts", since(a2, n), "restart c")
		expect(t, "state", w.result(2, "c.restart-1-1").State, observed.StepDone)

		// The leader's data are never copied over, its restart is a person's to ask.
		ask(w, 1, "c.reinit-1-1", plan.ActReinit)
		after(time.Second)
		expect(t, "refused", w.result(1, "c.reinit-1-1").Reason, observed.Leading)
		expect(t, "no act", since(a1, n1), "")

		// Started anew, the agent finds the step done.
		a2.stop()
		n = len(a2.host.Events())
		again := w.startOn(2, a2.dir, a2.host)
		again.host.SetPostgres(recovering())
		after(10 * time.Second)
		expect(t, "acts of the next run", since(again, n), "")

		again.host.Fail("restart", errors.New("503: restart failed"))
		ask(w, 2, "c.restart-2-1", plan.ActRestart)
		after(time.Second)
		expect(t, "failed", w.result(2, "c.restart-2-1").State, observed.StepFailed)
		expect(t, "words", w.result(2, "c.restart-2-1").Message, "Patroni: 503: restart failed")
	})
}

// TestStepIsFencedByTheLeader: another one leads by the time it arrives.
func TestR14StepIsFencedByTheLeader(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		withPostgres(w)
		_, a2, _ := settle(t, w)
		after(6 * time.Second)
		n := len(a2.host.Events())
		_, epoch, _ := w.etcd.Get(layout.Leader("c"))
		w.leader(3)
		w.etcd.Put(layout.StepKey("pg2", "c.reinit-1-1"), string(observed.Encode(plan.Step{
			Schema: plan.Schema, Act: plan.ActReinit, Cluster: "c", Member: "m2", Store: "S1", UID: "U1", Epoch: plan.Epoch(epoch),
		})))
		after(time.Second)
		expect(t, "reason", w.result(2, "c.reinit-1-1").Reason, observed.LeaderChanged)
		expect(t, "acts", since(a2, n), "")
	})
}

// TestReinitWaitsForPatroni while it is busy, as with bringing up what is to be copied anew; an agent
// that is started anew asks again, and what is withdrawn or not allowed any more is not asked.
func TestReinitWaitsForPatroni(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		withPostgres(w)
		_, a2, _ := settle(t, w)
		after(6 * time.Second)
		a2.host.SetPostgres(streaming())
		a2.host.SetPeer("m2", patroni.Status{State: "running", Role: patroni.Replica, Started: "monday"})
		a2.host.Fail("reinit", fmt.Errorf("%w with restarting after failure", agent.ErrBusy))
		ask(w, 2, "c.reinit-1-1", plan.ActReinit)
		after(5 * time.Second)
		expect(t, "waits", w.result(2, "c.reinit-1-1").Message, "waits for Patroni, busy with restarting after failure")
		a2.stop()
		again := w.startOn(2, a2.dir, a2.host)
		after(2 * time.Second)
		again.host.Fail("reinit", nil)
		after(2 * time.Second)
		expect(t, "begun", w.result(2, "c.reinit-1-1").Message, "stopping")

		again.host.SetPeer("m2", patroni.Status{State: "running", Role: patroni.Replica, Started: "tuesday"})
		after(2 * time.Second)
		expect(t, "done", w.result(2, "c.reinit-1-1").State, observed.StepDone)

		again.host.Fail("reinit", fmt.Errorf("%w with restarting after failure", agent.ErrBusy))
		ask(w, 2, "c.reinit-1-2", plan.ActReinit)
		after(2 * time.Second)
		w.etcd.Delete(layout.StepKey("pg2", "c.reinit-1-2"))
		after(2 * time.Second)
		n := len(again.host.Events())
		after(10 * time.Second)
		expect(t, "acts once it is withdrawn", since(again, n), "")

		ask(w, 2, "c.reinit-1-3", plan.ActReinit)
		after(2 * time.Second)
		w.leader(3)
		after(2 * time.Second)
		expect(t, "another one leads", w.result(2, "c.reinit-1-3").Reason, observed.LeaderChanged)

		ask(w, 2, "c.reinit-1-4", plan.ActReinit)
		after(agent.BusyFor + time.Minute)
		expect(t, "for ever", w.result(2, "c.reinit-1-4").State, observed.StepFailed)
		expect(t, "why", w.result(2, "c.reinit-1-4").Message, "Patroni: busy with restarting after failure")
	})
}

// TestReinitIsDoneWhenItStreams, whatever happens to the agent meanwhile: the copy is
// asked for once.
func TestReinitIsDoneWhenItStreams(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		withPostgres(w)
		_, a2, _ := settle(t, w)
		after(6 * time.Second)
		a2.host.SetPostgres(streaming())
		a2.host.SetPeer("m2", patroni.Status{State: "running", Role: patroni.Replica, Started: "monday"})
		after(time.Second)
		n := len(a2.host.Events())
		ask(w, 2, "c.reinit-1-1", plan.ActReinit)
		after(2 * time.Second)
		expect(t, "acts", since(a2, n), "reinit c")
		expect(t, "what runs is the old one", w.result(2, "c.reinit-1-1").Message, "stopping")
		a2.host.SetPostgres(recovering())
		a2.host.SetPeer("m2", patroni.Status{State: "creating replica", Role: patroni.Uninitialized})
		after(2 * time.Second)
		expect(t, "progress", w.result(2, "c.reinit-1-1").Message, "creating replica")

		a2.stop()
		n = len(a2.host.Events())
		again := w.startOn(2, a2.dir, a2.host)
		again.host.SetPostgres(recovering())
		again.host.SetPeer("m2", patroni.Status{State: "running", Role: patroni.Replica, Started: "tuesday"})
		after(2 * time.Second)
		expect(t, "copied", w.result(2, "c.reinit-1-1").Message, "copied; waiting for WAL")
		expect(t, "not yet", w.result(2, "c.reinit-1-1").State, observed.StepAccepted)
		again.host.SetPostgres(streaming())
		after(2 * time.Second)
		expect(t, "done", w.result(2, "c.reinit-1-1").State, observed.StepDone)
		expect(t, "acts of the next run", since(again, n), "")
	})
}

package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func askVerify(w *world, i int, id string, act plan.Act) {
	_, epoch, _ := w.etcd.Get(layout.Leader("c"))
	w.etcd.Put(layout.StepKey(node(i), id), string(observed.Encode(plan.Step{
		Schema: plan.Schema, Act: act, Cluster: "c", Member: member(i), Store: "S1", UID: "U1", Epoch: plan.Epoch(epoch), By: "a test", Operation: "verify-1",
		Verify: &plan.Verify{Backup: "20261126-010000F", Heartbeat: "verify-1", Data: "/var/lib/postgresql/15/c", Bin: "/usr/lib/postgresql/15/bin"},
	})))
}

const folder = "/var/lib/postgresql/15/c.verify"

func TestHeartbeatIsThePrimarys(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		withBackups(t, w)
		askVerify(w, 1, "c.verify-1-1", plan.ActHeartbeat)
		askVerify(w, 2, "c.verify-1-2", plan.ActHeartbeat)
		after(3 * time.Second)
		r := w.result(1, "c.verify-1-1")
		expect(t, "state", r.State, observed.StepDone)
		if r.Heartbeat == nil || r.Heartbeat.ID != "verify-1" || r.Heartbeat.Window != 7 {
			t.Errorf("%+v", r.Heartbeat)
		}
		expect(t, "on a replica", w.result(2, "c.verify-1-2").Reason, observed.NotLeader)
	})
}

func TestAProofOnAReplicasNode(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := withBackups(t, w)
		scratch := a2.host.Scratch()
		askVerify(w, 2, "c.verify-1-1", plan.ActVerify)
		after(3 * time.Second)
		if all := scratch.Orders(); len(all) != 1 || !all[0].Offline || all[0].Keep || all[0].Heartbeat != "verify-1" || all[0].Dir != folder ||
			all[0].Target.Type != plan.TargetLatest {
			t.Fatalf("%+v", all)
		}
		scratch.At(40, "copying")
		after(3 * time.Second)
		if r := w.result(2, "c.verify-1-1"); r.Progress == nil || r.Progress.Done != 40 || r.Message != "copying" {
			t.Errorf("%+v", r)
		}
		after(2 * plan.BackupLost)
		expect(t, "running", scratch.Running(), "c.verify-1-1")
		scratch.Finish(observed.Recovered{Fetch: 60, Replay: 30, LSN: "0/5000000", Checksums: true}, nil)
		after(3 * time.Second)
		r := w.result(2, "c.verify-1-1")
		expect(t, "state", r.State, observed.StepDone)
		if r.Recovered == nil || r.Label != "20261126-010000F" || !strings.Contains(r.Message, "restored in 1m30s") || !strings.Contains(r.Message, "as its checksum says") {
			t.Errorf("%+v", r)
		}
		if left := scratch.Dirs(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestAProofThatFails(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := withBackups(t, w)
		askVerify(w, 2, "c.verify-1-1", plan.ActVerify)
		after(3 * time.Second)
		a2.host.Scratch().Finish(observed.Recovered{}, &plan.Refusal{Reason: observed.RecoveryFailed, Message: "no segment", Next: "do this"})
		after(3 * time.Second)
		r := w.result(2, "c.verify-1-1")
		if r.State != observed.StepFailed || r.Reason != observed.RecoveryFailed || r.Message != "no segment" || r.Next != "do this" {
			t.Errorf("%+v", r)
		}
		if left := a2.host.Scratch().Dirs(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// TestAProofOutlivesTheAgent: it is found again, and begun again where the host was booted.
func TestAProofOutlivesTheAgent(t *testing.T) {
	for name, boot := range map[string]bool{"restarted": false, "booted": true} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, w *world) {
				_, a2, _ := withBackups(t, w)
				askVerify(w, 2, "c.verify-1-1", plan.ActVerify)
				after(3 * time.Second)
				w.again(2, a2, func(a *running) {
					if boot {
						a.host.Scratch().Boot()
					}
				})
				after(5 * time.Second)
				expect(t, "running", a2.host.Scratch().Running(), "c.verify-1-1")
				want := map[bool]int{false: 1, true: 2}[boot]
				expect(t, "begun", len(a2.host.Scratch().Orders()), want)
				a2.host.Scratch().Finish(observed.Recovered{}, nil)
				after(3 * time.Second)
				expect(t, "state", w.result(2, "c.verify-1-1").State, observed.StepDone)
			})
		})
	}
}

// TestAProofIsTakenBack: nothing goes on that nobody asks for, and nothing of it is left.
func TestAProofIsTakenBack(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		_, a2, _ := withBackups(t, w)
		askVerify(w, 2, "c.verify-1-1", plan.ActVerify)
		after(3 * time.Second)
		w.etcd.Delete(layout.StepKey(node(2), "c.verify-1-1"))
		after(5 * time.Second)
		expect(t, "running", a2.host.Scratch().Running(), "")
		if left := a2.host.Scratch().Dirs(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

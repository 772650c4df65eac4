package operations

import (
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestPutBackIsTriedUntilItIs: a refusal, a pause of Patroni's, a failure: nobody else can do it.
func TestPutBackIsTriedUntilItIs(t *testing.T) {
	r := restoreRig(t)
	r.pass("swap c-1")
	r.op.Cancel = "root@n1"
	where := r.only()
	r.look()
	r.results[where] = observed.StepResult{State: observed.StepFailed}
	r.look()
	for i := range 50 {
		if len(r.steps) > 0 {
			r.answer(observed.StepResult{State: observed.StepFailed, Reason: []observed.Reason{observed.PatroniPaused, observed.Frozen, observed.RestoreFailed}[i%3], Message: "no"})
		}
		r.w.Now = r.w.Now.Add(2 * BackRetry)
		r.look()
	}
	if r.op.State != Cancelling {
		t.Fatalf("given up: %s %s", r.op.State, r.op.Message)
	}
	r.w.Holds = &observed.Condition{Message: "Patroni is paused"}
	r.answer(observed.StepResult{State: observed.StepFailed, Message: "no"})
	r.w.Now = r.w.Now.Add(24 * time.Hour)
	if r.look(); len(r.steps) > 0 || r.op.State.Final() {
		t.Fatalf("under a pause: %v %s", r.steps, r.op.State)
	}
	r.w.Holds = nil
	if got := r.pass(""); r.op.State != Cancelled || len(got) != 3 {
		t.Fatalf("%s %v: %s", r.op.State, got, r.op.Message)
	}
}

// TestRestoredDataThatLeadAreKept: a cancel or a deadline that comes when they lead already, and
// nobody has taken that in yet, undoes nothing.
func TestRestoredDataThatLeadAreKept(t *testing.T) {
	for _, known := range []string{"the agent says so", "the agent is away", "the agent is away, and nobody confirms it", "the agent does not believe it"} {
		for _, end := range []string{"cancel", "deadline"} {
			r := restoreRig(t)
			r.pass("lead c-1")
			where := r.only()
			switch known {
			case "the agent says so":
				r.results[where] = observed.StepResult{State: observed.StepDone}
			case "the agent is away":
				r.away["n1"], r.w.Leader, r.w.Epoch, r.w.Confirmed, r.w.ConfirmedIn = true, "c-1", 99, true, 99
			case "the agent is away, and nobody confirms it":
				r.away["n1"], r.w.Leader, r.w.Epoch, r.w.Confirmed, r.w.ConfirmedIn = true, "c-1", 99, true, 10
				r.look()
				if !r.op.RestoredAt().IsZero() {
					t.Errorf("%s: a confirmation of an earlier leadership counts at once", known)
				}
			case "the agent does not believe it":
				r.results[where] = observed.StepResult{State: observed.StepFailed, Reason: observed.NotAnswering}
				r.w.Leader, r.w.Epoch, r.w.Confirmed, r.w.ConfirmedIn = "c-1", 99, true, 99
			}
			if end == "cancel" {
				r.op.Cancel = "root@n1"
			} else {
				r.w.Now = r.op.Deadline
			}
			r.look()
			if known == "the agent is away, and nobody confirms it" {
				r.w.Now = r.w.Now.Add(LostFor)
				r.look()
			}
			if r.op.Undo || r.op.RestoredAt().IsZero() {
				t.Errorf("%s, %s: undone: %s %s", known, end, r.op.State, r.op.Message)
			}
		}
	}
	// The former leadership, whose key outlives its Patroni for a moment, is none of them.
	r := restoreRig(t)
	r.pass("swap c-1")
	r.answer(observed.StepResult{State: observed.StepDone})
	if _, s := r.step(); s.Act != plan.ActLead || s.Epoch != 10 {
		t.Fatalf("asked %+v", s)
	}
	if r.look(); !r.op.RestoredAt().IsZero() {
		t.Error("the former leader's key counts")
	}
	// Nor is a new one that nobody has confirmed: the confirmation of the former data is still there.
	r.w.Epoch = 99
	if r.look(); !r.op.RestoredAt().IsZero() {
		t.Error("an earlier leadership's confirmation counts")
	}
	r.w.ConfirmedIn = 99
	if r.look(); r.op.RestoredAt().IsZero() {
		t.Error("a confirmed one does not count")
	}
}

// TestRestoreOfTheClusterThatWasLookedAt: a member that came or went meanwhile, or a leader that
// changed and changed back, end it before anything is stopped; a member that is gone later is
// not waited for.
func TestRestoreOfTheClusterThatWasLookedAt(t *testing.T) {
	for name, change := range map[string]func(*rig){
		"a member more":             func(r *rig) { r.w.Members = append(r.w.Members, "c-4") },
		"a member less":             func(r *rig) { r.w.Members = r.w.Members[:2] },
		"led by another in between": func(r *rig) { r.w.Epoch = 30 },
	} {
		r := restoreRig(t)
		r.w.Members = []string{"c-3", "c-1", "c-2"}
		r.pass("prepare c-1")
		change(r)
		if r.pass(""); r.op.State != Failed || len(r.op.Touched()) > 0 {
			t.Errorf("%s: %s %s", name, r.op.State, r.op.Message)
		}
	}
	r := restoreRig(t)
	r.pass("set-aside c-3")
	r.away["n3"] = true
	for range 4 {
		r.w.Now = r.w.Now.Add(LostFor)
		r.look()
	}
	if !r.op.Undo {
		t.Errorf("with a member stopped it waits for another one: %s %s", r.op.State, r.op.Message)
	}
}

// TestRestoredDataThatLeadAfterAll: Patroni took longer than it was waited for, and what is put back
// is refused by the leader. Nobody is told that the former data are back.
func TestRestoredDataThatLeadAfterAll(t *testing.T) {
	r := restoreRig(t)
	r.pass("lead c-1")
	r.answer(observed.StepResult{State: observed.StepFailed, Reason: observed.NotAnswering, Message: "not there after 2m0s"})
	for range 10 {
		if r.op.State.Final() {
			break
		}
		_, s := r.step()
		a := observed.StepResult{State: observed.StepDone, Message: "runs on its former data"}
		if s.Act == plan.ActBack && s.Member == "c-1" {
			a = observed.StepResult{State: observed.StepDone, Reason: observed.Leading, Message: "leads, and is left so"}
		}
		r.answer(a)
		r.w.Now = r.w.Now.Add(time.Second)
		r.look()
	}
	if r.op.State != Failed || r.op.RestoredAt().IsZero() || strings.Contains(r.op.Message, "in their place again") || !strings.Contains(r.op.Message, "the restored data came to lead") {
		t.Errorf("%s, restored at %s: %s", r.op.State, r.op.RestoredAt(), r.op.Message)
	}
}

// TestCancelThatMeetsADoneRestore: what was prepared is kept and known, so that it can be removed.
func TestCancelThatMeetsADoneRestore(t *testing.T) {
	r := restoreRig(t)
	r.pass("prepare c-1")
	r.results[r.only()] = observed.StepResult{State: observed.StepDone, Message: "recovered"}
	r.op.Cancel = "root@n1"
	r.look()
	if r.op.State != Cancelled || len(r.op.Keeps()) != 1 {
		t.Errorf("%s, keeps %v", r.op.State, r.op.Keeps())
	}
}

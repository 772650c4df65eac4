package operations

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestMovedBackupHasItsStanza: what was proved on the former primary says nothing of the new
// one: a folder of its host may have no stanza yet, and whether it archives nobody has seen.
func TestMovedBackupHasItsStanza(t *testing.T) {
	r := newRig(t)
	r.look()
	r.answer(observed.StepResult{State: observed.StepDone})
	r.w.Leader, r.w.Epoch = "c-2", 11
	r.answer(observed.StepResult{State: observed.StepFailed, Reason: observed.LeaderChanged, Message: "c-2 leads"})
	r.w.Now = r.w.Now.Add(moveRetry)
	r.look()
	where, s := r.step()
	if where[:3] != "n2/" || s.Act != plan.ActStanza {
		t.Fatalf("after the move %s is asked %s, want n2 for the stanza", where, s.Act)
	}
	r.answer(observed.StepResult{State: observed.StepDone})
	if where, s = r.step(); where[:3] != "n2/" || s.Act != plan.ActBackup {
		t.Fatalf("then %s is asked %s", where, s.Act)
	}
	// The same member again, at another epoch: nothing is proved twice.
	r.w.Epoch = 12
	r.answer(observed.StepResult{State: observed.StepFailed, Reason: observed.LeaderChanged, Message: "stamped anew"})
	r.w.Now = r.w.Now.Add(moveRetry)
	r.look()
	if _, s = r.step(); s.Act != plan.ActBackup {
		t.Fatalf("after another epoch %s is asked", s.Act)
	}
	r.answer(done)
	r.is(Done)
}

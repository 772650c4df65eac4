package operations

import (
	"testing"
	"time"

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

// TestFromAReplica: it is asked for until a backup failed, since one that is there comes first;
// that the leader moved says nothing against replicas.
func TestFromAReplica(t *testing.T) {
	r := newRig(t)
	asks := func(want bool) {
		t.Helper()
		if _, s := r.step(); s.Act != plan.ActBackup || s.Standby != want || !s.OnPrimary() {
			t.Fatalf("asked %+v", s)
		}
	}
	r.w.Standby = true
	r.look()
	r.answer(observed.StepResult{State: observed.StepDone}) // the stanza
	asks(true)
	r.answer(observed.StepResult{State: observed.StepFailed, Reason: observed.LeaderChanged})
	r.w.Now = r.w.Now.Add(time.Minute)
	r.look()
	asks(true)
	r.answer(observed.StepResult{State: observed.StepFailed, Reason: observed.BackupFailed})
	r.w.Now = r.w.Now.Add(time.Minute)
	r.look()
	asks(false)
}

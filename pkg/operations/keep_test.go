package operations

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestNothingIsExpiredUnderARestore, nor in the days after it, while the data of before are kept.
func TestNothingIsExpiredUnderARestore(t *testing.T) {
	r := restoreRig(t)
	r.pass("prepare c-1")
	b := Backups{Operations: []Stored{{Operation: r.op}}}
	if !Keeping(b, r.w.Now) {
		t.Error("a backup that is being restored may be expired")
	}
	r.pass("")
	b.Operations[0].Operation = r.op
	if r.op.State != Done || !Keeping(b, r.op.Ended.Add(KeptAfterRestore-time.Minute)) {
		t.Errorf("%s: a restore that may have been to the wrong moment can't be made again", r.op.State)
	}
	if Keeping(b, r.op.Ended.Add(KeptAfterRestore)) {
		t.Error("the repository grows for ever")
	}
	b.Operations[0].Discarded = r.op.Ended
	if Keeping(b, r.op.Ended) {
		t.Error("somebody was content and discarded what was before")
	}
	// The step says so, whoever asked for the backup.
	o := NewBackup(Asked{Cluster: "c", UID: r.w.UID, Store: r.w.Store, At: r.w.Now}, plan.BackupFull)
	w := r.w
	w.Keep = true
	for range 2 {
		c := Advance(&o, w, true)
		for _, a := range c.Ask {
			if a.Step.Keep != (a.Step.Act == plan.ActBackup) {
				t.Errorf("%s: keep %v", a.Step.Act, a.Step.Keep)
			}
			w.Result = func(string, string) (observed.StepResult, bool) {
				return observed.StepResult{State: observed.StepDone}, true
			}
		}
	}
	if o.Phases[1].Tries != 1 {
		t.Errorf("no backup was asked for: %+v", o.Phases)
	}
}

// TestDamagedBackupsPushNoneOut: a sound one that is newer ends it.
func TestDamagedBackupsPushNoneOut(t *testing.T) {
	b := Backups{Repository: &observed.Repository{Backups: []observed.Backup{{Label: "1F"}, {Label: "2F", Damaged: true}}}}
	if !Keeping(b, noon) {
		t.Error("the last sound backup may be expired")
	}
	b.Repository.Backups = append(b.Repository.Backups, observed.Backup{Label: "3F"})
	if Keeping(b, noon) {
		t.Error("nothing is ever expired again")
	}
}

// TestUnscheduledFullsDoNotEatUpTheOthers, nor fill the repository.
func TestUnscheduledFullsDoNotEatUpTheOthers(t *testing.T) {
	b := Backups{Leader: "c-1", Timeline: 2, Repository: &observed.Repository{}}
	p := Policy{Local: true, Full: 2}
	for fulls := 1; fulls <= 5; fulls++ {
		b.Repository.Backups = append(b.Repository.Backups, observed.Backup{
			Type: string(plan.BackupFull), Label: "F", Started: noon.Add(-time.Hour), Stopped: noon.Add(-time.Hour), LastWAL: "000000010000000000000005",
		})
		if n := Due(p, b, noon); n.Type != plan.BackupFull || n.Keep != (fulls < 4) {
			t.Errorf("with %d fulls: %+v", fulls, n)
		}
	}
}

package agent_test

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// TestStepIsTakenUpAgain: etcd that does not answer for a moment leaves no step undone; whoever
// asked would wait for a day, and nothing else is backed up meanwhile.
func TestStepIsTakenUpAgain(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := withBackups(t, w)
		w.failResults.Store(2)
		askBackup(w, 1, "c.backup-1")
		after(time.Minute)
		expect(t, "runs", a1.host.Backups().Running(), "c.backup-1")

		// An answer was written and not heard: the result is at a revision nobody knows.
		v, _, _ := w.etcd.Get(layout.ResultKey("pg1", "c.backup-1"))
		w.etcd.Put(layout.ResultKey("pg1", "c.backup-1"), v)
		a1.host.Backups().Finish(nil)
		after(time.Minute)
		expect(t, "done", w.result(1, "c.backup-1").Label, "1F")
		expect(t, "acts", did(a1), "start c.backup-1 full")
	})
}

// TestWithdrawnBeforeItWasTakenUp: no answer is left to a step that nobody asks for.
func TestWithdrawnBeforeItWasTakenUp(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := withBackups(t, w)
		w.failResults.Store(2)
		askBackup(w, 1, "c.backup-1")
		after(time.Second)
		w.etcd.Delete(layout.StepKey("pg1", "c.backup-1"))
		after(time.Minute)
		if r := w.result(1, "c.backup-1"); r.State != "" {
			t.Fatalf("answered: %+v", r)
		}
		expect(t, "acts", did(a1), "")
	})
}

// TestBackupIsFoundByANewAgent that does not know yet which database is the cluster's: its
// backups are no other's, and the repository is not empty.
func TestBackupIsFoundByANewAgent(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := withBackups(t, w)
		askBackup(w, 1, "c.backup-1")
		after(3 * time.Second)
		a1.stop()
		a1.host.Backups().Finish(nil)
		w.slowScope = 3 * time.Second
		b := w.startOn(1, a1.dir, a1.host)
		for range 30 {
			after(time.Second)
			if r := w.report(1, "backup").Repository; r != nil && r.Where != "" && len(r.Backups) == 0 && w.result(1, "c.backup-1").Final() {
				t.Fatalf("says that it is empty: %+v", r)
			}
		}
		r := w.result(1, "c.backup-1")
		expect(t, "state", r.State, observed.StepDone)
		expect(t, "label", r.Label, "1F")
		b.stop()
	})
}

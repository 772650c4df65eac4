package agent_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
)

// TestAReplicaArchivesWhatItFinished when it led: PostgreSQL archives nothing on a replica, and
// removes it there. The repository is away at first.
func TestAReplicaArchivesWhatItFinished(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2, _ := withBackups(t, w)
		b := a1.host.Backups()
		b.Leave(3)
		after(time.Minute)
		if slices.Contains(b.Events(), "left 3") {
			t.Fatal("who leads archives by itself")
		}
		b.Fail("left", errors.New("no route"))
		w.leader(2)
		a2.host.SetPostgres(writable(2))
		a1.host.SetPostgres(recovering())
		after(10 * time.Second)
		said := func() bool {
			return slices.ContainsFunc(w.report(1, "backup").Conditions, func(c observed.Condition) bool { return c.Reason == observed.ArchiveFailing })
		}
		if !said() {
			t.Fatalf("nothing is said: %v", w.report(1, "backup").Conditions)
		}
		_, rev, _ := w.etcd.Get(layout.ObservedKey("pg1", "c", "backup"))
		after(5 * time.Minute)
		if _, now, _ := w.etcd.Get(layout.ObservedKey("pg1", "c", "backup")); now != rev {
			t.Error("R8: it is said again and again")
		}
		b.Fail("left", nil)
		after(20 * time.Second)
		if !slices.Contains(b.Events(), "left 3") || said() {
			t.Errorf("the repository is back: %v, %v", b.Events(), w.report(1, "backup").Conditions)
		}
	})
}

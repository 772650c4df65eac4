package agent_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestBackupFromAReplica: of those that stream the one that has replayed most is copied, unless
// it can't be reached; without any the primary is, and the answer says so.
func TestBackupFromAReplica(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := withBackups(t, w)
		at := func(i int, replication string, lsn int) {
			w.etcd.Put(layout.Members("c")+member(i), fmt.Sprintf(`{"role":"replica","state":"running","replication_state":%q,"replay_lsn":%d}`, replication, lsn))
			after(time.Second)
		}
		backup := func(n int) observed.StepResult {
			id := fmt.Sprintf("c.backup-%d", n)
			_, epoch, _ := w.etcd.Get(layout.Leader("c"))
			w.etcd.Put(layout.StepKey(node(1), id), string(observed.Encode(plan.Step{
				Schema: plan.Schema, Act: plan.ActBackup, Cluster: "c", Member: member(1), Store: "S1", UID: "U1", Epoch: plan.Epoch(epoch), By: "a test",
				Backup: plan.BackupFull, Operation: "backup-1", Standby: true,
			})))
			after(3 * time.Second)
			a1.host.Backups().Finish(nil)
			after(5 * time.Second)
			return w.result(1, id)
		}
		at(2, "streaming", 100)
		at(3, "streaming", 200)
		expect(t, "the one that has most", backup(1).Message, "backup 1F, copied from "+member(3))
		b, _ := w.report(1, "backup").Repository.Newest()
		expect(t, "report", b.From, member(3))
		a1.host.Backups().Fail("reach "+member(3), errors.New("no route to host"))
		expect(t, "the other one", backup(2).Message, "backup 2F, copied from "+member(2))
		w.etcd.Put(layout.Members("c")+member(2), `{"role":"replica","state":"running","xlog_location":300}`) // Patroni 3.0 says no more
		after(time.Second)
		expect(t, "an older Patroni", backup(3).Message, "backup 3F, copied from "+member(2))
		at(2, "in archive recovery", 300)
		expect(t, "none", backup(4).Message, "backup 4F, copied from the primary, since no replica could be")
		expect(t, "acts", did(a1), "start c.backup-1 full, from "+member(3)+", start c.backup-2 full, from "+member(2)+", start c.backup-3 full, from "+member(2)+", start c.backup-4 full")
	})
}

// TestBackupsWithoutTheServer: a server that can't be had keeps nobody from knowing what archiving
// and the repository are like, after the agent was started anew too.
func TestBackupsWithoutTheServer(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := withBackups(t, w)
		p := backupPlan(1)
		u := plan.Unit{Unit: plan.BackupServerUnit("c"), Program: plan.BackupServer, Files: []plan.File{}}
		p.Resources = append(p.Resources, u)
		a1.host.Fail(u.ID(), &plan.Refusal{Reason: observed.PortInUse, Message: "port 8432 is somebody else's"})
		w.etcd.Put(layout.PlanKey("pg1", "c", "backup"), string(plan.Encode(p)))
		after(5 * time.Second)
		a1 = w.again(1, a1, func(*running) {})
		c, _ := w.report(1, "backup").Condition(observed.Applied)
		expect(t, "said", c.Reason, observed.PortInUse)
		if w.report(1, "backup").Repository == nil {
			t.Error("nobody knows what the repository holds")
		}
		askBackup(w, 1, "c.backup-1")
		after(time.Second)
		a1.host.Backups().Finish(nil)
		after(5 * time.Second)
		expect(t, "done", w.result(1, "c.backup-1").State, observed.StepDone)
		b, _ := w.report(1, "backup").Repository.Newest()
		expect(t, "reported", b.Label, "1F")
	})
}

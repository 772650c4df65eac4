package agent_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

func backupPlan(i int) plan.Plan {
	p := haproxyPlan(i)
	p.Resources = plan.Resources{plan.Watched{File: plan.BackupConfig("c"), Mode: "0640", Content: "[c]\n"}}
	return p
}

// withBackups gives everybody a repository and settles the cluster.
func withBackups(t *testing.T, w *world) (a1, a2, a3 *running) {
	t.Helper()
	withPostgres(w)
	for i := 1; i <= 3; i++ {
		w.etcd.Put(layout.PlanKey(node(i), "c", "backup"), string(plan.Encode(backupPlan(i))))
	}
	a1, a2, a3 = settle(t, w)
	after(6 * time.Second)
	return a1, a2, a3
}

func askBackup(w *world, i int, id string) {
	_, epoch, _ := w.etcd.Get(layout.Leader("c"))
	w.etcd.Put(layout.StepKey(node(i), id), string(observed.Encode(plan.Step{
		Schema: plan.Schema, Act: plan.ActBackup, Cluster: "c", Member: member(i), Store: "S1", UID: "U1", Epoch: plan.Epoch(epoch), By: "a test",
		Backup: plan.BackupFull, Operation: "backup-1",
	})))
}

func did(a *running) string { return strings.Join(a.host.Backups().Events(), ", ") }

// again starts node i's agent anew on the same host.
func (w *world) again(i int, a *running, s func(*running)) *running {
	a.stop()
	s(a)
	b := w.startOn(i, a.dir, a.host)
	after(6 * time.Second)
	return b
}

func TestBackupIsTakenAndNamed(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2, _ := withBackups(t, w)
		askBackup(w, 1, "c.backup-1")
		after(time.Second)
		expect(t, "accepted", w.result(1, "c.backup-1").State, observed.StepAccepted)
		// It holds up nothing.
		ask(w, 1, "c.archive-1", plan.ActArchive)
		ask(w, 1, "c.restart-1", plan.ActRestart)
		after(time.Second)
		expect(t, "archive", w.result(1, "c.archive-1").Message, "the archive has everything up to 0/5000000")
		expect(t, "restart", w.result(1, "c.restart-1").State, observed.StepDone)
		a1.host.Backups().At(40)
		after(3 * time.Second)
		expect(t, "progress", *w.result(1, "c.backup-1").Progress, observed.Progress{Done: 40, Total: 100, Unit: "%"})
		_, rev, _ := w.etcd.Get(layout.ResultKey("pg1", "c.backup-1"))
		after(20 * time.Minute) // as long as it likes
		if _, now, _ := w.etcd.Get(layout.ResultKey("pg1", "c.backup-1")); now != rev {
			t.Fatal("progress was written that was none")
		}
		expect(t, "runs", a1.host.Backups().Running(), "c.backup-1")
		a1.host.Backups().Finish(nil)
		after(5 * time.Second)
		r := w.result(1, "c.backup-1")
		expect(t, "done", r.State, observed.StepDone)
		expect(t, "label", r.Label, "1F")
		b, _ := w.report(1, "backup").Repository.Newest()
		expect(t, "report", b.Label, "1F")
		expect(t, "acts", did(a1), "start c.backup-1 full, archive")

		ask(w, 2, "c.stanza-1", plan.ActStanza)
		after(time.Second)
		expect(t, "not on a replica", w.result(2, "c.stanza-1").Reason, observed.NotLeader)
		expect(t, "acts", did(a2), "")
	})
}

// TestBackupOutlivesTheAgent in each phase; it is begun once.
func TestBackupOutlivesTheAgent(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := withBackups(t, w)
		askBackup(w, 1, "c.backup-1")
		after(3 * time.Second)
		a1 = w.again(1, a1, func(*running) { after(20 * time.Second) })
		expect(t, "goes on", a1.host.Backups().Running(), "c.backup-1")
		after(time.Minute)
		expect(t, "is looked after", a1.host.Backups().Running(), "c.backup-1")
		// It ends while the agent is away.
		a1 = w.again(1, a1, func(a *running) { a.host.Backups().Finish(nil) })
		expect(t, "done", w.result(1, "c.backup-1").Label, "1F")

		// The host is booted after it has ended, and while it goes on.
		askBackup(w, 1, "c.backup-2")
		after(3 * time.Second)
		a1 = w.again(1, a1, func(a *running) { a.host.Backups().Finish(nil); a.host.Backups().Boot() })
		expect(t, "done", w.result(1, "c.backup-2").Label, "2F")
		askBackup(w, 1, "c.backup-3")
		after(3 * time.Second)
		a1 = w.again(1, a1, func(a *running) { a.host.Backups().Boot() })
		expect(t, "cut short", w.result(1, "c.backup-3").Reason, observed.BackupFailed)
		expect(t, "acts", did(a1), "start c.backup-1 full, start c.backup-2 full, start c.backup-3 full")

		// Accepted by a run that was killed before the act: nobody begins it now.
		a1.stop()
		askBackup(w, 1, "c.backup-4")
		_, rev, _ := w.etcd.Get(layout.StepKey("pg1", "c.backup-4"))
		w.etcd.Put(layout.ResultKey("pg1", "c.backup-4"), string(observed.Encode(observed.StepResult{Schema: observed.Schema, Step: rev, State: observed.StepAccepted})))
		a1 = w.again(1, a1, func(*running) {})
		expect(t, "not begun", w.result(1, "c.backup-4").Reason, observed.BackupFailed)
		expect(t, "acts", did(a1), "start c.backup-1 full, start c.backup-2 full, start c.backup-3 full")
	})
}

func TestBackupIsCancelled(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := withBackups(t, w)
		askBackup(w, 1, "c.backup-1")
		after(3 * time.Second)
		w.etcd.Delete(layout.StepKey("pg1", "c.backup-1"))
		after(3 * time.Second)
		expect(t, "acts", did(a1), "start c.backup-1 full, stop c.backup-1")
		expect(t, "answer", w.result(1, "c.backup-1").State, observed.StepFailed)

		goOn := a1.host.Backups().Hang()
		defer goOn()
		ask(w, 1, "c.stanza-1", plan.ActStanza)
		after(time.Second)
		w.etcd.Delete(layout.StepKey("pg1", "c.stanza-1"))
		after(time.Second)
		expect(t, "stanza given up", w.result(1, "c.stanza-1").State, observed.StepFailed)
	})
}

func TestR14BackupEndsWithTheLeadership(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := withBackups(t, w)
		askBackup(w, 1, "c.backup-1")
		after(3 * time.Second)
		w.leader(1) // stamped again: the same leadership
		after(5 * time.Second)
		expect(t, "goes on", a1.host.Backups().Running(), "c.backup-1")
		w.leader(2)
		after(5 * time.Second)
		expect(t, "stopped", a1.host.Backups().Running(), "")
		expect(t, "reason", w.result(1, "c.backup-1").Reason, observed.LeaderChanged)
	})
}

// TestBackupEndsWhenCutOff from etcd, by the agent or, where that is gone, by systemd:
// before whoever waits for plan.BackupCutOff asks another node.
func TestBackupEndsWhenCutOff(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := withBackups(t, w)
		askBackup(w, 1, "c.backup-1")
		after(3 * time.Second)
		w.etcd.Cut("pg1")
		after(20 * time.Second)
		expect(t, "not for a moment", a1.host.Backups().Running(), "c.backup-1")
		after(plan.BackupCutOff - plan.BackupStop - 20*time.Second)
		expect(t, "stopped", a1.host.Backups().Running(), "")
		w.etcd.Heal("pg1")
		after(20 * time.Second)
		expect(t, "reason", w.result(1, "c.backup-1").Reason, observed.AgentCutOff)

		askBackup(w, 1, "c.backup-2")
		after(3 * time.Second)
		a1.stop()
		after(plan.BackupCutOff - plan.BackupStop)
		expect(t, "nobody looks after it", a1.host.Backups().Running(), "")
	})
}

func TestRepositoryIsRead(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, a2, _ := withBackups(t, w)
		expect(t, "by the leader", a1.host.Backups().Looks(), 1)
		expect(t, "by nobody else", a2.host.Backups().Looks(), 0)
		expect(t, "where", w.report(1, "backup").Repository.Where, "s3:store/bucket/c")
		if w.report(2, "backup").Repository != nil {
			t.Fatal("a replica reports a repository that all share")
		}
		_, rev, _ := w.etcd.Get(layout.ObservedKey("pg1", "c", "backup"))
		after(5 * time.Hour)
		expect(t, "not again for hours", a1.host.Backups().Looks(), 1)
		after(2 * time.Hour)
		expect(t, "but then", a1.host.Backups().Looks(), 2)
		if _, now, _ := w.etcd.Get(layout.ObservedKey("pg1", "c", "backup")); now != rev {
			t.Fatal("R8: what did not change was written")
		}
		w.leader(2)
		a2.host.SetPostgres(writable(2))
		a1.host.SetPostgres(recovering())
		after(10 * time.Second)
		expect(t, "by the next leader", a2.host.Backups().Looks(), 1)
		if w.report(1, "backup").Repository != nil {
			t.Fatal("who led before goes on reporting it")
		}
		a2.host.Backups().Fail("look", &plan.Refusal{Reason: observed.RepositoryUnreachable, Message: "no route", Next: "look"})
		ask(w, 2, "c.stanza-1", plan.ActStanza)
		after(5 * time.Second)
		r := w.report(2, "backup")
		expect(t, "error", r.Repository.Error, "no route")
		expect(t, "kept", r.Repository.Where, "s3:store/bucket/c")
		expect(t, "condition", hasReason(r, observed.RepositoryUnreachable), true)
		a2.host.Backups().Fail("look", nil)
		after(10 * time.Minute)
		expect(t, "over", hasReason(w.report(2, "backup"), observed.RepositoryUnreachable), false)
	})
}

// TestLocalRepositoryIsReadWhereItIs: what a node has of the time when it led is nowhere else.
func TestLocalRepositoryIsReadWhereItIs(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		withPostgres(w)
		for i := 1; i <= 3; i++ {
			w.etcd.Put(layout.PlanKey(node(i), "c", "backup"), string(plan.Encode(backupPlan(i))))
		}
		w.leader(1)
		var as []*running
		for i := 1; i <= 2; i++ {
			a := w.start(i, "")
			a.host.Backups().SetLocal()
			as = append(as, a)
		}
		as[0].host.SetPostgres(writable(1))
		as[1].host.SetPostgres(recovering())
		after(10 * time.Second)
		expect(t, "replica", w.report(2, "backup").Repository.Where, "local:/var/lib/pgbackrest")
		after(8 * time.Hour)
		expect(t, "once", as[1].host.Backups().Looks(), 1)
		w.leader(2)
		as[0].host.SetPostgres(recovering())
		as[1].host.SetPostgres(writable(2))
		after(10 * time.Second)
		if w.report(1, "backup").Repository == nil {
			t.Fatal("what the node that led before has is not told")
		}
	})
}

func TestArchiveFailing(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := withBackups(t, w)
		bad := writable(1)
		bad.Archiving = observed.Archiving{On: true, Ready: 3, Waits: 2 * time.Minute, Failed: time.Now(), Segment: "000000010000000000000007"}
		a1.host.SetPostgres(bad)
		after(3 * time.Second)
		r := w.report(1, "backup")
		i := slices.IndexFunc(r.Conditions, func(c observed.Condition) bool { return c.Reason == observed.ArchiveFailing })
		if i < 0 || !strings.HasSuffix(r.Conditions[i].Message, "archiving 000000010000000000000007 fails: [049] no route to host") || r.Conditions[i].Status != observed.False {
			t.Fatalf("%+v", r.Conditions)
		}
		_, rev, _ := w.etcd.Get(layout.ObservedKey("pg1", "c", "backup"))
		for range 100 {
			bad.Archiving.Ready++
			bad.Archiving.Waits += 10 * time.Second
			a1.host.SetPostgres(bad)
			after(10 * time.Second)
		}
		if _, now, _ := w.etcd.Get(layout.ObservedKey("pg1", "c", "backup")); now != rev {
			t.Fatal("R8: it was written again")
		}
		a1.host.SetPostgres(writable(1))
		after(3 * time.Second)
		expect(t, "clears", hasReason(w.report(1, "backup"), observed.ArchiveFailing), false)
	})
}

func TestStanzaFails(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		a1, _, _ := withBackups(t, w)
		a1.host.Backups().Fail("stanza", &plan.Refusal{Reason: observed.ArchivingOff, Message: "no", Next: "pgctrl status c"})
		ask(w, 1, "c.stanza-1", plan.ActStanza)
		after(time.Second)
		r := w.result(1, "c.stanza-1")
		expect(t, "reason", r.Reason, observed.ArchivingOff)
		expect(t, "next", r.Next, "pgctrl status c")
		a1.host.Backups().Fail("start", errors.New("no such user"))
		askBackup(w, 1, "c.backup-1")
		after(time.Second)
		expect(t, "words", w.result(1, "c.backup-1").Message, "no such user")
	})
}

func hasReason(r observed.Report, reason observed.Reason) bool {
	return slices.ContainsFunc(r.Conditions, func(c observed.Condition) bool { return c.Reason == reason })
}

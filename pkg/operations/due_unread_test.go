package operations

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// TestAnUnreadRepositoryIsNotEmpty: a repository that can't be read at the moment calls for no
// full backup, which would make retention expire what it has; what is scheduled goes on.
func TestAnUnreadRepositoryIsNotEmpty(t *testing.T) {
	policy := Policy{Schedules: map[plan.BackupType]Schedule{plan.BackupFull: every(7 * 24 * time.Hour), plan.BackupIncremental: every(time.Hour)}}
	now := at(0.5)
	took := ended(Done, plan.BackupIncremental, 0.1)
	took.Label = "2I"
	took.Phases[len(took.Phases)-1].Member = "c-1"

	// The agent was started anew, or another member leads, while the store was away.
	b := Backups{Leader: "c-1", Repository: &observed.Repository{Where: "s3:x", Error: "no route"}}
	if n := Due(policy, b, now); n.Type != "" {
		t.Errorf("%s backup is due: %s", n.Type, n.Why)
	}
	// It took a backup, and could not read what the repository has since.
	full := made1(plan.BackupFull, -20, 1)
	b = Backups{Leader: "c-1", Repository: &observed.Repository{Where: "s3:x", Error: "no route", Backups: []observed.Backup{full}}, Operations: []Stored{took}}
	if n := Due(policy, b, now); n.Type != "" {
		t.Errorf("%s backup is due: %s", n.Type, n.Why)
	}
	if Split(policy, b, now) {
		t.Error("it is said to be split")
	}
	// The schedule goes on.
	if n := Due(policy, b, at(1.1)); n.Type != plan.BackupIncremental {
		t.Errorf("due is %q", n.Type)
	}
}

// TestABackupWithoutAName: the store was away for a moment right after a backup, so that the
// operation does not know its label. The repository has it all the same.
func TestABackupWithoutAName(t *testing.T) {
	took := ended(Done, plan.BackupFull, 0.1)
	took.Cluster, took.Label = "c", ""
	took.Phases[0].Member = "c-1"
	has := made1(plan.BackupFull, 0.09, 1)
	has.Label, has.Step = "1F", "c.x-2"
	b := Backups{Leader: "c-1", Repository: &observed.Repository{Where: "s3:x", Backups: []observed.Backup{has}}, Operations: []Stored{took}}
	if n := Due(Policy{}, b, at(0.5)); n.Type != "" {
		t.Errorf("%s backup is due: %s", n.Type, n.Why)
	}
	b.Repository.Backups[0].Step = "c.xy-2"
	if !Split(Policy{}, b, at(0.5)) {
		t.Error("another one's is taken for it")
	}
}

// TestAnEtcdThatWasPutBack says nothing against backups: what is due is made at once.
func TestAnEtcdThatWasPutBack(t *testing.T) {
	cut := NewBackup(Asked{Cluster: "c", At: noon.Add(-time.Minute)}, plan.BackupIncremental)
	cut.State, cut.Reason, cut.Ended = Failed, observed.StoreChanged, noon
	b := Backups{Leader: "c-1", Repository: &observed.Repository{}, Operations: []Stored{{Operation: cut}}}
	if n := Due(Policy{}, b, noon.Add(time.Second)); n.Type != plan.BackupFull {
		t.Errorf("due: %+v", n)
	}
	if cs := Conditions(Policy{}, b, "c", noon); len(cs) > 0 {
		t.Errorf("said: %+v", cs)
	}
}

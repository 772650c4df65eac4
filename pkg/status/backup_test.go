package status_test

import (
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/operations"
	"github.com/pgctrl/pgctrl/pkg/status"
)

// holds puts what a node says of its repository.
func holds(m *kv.Map, node, where string, cond []observed.Condition, backups ...observed.Backup) {
	controllertest.Put(m, "/pgctrl/observed/"+node+"/pg-test/backup", string(observed.Encode(observed.Report{
		Schema: observed.Schema, Concern: "backup", Conditions: cond, Repository: &observed.Repository{Where: where, Stanza: true, Backups: backups},
	})))
}

func made(label, kind string, hour int) observed.Backup {
	return observed.Backup{Label: label, Type: kind, Stopped: time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC)}
}

func TestBackupsAreThoseOfTheLeadersRepository(t *testing.T) {
	m := healthy(t)
	holds(m, "pg1", "local:/var/lib/pgbackrest", nil, made("1F", "full", 1), made("1F_2I", "incr", 2))
	holds(m, "pg2", "local:/var/lib/pgbackrest", nil, made("2F", "full", 9))
	b := status.Compute(input(m)).Backups
	if b == nil || b.Node != "pg1" || b.Newest.Label != "1F_2I" || b.Full.Label != "1F" || b.Kept != 2 || b.Archiving != status.ArchivingOK {
		t.Errorf("found %+v", b)
	}
	if r := status.Repositories(input(m), "pg1"); len(r) != 2 {
		t.Errorf("two folders are two repositories, found %v", r)
	}
	holds(m, "pg1", "local:/var/lib/pgbackrest", []observed.Condition{{Type: observed.Healthy, Status: observed.False, Reason: "ArchiveFailing"}})
	if b := status.Compute(input(m)).Backups; b.Archiving != status.ArchivingFailing || b.Newest != nil {
		t.Errorf("found %+v", b)
	}
}

// A store that nodes share has one word: the leader's, and before it looked, the newest.
func TestOneObjectStoreIsOneRepository(t *testing.T) {
	m := healthy(t)
	holds(m, "pg2", "s3://store/bucket/pg-test", nil, made("1F", "full", 1))
	holds(m, "pg3", "s3://store/bucket/pg-test", nil, made("1F", "full", 1), made("3F", "full", 3))
	if b := status.Compute(input(m)).Backups; b.Node != "pg3" {
		t.Errorf("found %+v", b)
	}
	holds(m, "pg1", "s3://store/bucket/pg-test", nil, made("3F", "full", 3))
	r := status.Repositories(input(m), "pg1")
	if _, ok := r["pg1"]; !ok || len(r) != 1 {
		t.Errorf("found %v", r)
	}
}

func TestNoWordOfBackupsWhereNoneAreMade(t *testing.T) {
	m := healthy(t)
	controllertest.Put(m, "/pgctrl/observed/pg1/pg-test/backup", "")
	for _, n := range nodes {
		delete(m.Keys, "/pgctrl/plan/"+n+"/pg-test/backup")
	}
	if s := status.Compute(input(m)); s.Backups != nil || s.Operations != nil {
		t.Errorf("found %+v %+v", s.Backups, s.Operations)
	}
}

func TestOperationsThatGoOn(t *testing.T) {
	m := healthy(t)
	asked := operations.Asked{Cluster: "pg-test", By: "root@pg1", At: time.Date(2026, 1, 1, 1, 0, 0, 0, time.UTC)}
	over := operations.NewBackup(asked, "full")
	over.State = operations.Done
	controllertest.Put(m, "/pgctrl/operations/pg-test/"+over.ID, string(observed.Encode(over)))
	asked.At = asked.At.Add(time.Hour)
	o := operations.NewBackup(asked, "incr")
	o.State = operations.Running
	o.Phases[0].State = operations.PhaseDone
	o.Phases[1].State, o.Phases[1].Node, o.Phases[1].Step = operations.PhaseRunning, "pg1", "pg-test.x-2"
	controllertest.Put(m, "/pgctrl/operations/pg-test/"+o.ID, string(observed.Encode(o)))
	controllertest.Put(m, "/pgctrl/operations/pg-test/token", `{"operation":"restart-x"}`)
	controllertest.Put(m, "/pgctrl/results/pg1/pg-test.x-2", `{"state":"accepted","progress":{"done":1,"total":4,"unit":"B"}}`)
	s := status.Compute(input(m))
	if len(s.Operations) != 1 || s.Operations[0].ID != o.ID || s.Operations[0].Phase != "backup" || s.Operations[0].Progress != nil {
		t.Fatalf("found %+v", s.Operations)
	}
	in := input(m)
	in.Results = true
	if p := status.Compute(in).Operations[0].Progress; p == nil || p.Done != 1 {
		t.Errorf("progress is %v", p)
	}
}
